//! What became of a manifest's wishes, one by one: what a load fails with, what a plugin says of itself, what is audited.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result, clean};
use crate::manifest::RuntimeKind;
use crate::policy::Grants;

/// The most refusals that a message spells out; the details have them all.
const TOLD_MAX: usize = 50;

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is granted; a default that the policy lowers is granted too.
    Granted,
    /// It is past the policy.
    Denied,
    /// The policy grants it and the system does not: a folder that is not there.
    Unusable,
}

/// One wish of a manifest's. Texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The policy's key that it falls under: `http`, `memory`.
    pub what: &'static str,
    /// The manifest's field.
    pub field: String,
    /// What the manifest asks for.
    pub asked: String,
    /// What the policy grants of it.
    pub granted: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The policy's line that decided.
    pub rule: String,
    /// The policy's line that would grant it; empty where it is granted, and where no policy does.
    pub grant: String,
}

impl Request {
    /// Whether a load may go on.
    pub fn allowed(&self) -> bool {
        self.outcome == Outcome::Granted
    }

    /// `{"field", "what", "asked", "granted", "allowed", "rule", "grant"?}`.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "field": self.field, "what": self.what, "asked": self.asked, "granted": self.granted,
            "allowed": self.allowed(), "rule": self.rule,
        });
        if let (false, Some(members)) = (self.grant.is_empty(), json.as_object_mut()) {
            members.insert("grant".to_owned(), json!(self.grant));
        }
        json
    }

    /// As the details of an error name it.
    fn denial(&self) -> Value {
        json!({
            "what": self.what, "target": self.asked, "rule": self.rule, "grant": self.grant,
            "field": self.field, "asked": self.asked, "granted": self.granted,
        })
    }
}

/// What the policy says to all that a manifest asks for.
#[derive(Debug)]
pub struct Admission {
    identity: String,
    runtime: RuntimeKind,
    requests: Vec<Request>,
    grants: Grants,
    failure: Option<Error>,
}

impl Admission {
    pub(super) fn new(identity: &str, runtime: RuntimeKind, requests: Vec<Request>, grants: Grants, failure: Option<Error>) -> Self {
        Admission { identity: identity.to_owned(), runtime, requests, grants, failure }
    }

    /// Every wish, in the order of the manifest's sections.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Whether everything is granted and can be used.
    pub fn allowed(&self) -> bool {
        self.requests.iter().all(Request::allowed) && self.failure.is_none()
    }

    /// `{"allowed", "identity", "runtime", "requests": [..], "granted": {..}}`; `granted` leaves out what is denied.
    pub fn to_json(&self) -> Value {
        json!({
            "allowed": self.allowed(), "identity": self.identity, "runtime": self.runtime.name(),
            "requests": self.requests.iter().map(Request::to_json).collect::<Vec<_>>(),
            "granted": self.grants.to_json(),
        })
    }

    /// The grants, or why the plugin cannot be loaded: `permission_denied` with every denial, else `load_failed`.
    pub fn into_grants(self) -> Result<(Grants, Vec<Request>)> {
        let denied: Vec<&Request> = self.requests.iter().filter(|request| request.outcome == Outcome::Denied).collect();
        if !denied.is_empty() {
            return Err(refusal(&self.identity, &denied));
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok((self.grants, self.requests)),
        }
    }
}

fn refusal(identity: &str, denied: &[&Request]) -> Error {
    let place = clean(identity, 100);
    let mut message = format!("The policy does not grant what the plugin {place:?} asks for:");
    for Request { field, asked, granted, grant, .. } in denied.iter().take(TOLD_MAX) {
        let how = if grant.is_empty() {
            "no policy grants it".to_owned()
        } else {
            format!("to grant it, set `{grant}` in the policy for {place:?}")
        };
        // Writing to a String cannot fail.
        let _ = write!(message, "\n{field}: asked for {asked}, granted: {granted}; {how}");
    }
    if let Some(more @ 1..) = denied.len().checked_sub(TOLD_MAX) {
        let _ = write!(message, "\nand {more} more");
    }
    let error = Error::new(Kind::PermissionDenied, message).with_plugin(identity);
    let error = match denied.first() {
        Some(first) => error.with_detail("denied", first.denial()).with_detail("field", first.field.clone()),
        None => error,
    };
    error.with_detail("denials", denied.iter().map(|request| request.denial()).collect::<Value>())
}
