//! The C ABI: a thin shell, a file per C noun. Everything unsafe about pointers from outside ends here.
//!
//! Every export reads its arguments, runs a safe body under [`guard`], and writes its outputs only on success.
#![expect(unsafe_code, reason = "pointers come from C")]
#![allow(non_camel_case_types, reason = "the names are those of the header")]

pub mod call;
pub(crate) mod callbacks;
pub mod error;
pub mod function;
pub(crate) mod gate;
pub(crate) mod guard;
pub mod host;
pub mod manager;
pub mod manifest;
pub(crate) mod pin;
pub mod plugin;
pub mod policy;
pub(crate) mod question;
pub mod request;
pub mod text;
pub(crate) mod threads;
pub(crate) mod token;

use std::ffi::{CStr, c_char};

use crate::error::Kind;

/// The result of a call: 0 is success, the others are numbered for ever.
pub type flowplug_status = i32;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The version of the ABI; compare it with FLOWPLUG_ABI_VERSION of the header that the program was compiled with.
///
/// Thread safety: any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_abi_version() -> u32 {
    1
}

/// The library's version, "0.1.0"; static, NUL-terminated, never freed.
///
/// Thread safety: any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The name of a status, "invalid_argument"; "unknown" for a number that is none. Static, NUL-terminated, never freed.
///
/// Thread safety: any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_status_name(status: flowplug_status) -> *const c_char {
    let name = match kind_of(status) {
        None if status == 0 => c"ok",
        None => c"unknown",
        Some(kind) => kind_name(kind),
    };
    name.as_ptr()
}

/// The number of a kind. No wildcard: a kind without a number does not compile.
pub(crate) fn status_of(kind: Kind) -> flowplug_status {
    match kind {
        Kind::InvalidArgument => 1,
        Kind::InvalidManifest => 2,
        Kind::InvalidConfig => 3,
        Kind::InvalidState => 4,
        Kind::NotFound => 5,
        Kind::UnknownFunction => 6,
        Kind::LoadFailed => 7,
        Kind::StartFailed => 8,
        Kind::Plugin => 9,
        Kind::InvalidResponse => 10,
        Kind::Trap => 11,
        Kind::OutOfMemory => 12,
        Kind::Timeout => 13,
        Kind::Cancelled => 14,
        Kind::Busy => 15,
        Kind::PermissionDenied => 16,
        Kind::Unavailable => 17,
        Kind::Host => 18,
        Kind::Io => 19,
        Kind::Internal => 20,
        Kind::Unsupported => 21,
    }
}

/// The kind of a number; none for 0 and for numbers that are no status.
pub(crate) fn kind_of(status: flowplug_status) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| status_of(*kind) == status)
}

fn kind_name(kind: Kind) -> &'static CStr {
    match kind {
        Kind::InvalidArgument => c"invalid_argument",
        Kind::InvalidManifest => c"invalid_manifest",
        Kind::InvalidConfig => c"invalid_config",
        Kind::InvalidState => c"invalid_state",
        Kind::NotFound => c"not_found",
        Kind::UnknownFunction => c"unknown_function",
        Kind::LoadFailed => c"load_failed",
        Kind::StartFailed => c"start_failed",
        Kind::Plugin => c"plugin_error",
        Kind::InvalidResponse => c"invalid_response",
        Kind::Trap => c"trap",
        Kind::OutOfMemory => c"out_of_memory",
        Kind::Timeout => c"timeout",
        Kind::Cancelled => c"cancelled",
        Kind::Busy => c"busy",
        Kind::PermissionDenied => c"permission_denied",
        Kind::Unavailable => c"unavailable",
        Kind::Host => c"host_error",
        Kind::Io => c"io",
        Kind::Internal => c"internal",
        Kind::Unsupported => c"unsupported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_from_one_in_the_order_of_the_kinds_and_share_their_names() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(status_of(kind), i as i32 + 1);
            assert_eq!(kind_of(i as i32 + 1), Some(kind));
            assert_eq!(kind_name(kind).to_str().unwrap(), kind.name());
        }
        assert_eq!((kind_of(0), kind_of(22), kind_of(-1)), (None, None, None));
    }
}
