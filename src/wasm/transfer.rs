//! The bytes of one call: its parameters on their way in, its answer, checked, on its way out.

use super::envelope::{self, Answer};
use super::memory;
use crate::call::Sink;
use crate::error::{Error, Kind, Result};
use crate::sys::loan::Exchange;

/// What one call brings to a guest and takes from it.
pub(super) struct Transfer<'a> {
    params: &'a [u8],
    trusted: bool,
    result_max: u64,
    sink: &'a mut dyn Sink,
    /// How it went; none while the function has not returned.
    pub(super) answer: Option<Result<()>>,
    /// The guest gave what cannot be trusted: the instance is not to be used again.
    pub(super) broken: bool,
    /// `alloc` had no memory.
    pub(super) full: bool,
}

impl<'a> Transfer<'a> {
    /// For a call with these parameters, whose answer may have `result_max` bytes.
    pub(super) fn new(params: &'a [u8], trusted: bool, result_max: u64, sink: &'a mut dyn Sink) -> Self {
        Transfer { params, trusted, result_max, sink, answer: None, broken: false, full: false }
    }

    /// The size of the parameters, as a guest counts.
    pub(super) fn size(&self) -> Result<i32> {
        i32::try_from(self.params.len()).map_err(|_| {
            let text = format!("The parameters have {} bytes; a plugin takes at most {}.", self.params.len(), i32::MAX);
            Error::new(Kind::InvalidArgument, text)
        })
    }

    #[cold]
    fn refuse(&mut self, error: Error) -> bool {
        self.broken = true;
        self.answer = Some(Err(error));
        true
    }
}

impl Exchange for Transfer<'_> {
    fn put(&mut self, memory: &mut [u8], at: i32) -> bool {
        if at == 0 {
            // What is full now is full for the next call too.
            self.broken = true;
            self.full = true;
            return true;
        }
        if memory::write(memory, at, self.params).is_ok() {
            return false;
        }
        let size = self.params.len();
        let at = at.cast_unsigned();
        self.refuse(invalid(format!("The plugin's alloc gave {size} bytes at {at}, which are not inside its memory.")))
    }

    fn take(&mut self, memory: &[u8], result: i64) -> bool {
        let (ptr, size) = unpack(result);
        let max = self.result_max;
        if memory::offset(size) as u64 > max {
            let size = size.cast_unsigned();
            let error = invalid(format!("The plugin's answer has {size} bytes; the policy grants {max} (result_size)."));
            return self.refuse(error.with_detail("limit", "result_size"));
        }
        let Ok(bytes) = memory::slice(memory, ptr, size) else {
            let ptr = ptr.cast_unsigned();
            return self.refuse(invalid(format!("The plugin's answer of {size} bytes at {ptr} is not inside its memory.")));
        };
        self.answer = Some(match envelope::read(bytes, self.trusted) {
            Ok(Answer::Data(data)) => {
                self.sink.put(data);
                Ok(())
            }
            Ok(Answer::Failed(text)) => Err(failed(&text)),
            Err(error) => Err(error),
        });
        false
    }
}

/// Pointer and size of a result.
pub(super) fn unpack(result: i64) -> (i32, i32) {
    let packed = result.cast_unsigned();
    (((packed >> 32) as u32).cast_signed(), (packed as u32).cast_signed())
}

#[cold]
fn invalid(text: String) -> Error {
    Error::new(Kind::InvalidResponse, text)
}

#[cold]
fn failed(text: &str) -> Error {
    let error = Error::new(Kind::Plugin, "").with_plugin_message(text);
    let message = format!("The plugin answered with an error: {}", error.plugin_message());
    Error::new(Kind::Plugin, message).with_plugin_message(text)
}
