//! The names of a guest's functions, as whoever wrote it knows them.
//!
//! A module says itself how its functions are called, and may mean harm: a mangled name of 250 bytes can stand for
//! gigabytes, and one of 1000 can take seconds to read. So they are demangled here, bounded in length, depth and time, and
//! never by what prints a backtrace of wasmtime's.

use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};
use wasmtime::{FrameInfo, WasmBacktrace};

use crate::error::clean;
use crate::wasm::{engine::FRAMES, glue};

/// The most bytes of a name that are kept.
const NAME: usize = 256;
/// The longest mangled name that is read, in bytes.
const MANGLED: usize = 512;
/// How deep a C++ name may nest: the reader tries again and again, twice as often with each level. 97 of 100 names of the
/// system's own libraries are within this.
const DEPTH: u32 = 32;
/// How long the names of one backtrace may take; the rest stay as they are.
const TIME: Duration = Duration::from_millis(3);

/// The functions that the guest was in, innermost first.
pub(super) fn of(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let begun = Instant::now();
    let guests = backtrace.frames().iter().filter(|frame| frame.module().name() != Some(glue::NAME));
    guests.take(FRAMES).map(|frame| name(frame, begun.elapsed() < TIME)).collect()
}

fn name(frame: &FrameInfo, read: bool) -> String {
    match frame.func_name() {
        Some(name) if read => demangled(name),
        Some(name) => clean(name, NAME),
        None => format!("<wasm function {}>", frame.func_index()),
    }
}

/// A name of Rust or C++ as it was written; any other as it is.
fn demangled(name: &str) -> String {
    let mut text = Bounded(String::new());
    if name.len() <= MANGLED {
        // Text that is cut still says more than the mangled name.
        if let Ok(rust) = rustc_demangle::try_demangle(name) {
            let _cut = write!(text, "{rust}");
        } else if let Ok(symbol) = Symbol::new_with_options(name, &ParseOptions::default().recursion_limit(DEPTH)) {
            let _cut = symbol.structured_demangle(&mut text, &DemangleOptions::default().recursion_limit(DEPTH));
        }
    }
    clean(if text.0.is_empty() { name } else { &text.0 }, NAME)
}

/// Text that refuses what is past its bound, which ends the demangling too.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One more than is kept, so that the cut is marked.
        let room = (NAME + 1).saturating_sub(self.0.len());
        let fits = text.get(..room).unwrap_or(text);
        self.0.extend(fits.chars().take(room));
        if text.len() <= room { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rust_and_cpp_are_read_and_others_stay() {
        for (mangled, written) in [
            ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic::h0123456789abcdef"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
            ("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back(int&&)"),
            ("main", "main"),
            ("runtime.panic", "runtime.panic"),
            ("_Z", "_Z"),
            ("a\u{1b}b", "a\u{fffd}b"),
        ] {
            assert_eq!(demangled(mangled), written);
        }
    }

    /// Each parameter of this name is twice the one before it: the last would fill the memory of the host.
    #[test]
    fn a_name_that_unfolds_is_cut() {
        let mut bomb = String::from("_Z1f1PIiiE");
        for digit in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars() {
            bomb.push_str(&format!("S_IS{digit}_S{digit}_E"));
        }
        let text = demangled(&bomb);
        assert!(text.starts_with("f(P<int, int>, P<P<int, int>") && text.ends_with('…') && text.len() < 300, "{text}");
        let long = format!("_Z1f{}", "P".repeat(1 << 20));
        assert!(demangled(&long).len() < 300);
    }
}
