//! What a plugin was allowed and what it was refused, told as events of the kind `audit`: wish by wish when it is loaded, and
//! what it then does. A plugin that asks again and again is not told of again and again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use url::Url;

use crate::error::{Error, Result, clean};
use crate::host::event::text;
use crate::host::rate::{Admission, Rate};
use crate::host::{Caller, Level, PluginContext};

/// Refusals of one plugin that are told in a second.
const REFUSALS: u32 = 20;
/// Targets that a plugin is told to have reached, each once; of those past them it is told, once, that there are more.
const TARGETS: usize = 256;
/// Bytes of a target or rule that are told.
const SHOWN: usize = 1024;

/// What has been told of one plugin.
#[derive(Debug)]
pub struct Audit {
    refusals: Rate,
    /// By what rule: a later version may have another.
    reached: Mutex<HashSet<(String, String)>>,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { refusals: Rate::new(REFUSALS), reached: Mutex::default() }
    }
}

/// `{"type": "audit", "time", "plugin", "audit": {"what", "target", "allowed", "rule"}}`.
pub fn event(identity: &str, what: &str, target: &str, allowed: bool, rule: &str) -> String {
    let audit = json!({"what": what, "target": clean(target, SHOWN), "allowed": allowed, "rule": clean(rule, SHOWN)});
    text("audit", identity, SystemTime::now(), &json!({ "audit": audit }))
}

/// A refusal's `details.denied`, for its error and for the event.
pub(super) fn denied(what: &str, target: &str, rule: &str, grant: String) -> Value {
    json!({"what": what, "target": clean(target, SHOWN), "rule": rule, "grant": grant})
}

impl PluginContext {
    /// Tells of a refusal, if the error is one: it has `denied` in its details.
    pub fn audit_refusal(&self, error: &Error) {
        if let Some(denied) = error.details().get("denied") {
            self.audit_denied(denied);
        }
    }

    /// Tells of a refusal by what stands in a `denied`.
    pub fn audit_denied(&self, denied: &Value) {
        let dropped = match self.tally().audit.refusals.admit() {
            Admission::Refused => return,
            Admission::Admitted { refused_before } => refused_before,
        };
        if dropped > 0 {
            let text = format!("{dropped} audit events of refusals were dropped: more than {REFUSALS} in a second.");
            self.log(0, Level::Warn, &text, &[]);
        }
        let of = |name: &str| denied.get(name).and_then(Value::as_str).unwrap_or_default();
        self.event(&event(self.identity(), of("what"), of("target"), false, of("rule")));
    }

    /// Tells of the server that the plugin is about to reach, the first time. Only a URL that was checked comes here: what a
    /// plugin writes where it may not go neither takes a place nor passes for a server that was reached.
    pub(super) fn audit_reached(&self, url: &Url) {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return };
        let Some(pattern) = self.grants().http.iter().find(|pattern| pattern.matches(host, port)) else { return };
        let (target, rule) = (format!("{host}:{port}"), format!("http: [{:?}]", pattern.as_str()));
        let told = {
            let mut reached = self.tally().audit.reached.lock().unwrap_or_else(PoisonError::into_inner);
            let told = reached.len();
            if told > TARGETS || !reached.insert((target.clone(), rule.clone())) {
                return;
            }
            told
        };
        let full = format!("{TARGETS} servers of this plugin have been told; it reaches more, which are not");
        let (target, rule) = if told < TARGETS { (&*target, &*rule) } else { ("", &*full) };
        self.event(&event(self.identity(), "http", target, true, rule));
    }
}

impl Caller<'_> {
    /// Tells of what was refused.
    pub(super) fn audited<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer {
            self.context.audit_refusal(error);
        }
        answer
    }
}
