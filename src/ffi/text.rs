//! Text and bytes on their way in and out, and structs that may grow.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

use crate::call::Sink;
use crate::error::{Error, Kind, Result};
use crate::ffi::guard::guard_value;
use crate::sys;

/// Text or bytes that are borrowed for a call. No NUL is needed; `{NULL, 0}` is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_str {
    /// The first byte; may be NULL if len is 0.
    pub ptr: *const c_char,
    /// Bytes.
    pub len: usize,
}

/// Bytes that the library hands out; end them with flowplug_bytes_free.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_bytes {
    /// The first byte.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
    /// The library's own; NULL if the bytes are the caller's.
    pub owner: *mut c_void,
}

/// Frees what the library allocated and zeroes the struct. One without an owner (zeroed, or pointing into the caller's
/// buffer) is left alone, and so is NULL.
///
/// Thread safety: any thread; one struct by one thread at a time.
///
/// # Safety
/// `bytes` is NULL or points to a struct that the library filled or that is zeroed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_bytes_free(bytes: *mut flowplug_bytes) {
    guard_value((), || {
        // SAFETY: by the function's contract NULL or a valid struct.
        let Some(bytes) = (unsafe { bytes.as_mut() }) else { return };
        if bytes.owner.is_null() {
            return;
        }
        // SAFETY: an owner other than NULL is an allocation of malloc made by `owned`, freed once: the struct is zeroed after.
        unsafe { libc::free(bytes.owner) };
        *bytes = flowplug_bytes { ptr: std::ptr::null_mut(), len: 0, owner: std::ptr::null_mut() };
    });
}

impl flowplug_str {
    /// Text or bytes of the library, lent out.
    pub(crate) fn lent(bytes: &[u8]) -> Self {
        flowplug_str { ptr: bytes.as_ptr().cast(), len: bytes.len() }
    }

    pub(crate) const fn empty() -> Self {
        flowplug_str { ptr: std::ptr::null(), len: 0 }
    }

    /// The bytes, for as long as the caller lends them.
    ///
    /// # Safety
    /// If `ptr` is not NULL it points to `len` readable bytes that stay as they are for `'a`.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(self, what: &str) -> Result<&'a [u8]> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.ptr.is_null() {
            return Err(argument(format!("{what} is NULL with a length of {}.", self.len)));
        }
        if self.len > isize::MAX as usize {
            return Err(argument(format!("{what} has an impossible length of {}.", self.len)));
        }
        // SAFETY: not NULL and of a possible length; the rest is this function's contract.
        Ok(unsafe { std::slice::from_raw_parts(self.ptr.cast(), self.len) })
    }

    /// The same as text.
    ///
    /// # Safety
    /// As for [`bytes`](Self::bytes).
    #[inline]
    pub(crate) unsafe fn text<'a>(self, what: &str) -> Result<&'a str> {
        // SAFETY: handed on to the caller.
        let bytes = unsafe { self.bytes(what) }?;
        if bytes.is_empty() { Ok("") } else { text_of(bytes, what) }
    }
}

/// Up to this many bytes are looked at here: what is chosen by the processor is faster only for more.
const SHORT: usize = 512;

/// Whether bytes are ASCII, as most are; it may say no to what is shorter than a block.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    if bytes.len() > SHORT {
        return sys::is_ascii(bytes);
    }
    let block = |block: &[u8; 16]| u128::from_ne_bytes(*block);
    let high = |bits: u128| bits & u128::from_ne_bytes([0x80; 16]);
    // The last block may overlap the others.
    bytes.last_chunk().is_some_and(|last| high(bytes.as_chunks().0.iter().fold(block(last), |bits, next| bits | block(next))) == 0)
}

fn text_of<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    if is_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    // Where the wrong byte is, is only looked for when there is one.
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return Ok(text);
    }
    std::str::from_utf8(bytes).map_err(|e| argument(format!("{what} is not UTF-8: byte {} is wrong.", e.valid_up_to())))
}

impl flowplug_bytes {
    /// A copy of `data` that C owns. Never NULL, not even for no bytes.
    pub(crate) fn owned(data: &[u8]) -> Self {
        // SAFETY: malloc may be called with any size.
        let ptr = unsafe { libc::malloc(data.len().max(1)) }.cast::<u8>();
        if ptr.is_null() {
            std::alloc::handle_alloc_error(std::alloc::Layout::for_value(data));
        }
        // SAFETY: the allocation holds at least data.len() bytes and is new, so it does not overlap.
        unsafe { ptr.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        flowplug_bytes { ptr, len: data.len(), owner: ptr.cast() }
    }

    pub(crate) const fn empty() -> Self {
        flowplug_bytes { ptr: std::ptr::null_mut(), len: 0, owner: std::ptr::null_mut() }
    }
}

/// An answer that becomes bytes owned by C.
pub(crate) struct Owned(pub(crate) flowplug_bytes);

// SAFETY: memory of malloc belongs to no thread.
unsafe impl Send for Owned {}

impl Sink for Owned {
    fn put(&mut self, json: &[u8]) {
        self.discard();
        self.0 = flowplug_bytes::owned(json);
    }
}

impl Owned {
    pub(crate) fn new() -> Self {
        Owned(flowplug_bytes::empty())
    }

    /// Gives the bytes up to their receiver.
    pub(crate) fn take(mut self) -> flowplug_bytes {
        std::mem::replace(&mut self.0, flowplug_bytes::empty())
    }

    #[inline]
    fn discard(&mut self) {
        if self.0.owner.is_null() {
            return;
        }
        // SAFETY: the struct is this value's own, filled by `owned` or empty.
        unsafe { flowplug_bytes_free(&raw mut self.0) };
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.discard();
    }
}

/// A struct that starts with its size and may grow at its end.
///
/// # Safety
/// The type is `repr(C)`, starts with a `usize`, and may be copied by its bytes. Members that were added have a value whose
/// bytes are zero, which asks for nothing.
pub(crate) unsafe trait Versioned: Copy {
    /// The sizes that it had in earlier versions, in bytes.
    const EARLIER: &'static [usize] = &[];
}

/// The largest struct of a later version that is looked at, in bytes: a size past it is taken for garbage.
const STRUCT_MAX: usize = 1024;

/// Reads a struct with its size: what an earlier version had not is zero, an unknown tail must be; NULL is none.
///
/// # Safety
/// `ptr` is NULL or points to at least as many readable bytes as its first member says.
#[inline(always)]
pub(crate) unsafe fn read<T: Versioned>(ptr: *const T, what: &str) -> Result<Option<T>> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and every such struct starts with its size.
    let size = unsafe { ptr.cast::<usize>().read_unaligned() };
    if size != size_of::<T>() {
        // SAFETY: by this function's contract.
        return unsafe { read_other(ptr, size, what) }.map(Some);
    }
    // SAFETY: size_of::<T>() bytes are readable, and the trait says that T may be copied by its bytes.
    Ok(Some(unsafe { ptr.read_unaligned() }))
}

/// The struct of an earlier or a later version.
///
/// # Safety
/// `size` bytes behind `ptr` are readable, or the size is wrong.
#[cold]
unsafe fn read_other<T: Versioned>(ptr: *const T, size: usize, what: &str) -> Result<T> {
    let known = size_of::<T>();
    if !T::EARLIER.contains(&size) && !(known..=STRUCT_MAX).contains(&size) {
        return Err(argument(format!("{what}: struct_size is {size}, this version knows {known}; start from the struct's _INIT macro.")));
    }
    // SAFETY: the caller says that so many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts(ptr.cast::<u8>(), size) };
    if bytes.iter().skip(known).any(|b| *b != 0) {
        return Err(argument(format!("{what}: it sets members that this version does not know; use a newer library or leave them zero.")));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: at most size_of::<T>() bytes, which are readable there and writable here.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast::<u8>(), size.min(known)) };
    // SAFETY: the bytes of a T, and behind them zeroes, which the trait says are values of the members that were added.
    Ok(unsafe { value.assume_init() })
}

/// An `invalid argument`.
#[cold]
pub(crate) fn argument(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// The handle behind a pointer; NULL is `invalid argument`.
///
/// # Safety
/// `handle` is NULL or a live handle of this type that stays alive for `'a`.
#[inline]
pub(crate) unsafe fn handle<'a, T>(handle: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: by this function's contract.
    unsafe { handle.as_ref() }.ok_or_else(|| argument(format!("{what} is NULL.")))
}

/// Where an output goes; NULL is `invalid argument`. Checked before the work, written after it.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `out` is NULL or writable until the export returns.
    #[inline]
    pub(crate) unsafe fn new(out: *mut T, what: &str) -> Result<Self> {
        if out.is_null() { Err(argument(format!("{what} is NULL."))) } else { Ok(Out(out)) }
    }

    pub(crate) fn write(self, value: T) {
        // SAFETY: not NULL, so writable by the contract of `new`.
        unsafe { self.0.write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug)]
    struct Small {
        struct_size: usize,
        value: u64,
    }
    // SAFETY: repr(C), starts with its size, plain numbers.
    unsafe impl Versioned for Small {
        const EARLIER: &'static [usize] = &[8];
    }

    fn read_as(words: &[u64]) -> Result<Option<Small>> {
        // SAFETY: each caller passes as many words as the first one says, or a size that is refused before it is used.
        unsafe { read(words.as_ptr().cast(), "Small") }
    }

    #[test]
    fn a_struct_of_another_version_is_taken_if_it_asks_for_nothing_new() {
        assert_eq!(read_as(&[16, 7]).unwrap().unwrap().value, 7);
        assert_eq!(read_as(&[8]).unwrap().unwrap().value, 0, "an earlier version's had no value");
        assert_eq!(read_as(&[24, 7, 0]).unwrap().unwrap().value, 7);
        for wrong in [&[24, 7, 1][..], &[0, 7], &[15, 7], &[u64::MAX, 7]] {
            assert_eq!(read_as(wrong).unwrap_err().kind(), Kind::InvalidArgument);
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { read::<Small>(std::ptr::null(), "Small") }.unwrap().is_none());
    }

    #[test]
    fn text_is_utf8_wherever_a_byte_is_wrong() {
        for length in (0..70).chain(500..530) {
            let mut bytes = vec![b'a'; length];
            text_of(&bytes, "it").unwrap();
            for at in 0..length {
                bytes[at] = 0x80;
                let error = text_of(&bytes, "it").unwrap_err();
                assert!(error.message().contains(&format!("byte {at} is wrong")), "{length} {error}");
                bytes[at] = b'a';
            }
        }
        assert_eq!(text_of("12345678901234567890ä".as_bytes(), "it").unwrap().chars().count(), 21);
    }

    #[test]
    fn owned_bytes_are_freed_once_and_zeroed() {
        let mut bytes = flowplug_bytes::owned(b"abc");
        assert!(!bytes.owner.is_null());
        // SAFETY: a struct that the library filled.
        unsafe { flowplug_bytes_free(&raw mut bytes) };
        assert!(bytes.ptr.is_null() && bytes.len == 0 && bytes.owner.is_null());
        // SAFETY: zeroed, and NULL.
        unsafe { flowplug_bytes_free(&raw mut bytes) };
        // SAFETY: NULL is allowed.
        unsafe { flowplug_bytes_free(std::ptr::null_mut()) };
    }
}
