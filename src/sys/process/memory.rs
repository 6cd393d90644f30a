//! Giving back the memory that a copy of this process has no use for. A copy shares its pages with the original until one
//! of them writes; a watchdog that lives as long as a plugin would in time keep a second copy of all that the embedding
//! program changes.

use std::ffi::c_int;

use super::born::open_for_reading;

/// What is read of `/proc/self/maps` at once, in bytes.
const PIECE: usize = 4096;

/// Empties every private anonymous mapping of this process (heaps, stacks of other threads) but those that hold one of
/// the addresses to keep: its own stack, and with it what is local to its thread.
///
/// From here on only `syscall` may be called: it needs no memory but these, and its address has been resolved before.
/// Does nothing where the list of mappings cannot be read.
pub(super) fn release(keep: [usize; 2]) {
    let maps = open_for_reading(c"/proc/self/maps");
    if maps < 0 {
        return;
    }
    let mut piece = [0u8; PIECE];
    let mut line = Line::default();
    loop {
        // SAFETY: the buffer lives for the call, which writes at most its size.
        let read = unsafe { libc::syscall(libc::SYS_read, maps, piece.as_mut_ptr(), PIECE) };
        let Ok(read @ 1..) = usize::try_from(read) else { return };
        for byte in piece.iter().take(read) {
            if *byte != b'\n' {
                line.take(*byte);
                continue;
            }
            if line.releasable(keep) {
                // SAFETY: a private anonymous mapping that nothing in this process uses any more.
                unsafe { libc::syscall(libc::SYS_madvise, line.start, line.end.wrapping_sub(line.start), MADV_DONTNEED) };
            }
            line = Line::default();
        }
    }
}

const MADV_DONTNEED: c_int = libc::MADV_DONTNEED;

/// What is known so far of a line: `start-end perms offset device inode name`.
#[derive(Default)]
struct Line {
    field: u8,
    at: u8,
    start: usize,
    end: usize,
    past_start: bool,
    writable: bool,
    private: bool,
    of_file: bool,
    stack: bool,
}

impl Line {
    fn take(&mut self, byte: u8) {
        if byte == b' ' {
            // Before the name there are many.
            if self.at > 0 {
                (self.field, self.at) = (self.field.wrapping_add(1), 0);
            }
            return;
        }
        match (self.field, self.at) {
            (0, _) if byte == b'-' => self.past_start = true,
            (0, _) if self.past_start => self.end = shifted(self.end, byte),
            (0, _) => self.start = shifted(self.start, byte),
            (1, 1) => self.writable = byte == b'w',
            (1, 3) => self.private = byte == b'p',
            (4, _) => self.of_file |= byte != b'0',
            (5, 1) => self.stack = byte == b's',
            _ => {}
        }
        self.at = self.at.saturating_add(1);
    }

    fn releasable(&self, keep: [usize; 2]) -> bool {
        let [a, b] = keep;
        let holds = |address: usize| self.start <= address && address < self.end;
        self.writable && self.private && !self.of_file && !self.stack && !holds(a) && !holds(b)
    }
}

fn shifted(number: usize, digit: u8) -> usize {
    let value = if digit.is_ascii_digit() { digit.wrapping_sub(b'0') } else { digit.wrapping_sub(b'a').wrapping_add(10) };
    (number << 4) | usize::from(value & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_map_are_understood() {
        let parsed = |text: &str| {
            let mut line = Line::default();
            text.bytes().for_each(|byte| line.take(byte));
            line
        };
        let heap = parsed("55d0c8a3f000-55d0c8a60000 rw-p 00000000 00:00 0                          [heap]");
        assert_eq!((heap.start, heap.end), (0x55d0_c8a3_f000, 0x55d0_c8a6_0000));
        assert!(heap.releasable([0, 0]) && !heap.releasable([0x55d0_c8a3_f000, 0]) && heap.releasable([0, 0x55d0_c8a6_0000]));
        for (text, expected) in [
            ("7f00-7f10 rw-p 00000000 00:00 0", true),
            ("7f00-7f10 rw-p 00000000 00:00 0 ", true),
            ("7f00-7f10 rw-p 00000000 00:00 0                          [anon:go]", true),
            ("7f00-7f10 rw-s 00000000 00:00 0", false),
            ("7f00-7f10 r--p 00000000 00:00 0", false),
            ("7f00-7f10 rw-p 00001000 08:01 123                        /lib/libc.so.6", false),
            ("7f00-7f10 rw-p 00000000 00:00 0                          [stack]", false),
        ] {
            assert_eq!(parsed(text).releasable([0, 0]), expected, "{text}");
        }
    }
}
