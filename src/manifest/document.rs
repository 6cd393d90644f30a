//! Documents of the embedding program's own, read as a manifest is: within the same bounds, told of with the same care.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::manifest::node::Node;
use crate::manifest::problem::{self, Code, Problem};
use crate::manifest::reader::Reader;
use crate::manifest::{WARNINGS_MAX, yaml};

/// Reads a document of the embedding program's, YAML or JSON, within the same bounds as a manifest; scalars are
/// understood by YAML's core schema, and an empty document is an empty object.
///
/// Errors: `invalid_config`.
pub fn document(text: &[u8]) -> Result<Value> {
    let mut problems = Vec::new();
    let root = yaml::parse(text, &mut problems);
    match root.map(|root| root.to_json()) {
        Some(Ok(value)) if problems.is_empty() => Ok(value),
        Some(Err(expected)) => {
            problems.push(Problem::new(Code::InvalidValue, "", (0, 0), "a value has no meaning in JSON", expected));
            Err(unusable(problems))
        }
        _ => Err(unusable(problems)),
    }
}

/// Reads a document field by field with `read`. Gives what that made of it, and a sentence for every field that it does not
/// know.
///
/// Errors: `invalid_config`, with every problem; unknown fields among them only where they were probably meant to be one
/// that is missing.
pub(crate) fn fields<T>(text: &[u8], read: impl FnOnce(&mut Reader, &Node) -> Option<T>) -> Result<(T, Vec<String>)> {
    let mut reader = Reader::default();
    let root = yaml::parse(text, &mut reader.problems);
    let made = root.and_then(|root| read(&mut reader, &root));
    let Reader { mut problems, unknown } = reader;
    match made {
        Some(made) if problems.is_empty() => Ok((made, unknown.iter().take(WARNINGS_MAX).map(Problem::text).collect())),
        _ => {
            problems.extend(problem::mistyped(&problems, unknown));
            Err(unusable(problems))
        }
    }
}

fn unusable(problems: Vec<Problem>) -> Error {
    problem::error(Kind::InvalidConfig, "The configuration", problems)
}
