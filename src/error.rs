//! What went wrong, in one shape for both runtimes and every binding.
//!
//! An [`Error`] is an owned value, one pointer wide. It imports nothing of this crate; everything else may import it.

use std::fmt;

use serde_json::{Map, Value};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure. The order is the numbering of `flowplug_status`, from 1, and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An argument is NULL, out of range, of a wrong size or not UTF-8.
    InvalidArgument,
    /// The manifest cannot be used.
    InvalidManifest,
    /// The config is not what the manifest's schema, or the host's own rules, ask for.
    InvalidConfig,
    /// The object is not in a state in which this is legal.
    InvalidState,
    /// No such plugin, ability, operation or token; or the manifest does not provide it.
    NotFound,
    /// The plugin has no function of this name.
    UnknownFunction,
    /// The plugin could not be loaded.
    LoadFailed,
    /// The plugin could not be started.
    StartFailed,
    /// The plugin answered with an error of its own.
    Plugin,
    /// The plugin answered something that is not an answer.
    InvalidResponse,
    /// The guest trapped.
    Trap,
    /// The guest needs more memory than it may have.
    OutOfMemory,
    /// The deadline passed.
    Timeout,
    /// The call was cancelled.
    Cancelled,
    /// No instance came free in time, or calls are nested too deep.
    Busy,
    /// The policy or the manifest does not allow it.
    PermissionDenied,
    /// The plugin's process is gone or restarting.
    Unavailable,
    /// A callback of the embedding program failed.
    Host,
    /// The system failed to read, write or start something.
    Io,
    /// A fault of this library (a caught panic).
    Internal,
    /// This build or version cannot do it.
    Unsupported,
}

impl Kind {
    /// Every kind, in the order of its status number.
    pub const ALL: [Kind; 21] = [
        Kind::InvalidArgument,
        Kind::InvalidManifest,
        Kind::InvalidConfig,
        Kind::InvalidState,
        Kind::NotFound,
        Kind::UnknownFunction,
        Kind::LoadFailed,
        Kind::StartFailed,
        Kind::Plugin,
        Kind::InvalidResponse,
        Kind::Trap,
        Kind::OutOfMemory,
        Kind::Timeout,
        Kind::Cancelled,
        Kind::Busy,
        Kind::PermissionDenied,
        Kind::Unavailable,
        Kind::Host,
        Kind::Io,
        Kind::Internal,
        Kind::Unsupported,
    ];

    /// The kind's name as `flowplug_status_name` gives it, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::InvalidArgument => "invalid_argument",
            Kind::InvalidManifest => "invalid_manifest",
            Kind::InvalidConfig => "invalid_config",
            Kind::InvalidState => "invalid_state",
            Kind::NotFound => "not_found",
            Kind::UnknownFunction => "unknown_function",
            Kind::LoadFailed => "load_failed",
            Kind::StartFailed => "start_failed",
            Kind::Plugin => "plugin_error",
            Kind::InvalidResponse => "invalid_response",
            Kind::Trap => "trap",
            Kind::OutOfMemory => "out_of_memory",
            Kind::Timeout => "timeout",
            Kind::Cancelled => "cancelled",
            Kind::Busy => "busy",
            Kind::PermissionDenied => "permission_denied",
            Kind::Unavailable => "unavailable",
            Kind::Host => "host_error",
            Kind::Io => "io",
            Kind::Internal => "internal",
            Kind::Unsupported => "unsupported",
        }
    }
}

/// A failure: what kind, a sentence that says what to do, whose it was, and machine-readable details.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    plugin: String,
    function: String,
    plugin_message: String,
    details: Map<String, Value>,
    never_ran: bool,
}

impl Error {
    /// An error of this kind with a message in whole sentences.
    #[cold]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            plugin: String::new(),
            function: String::new(),
            plugin_message: String::new(),
            details: Map::new(),
            never_ran: false,
        }))
    }

    /// The same error with another message in whole sentences.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The same error with the identity of the plugin it concerns, unless it names one already.
    #[must_use]
    pub fn with_plugin(mut self, identity: &str) -> Self {
        if self.0.plugin.is_empty() {
            identity.clone_into(&mut self.0.plugin);
        }
        self
    }

    /// The same error with the function that was called, unless it names one already.
    #[must_use]
    pub fn with_function(mut self, function: &str) -> Self {
        if self.0.function.is_empty() {
            function.clone_into(&mut self.0.function);
        }
        self
    }

    /// The same error with the plugin's own text, bounded and cleaned by [`clean`].
    #[must_use]
    pub fn with_plugin_message(mut self, text: &str) -> Self {
        self.0.plugin_message = clean(text, PLUGIN_TEXT_MAX);
        self
    }

    /// The same error with one more member in its details.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// The same error, of a call that the plugin has not heard of: it can be made again elsewhere.
    #[must_use]
    pub fn of_no_run(mut self) -> Self {
        self.0.never_ran = true;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// A sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether it is certain that the call it ended never reached the plugin.
    pub fn never_ran(&self) -> bool {
        self.0.never_ran
    }

    /// The identity of the plugin it concerns; empty if none.
    pub fn plugin(&self) -> &str {
        &self.0.plugin
    }

    /// The function that was called; empty if none.
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// The plugin's own text, cleaned; empty if it gave none.
    pub fn plugin_message(&self) -> &str {
        &self.0.plugin_message
    }

    /// Machine-readable members: `backtrace`, `violations`, `problems`, `stderr`, `exit_status`, `denied`, …
    pub fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// The most bytes of a plugin's own text that an error or a log record keeps.
pub const PLUGIN_TEXT_MAX: usize = 4096;

/// Text that came from a plugin, made fit to be shown: control characters (but tab and newline) become `U+FFFD`,
/// and what is past `max` bytes is cut at a character and marked with an ellipsis.
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        if out.len() + c.len_utf8() > max {
            out.push('…');
            break;
        }
        let shown = matches!(c, '\n' | '\t') || !(c.is_control() || is_bidi_control(c));
        out.push(if shown { c } else { char::REPLACEMENT_CHARACTER });
    }
    out
}

/// Characters that reorder the text around them: a plugin could make a log line lie with them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_plugin_is_bounded_and_cannot_steer_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\u{0}\tc\n\u{202e}", 100), "a\u{fffd}[31mb\u{fffd}\tc\n\u{fffd}");
        assert_eq!(clean("äöü", 4), "äö…");
        assert_eq!(clean("", 4), "");
    }

    #[test]
    fn the_first_attribution_stands() {
        let e = Error::new(Kind::Trap, "x").with_plugin("inner").with_plugin("outer").with_function("f");
        assert_eq!((e.plugin(), e.function()), ("inner", "f"));
    }
}
