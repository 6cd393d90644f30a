//! `config_schema`: compiled once, and a config checked against it, neither of which may take for ever.
//!
//! A schema is as hostile as the manifest it stands in. What would make it explode is refused by [`bounds`] before it is
//! compiled; what is left runs on a thread of its own that is abandoned at the deadline, unless it is plain enough
//! (no reference, no pattern) for its cost to be bounded by its size times the config's.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

use crate::call::Deadline;
use crate::error::{Error, Kind, Result, clean};
use crate::sys;

mod bounds;
mod defaults;
mod references;

/// How long a schema may take to compile.
const COMPILE_LIMIT: Duration = Duration::from_secs(5);
/// How long a check may take where the caller sets no bound.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
/// The largest config that is checked on the caller's own thread, in bytes.
const INLINE_MAX: usize = 64 * 1024;
/// The stack that compiling and checking on the caller's own thread may need, in bytes.
const INLINE_STACK: usize = 512 * 1024;
/// The stack of a checking thread: the deepest config times the deepest schema, in bytes. Untouched pages cost nothing.
const THREAD_STACK: usize = 64 << 20;
/// The most checking threads at once; abandoned ones count until they end.
const THREADS_MAX: usize = 8;
/// The most violations that are listed.
const VIOLATIONS_MAX: usize = 100;
/// The most steps back that one match of a pattern may take.
const BACKTRACK_LIMIT: usize = 100_000;
/// The largest compiled pattern, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// A schema that is valid.
#[derive(Clone)]
pub(crate) struct Schema {
    value: Arc<Value>,
    validator: Arc<Validator>,
    /// No reference and no pattern in it.
    plain: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("value", &self.value).finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema; the error says why it is invalid, as the end of a sentence.
    pub(crate) fn compile(value: Value) -> Result<Schema, String> {
        let plain = bounds::check(&value)?;
        let validator = if plain && sys::stack_left() > INLINE_STACK {
            build(&value)?
        } else {
            let owned = value.clone();
            match on_thread(move || build(&owned), COMPILE_LIMIT) {
                Outcome::Done(built) => built?,
                Outcome::Late => return Err("it takes too long to compile".to_owned()),
                Outcome::NoThread => {
                    return Err("it cannot be compiled now, because too many checks that do not end run already".to_owned());
                }
                Outcome::Died => return Err("compiling it failed in the validator itself".to_owned()),
            }
        };
        Ok(Schema { value: Arc::new(value), validator: Arc::new(validator), plain })
    }

    /// The schema as JSON.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Whether its type is `object` and nothing else.
    pub(crate) fn is_of_objects(&self) -> bool {
        self.value.get("type").and_then(Value::as_str) == Some("object")
    }

    /// Checks a config within the deadline, which starts to run only where the check is not bounded by itself.
    pub(crate) fn check(&self, config: &Arc<Value>, bytes: usize, deadline: &Deadline) -> Result<()> {
        let violations = if self.plain && bytes <= INLINE_MAX && sys::stack_left() > INLINE_STACK {
            violations(&self.validator, config)
        } else {
            let (validator, config) = (Arc::clone(&self.validator), Arc::clone(config));
            within(deadline, move || violations(&validator, &config))?
        };
        if violations.is_empty() { Ok(()) } else { Err(failed(violations)) }
    }

    /// Puts the schema's defaults into a config and checks what comes of it, within the deadline.
    pub(crate) fn fill(&self, mut config: Value, deadline: &Deadline) -> Result<Value> {
        let (schema, validator) = (Arc::clone(&self.value), Arc::clone(&self.validator));
        let (filled, violations) = within(deadline, move || {
            defaults::fill(&schema, &mut config).map(|()| {
                let violations = violations(&validator, &config);
                (config, violations)
            })
        })?
        .map_err(|why| Error::new(Kind::InvalidConfig, format!("plugin config cannot be filled: {why}.")))?;
        if violations.is_empty() { Ok(filled) } else { Err(failed(violations)) }
    }
}

/// Does what a schema asks for on a thread of its own, until the deadline.
fn within<T: Send + 'static>(deadline: &Deadline, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let limit = deadline.remaining().map_or(CHECK_LIMIT, |left| left.min(CHECK_LIMIT));
    let (kind, text) = match on_thread(work, limit) {
        Outcome::Done(done) => return Ok(done),
        Outcome::Late => (
            Kind::Timeout,
            "Checking the config against config_schema did not end before the deadline. Simplify the schema's references and patterns.",
        ),
        Outcome::NoThread => (Kind::Busy, "Too many configs are being checked at once; try again when some of the checks have ended."),
        Outcome::Died => {
            (Kind::Internal, "The config could not be checked: the validator itself failed on config_schema. Simplify the schema.")
        }
    };
    Err(Error::new(kind, text))
}

fn build(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .with_format("idn-hostname", idn_hostname)
        .with_format("idn-email", idn_email)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_SIZE))
        .build(schema)
        .map_err(|e| {
            let place = e.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!(" (at {})", clean(&place, 100)) };
            clean(&format!("{}{place}", e.masked()), 300)
        })
}

/// The validator checks international names with a feature of its own alone; URLs need the same tables anyway.
fn idn_hostname(text: &str) -> bool {
    let hyphen = |label: &str| label.starts_with('-') || label.ends_with('-');
    !text.split('.').any(hyphen) && matches!(url::Host::parse(text), Ok(url::Host::Domain(_) | url::Host::Ipv4(_)))
}

fn idn_email(text: &str) -> bool {
    let plain = |local: &str| !local.is_empty() && !local.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@');
    text.rsplit_once('@').is_some_and(|(local, host)| plain(local) && idn_hostname(host))
}

/// One violation for each way in which the config is wrong; the config's own values are not told.
fn violations(validator: &Validator, config: &Value) -> Vec<Map<String, Value>> {
    let errors = validator.iter_errors(config).take(VIOLATIONS_MAX);
    errors
        .map(|e| {
            let mut members = Map::new();
            members.insert("instance_path".to_owned(), json!(clean(&e.instance_path().to_string(), 300)));
            members.insert("schema_path".to_owned(), json!(clean(&e.schema_path().to_string(), 300)));
            members.insert("message".to_owned(), json!(clean(&e.masked_with("the value").to_string(), 300)));
            members
        })
        .collect()
}

fn failed(violations: Vec<Map<String, Value>>) -> Error {
    let mut message = "plugin config validation failed:".to_owned();
    for violation in &violations {
        let text = |name: &str| violation.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = if text("instance_path").is_empty() { "the config" } else { text("instance_path") };
        message += &format!("\n{place}: {} (schema {})", text("message"), text("schema_path"));
    }
    let violations: Value = violations.into_iter().map(Value::Object).collect();
    Error::new(Kind::InvalidConfig, message).with_detail("violations", violations)
}

enum Outcome<T> {
    Done(T),
    Late,
    NoThread,
    /// The work panicked.
    Died,
}

/// How many checking threads run. Those who find no place wait for one.
static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// A checking thread's place among those that may run at once.
struct Place;

impl Place {
    fn take(limit: Duration) -> Option<Place> {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ENDED.wait_timeout_while(running, limit, |running| *running >= THREADS_MAX);
        let (mut running, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *running >= THREADS_MAX {
            return None;
        }
        *running += 1;
        Some(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// Runs `work` on a thread of its own and gives up waiting for it after `limit`; the thread then ends when it ends.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, limit: Duration) -> Outcome<T> {
    let started = Instant::now();
    let Some(place) = Place::take(limit) else { return Outcome::NoThread };
    let (sender, receiver) = mpsc::sync_channel(1);
    let body = move || {
        sys::block_signals();
        let done = work();
        drop(place);
        // Nobody may be waiting any more.
        drop(sender.send(done));
    };
    if std::thread::Builder::new().name("flowplug-schema".to_owned()).stack_size(THREAD_STACK).spawn(body).is_err() {
        return Outcome::NoThread;
    }
    match receiver.recv_timeout(limit.saturating_sub(started.elapsed())) {
        Ok(done) => Outcome::Done(done),
        Err(RecvTimeoutError::Timeout) => Outcome::Late,
        Err(RecvTimeoutError::Disconnected) => Outcome::Died,
    }
}
