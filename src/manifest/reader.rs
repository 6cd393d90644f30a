//! Reads fields out of a located tree and collects everything that is wrong with them instead of stopping at the first.

use crate::manifest::node::{Body, Key, Node, Scalar};
use crate::manifest::problem::{Code, Problem, nearest};

/// What was wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
    /// Fields that nobody knows: warnings, or problems where the caller is strict.
    pub(crate) unknown: Vec<Problem>,
}

/// A value that is there, and its path.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) node: &'a Node,
}

/// A mapping that is there.
#[derive(Clone, Debug)]
pub(crate) struct Section<'a> {
    path: String,
    at: (u32, u32),
    entries: &'a [(Key, Node)],
}

impl<'a> Section<'a> {
    /// A member that is neither missing nor absent by its value.
    pub(crate) fn field(&self, name: &str) -> Option<Field<'a>> {
        self.entries
            .iter()
            .find(|(key, node)| key.text == name && !node.is_absent())
            .map(|(_, node)| Field { path: self.path_of(name), node })
    }

    /// Every member in the order of the text, absent ones too: their names can be wrong all the same.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + '_ {
        self.entries.iter().map(|(key, node)| (key.text.as_str(), Field { path: self.path_of(&key.text), node }))
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Where the mapping starts: the place to tell of what is missing in it.
    pub(crate) fn at(&self) -> (u32, u32) {
        self.at
    }
}

impl<'a> Field<'a> {
    pub(crate) fn at(&self) -> (u32, u32) {
        (self.node.line, self.node.column)
    }
}

impl Reader {
    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A member of `section` is not there.
    pub(crate) fn missing(&mut self, section: &Section<'_>, name: &str, what: &str, expected: &str) {
        self.problem(Problem::new(Code::Missing, &section.path_of(name), section.at(), what, expected));
    }

    /// The value is of the right type and no good.
    pub(crate) fn invalid(&mut self, field: &Field<'_>, what: &str, expected: impl Into<String>) {
        self.problem(Problem::new(Code::InvalidValue, &field.path, field.at(), what, expected).found(field.node));
    }

    fn wrong_type(&mut self, field: &Field<'_>, expected: &str) {
        self.problem(Problem::new(Code::WrongType, &field.path, field.at(), "wrong type", expected).found(field.node));
    }

    /// A mapping of any members.
    pub(crate) fn open<'a>(&mut self, field: Option<Field<'a>>) -> Option<Section<'a>> {
        let field = field?;
        let at = field.at();
        match &field.node.body {
            Body::Map(entries) => Some(Section { path: field.path, at, entries }),
            Body::Scalar(_) | Body::List(_) => {
                self.wrong_type(&field, "a mapping");
                None
            }
        }
    }

    /// A mapping whose members are those in `known`; others are noted.
    pub(crate) fn section<'a>(&mut self, field: Option<Field<'a>>, known: &[&str]) -> Option<Section<'a>> {
        let section = self.open(field)?;
        for (key, _) in section.entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let path = section.path_of(&key.text);
            let problem = Problem::new(Code::UnknownField, &path, (key.line, key.column), "unknown field", "");
            self.unknown.push(problem.suggest(nearest(&key.text, known)));
        }
        Some(section)
    }

    /// The items of a list, those that are null left out.
    pub(crate) fn list<'a>(&mut self, field: Option<Field<'a>>) -> Vec<Field<'a>> {
        let mut items = self.items(field);
        items.retain(|item| !item.node.is_null());
        items
    }

    fn items<'a>(&mut self, field: Option<Field<'a>>) -> Vec<Field<'a>> {
        let Some(field) = field else { return Vec::new() };
        let Body::List(items) = &field.node.body else {
            self.wrong_type(&field, "a list");
            return Vec::new();
        };
        items.iter().enumerate().map(|(i, node)| Field { path: format!("{}[{i}]", field.path), node }).collect()
    }

    /// A scalar, understood by `parse`; its error says what was expected.
    pub(crate) fn scalar<T>(
        &mut self,
        field: Option<Field<'_>>,
        expected: &str,
        parse: impl FnOnce(&Scalar) -> Result<T, String>,
    ) -> Option<T> {
        let field = field?;
        let Body::Scalar(scalar) = &field.node.body else {
            self.wrong_type(&field, expected);
            return None;
        };
        match parse(scalar) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.invalid(&field, "invalid value", expected);
                None
            }
        }
    }

    /// A text; any scalar is one, as it was written. A NUL (an escape can make one) would end it early for the system.
    pub(crate) fn text(&mut self, field: Option<Field<'_>>) -> Option<String> {
        self.scalar(field, "a text", |scalar| {
            if scalar.text.contains('\0') { Err("a text without NUL".to_owned()) } else { Ok(scalar.text.clone()) }
        })
    }

    /// A list of texts; what is null in it is empty, so that the others keep their places.
    pub(crate) fn texts(&mut self, field: Option<Field<'_>>) -> Vec<String> {
        self.items(field)
            .into_iter()
            .filter_map(|item| if item.node.is_null() { Some(String::new()) } else { self.text(Some(item)) })
            .collect()
    }

    pub(crate) fn bool(&mut self, field: Option<Field<'_>>) -> Option<bool> {
        self.scalar(field, "true or false", |scalar| scalar.to_bool().ok_or_else(|| "true or false, without quotes".to_owned()))
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn number(&mut self, field: Option<Field<'_>>, max: u64) -> Option<u64> {
        let expected = format!("a whole number from 0 to {max}");
        self.scalar(field, &expected, |scalar| {
            scalar.to_int().and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= max).ok_or_else(|| expected.clone())
        })
    }

    /// A text that `parse` understands, as it was written and as it is meant.
    pub(crate) fn measure<T>(&mut self, field: Option<Field<'_>>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<(String, T)> {
        self.scalar(field, "a text", |scalar| Ok((scalar.text.clone(), parse(&scalar.text)?)))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, field: Option<Field<'_>>, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let field = field?;
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = words.join(" or ");
        let Body::Scalar(scalar) = &field.node.body else {
            self.wrong_type(&field, &expected);
            return None;
        };
        let chosen = choices.iter().find(|(word, _)| *word == scalar.text).map(|(_, value)| *value);
        if chosen.is_none() {
            let problem = Problem::new(Code::InvalidValue, &field.path, field.at(), what, expected).found(field.node);
            self.problem(problem.suggest(nearest(&scalar.text, &words)));
        }
        chosen
    }
}
