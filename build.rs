//! What the shared library tells the linker; the other crate types need nothing.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // The number is that of the ABI (FLOWPLUG_ABI_VERSION), not of the release: a program keeps running with every
    // later library of the same ABI.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libflowplug.so.1");
    // Threads of the library and the signal handlers of its wasm engine outlive dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
