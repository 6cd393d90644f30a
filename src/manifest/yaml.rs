//! From YAML (or JSON, which is YAML) to a tree of located values, within bounds that no document gets past.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use serde_json::value::RawValue;
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::manifest::node::{Body, Key, Node, Scalar};
use crate::manifest::problem::{Code, Problem};

#[cfg(test)]
mod tests;

/// The largest document, in bytes.
pub(crate) const DOCUMENT_MAX: usize = 1 << 20;
/// How deep values may nest, aliases resolved.
const DEPTH_MAX: usize = 100;
/// How many values a document may have, those that aliases repeat counted each time.
const NODES_MAX: usize = 100_000;
/// The bytes of text that count as one more value.
const TEXT_OF_NODE: usize = 40;
/// The most problems that are kept while a document is read; the error lists fewer.
const PROBLEMS_MAX: usize = 1000;
/// About how long the path of a problem may get, in bytes.
const PATH_MAX: usize = 200;

/// Parses one document. Problems that leave a usable tree are added to `problems`; none is returned where there is no tree.
pub(crate) fn parse(text: &[u8], problems: &mut Vec<Problem>) -> Option<Node> {
    let text = match checked(text) {
        Ok(text) => printable(text),
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let parser = Parser::new_from_str_with_options(&text, options);
    let open_end = (!text.ends_with(['\n', '\r'])).then(|| text.chars().count());
    let mut loader = Loader { parser, open_end, frames: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None, problems };
    match loader.run() {
        Ok(()) => Some(loader.root.unwrap_or(Node { line: 1, column: 1, body: Body::Map(Vec::new()) })),
        Err(problem) => {
            loader.problems.push(*problem);
            None
        }
    }
}

/// The document as text, without its byte order mark.
fn checked(text: &[u8]) -> Result<&str, Box<Problem>> {
    let limit = |what: &str, expected: &str| Box::new(Problem::new(Code::Limit, "", (1, 1), what, expected));
    if text.len() > DOCUMENT_MAX {
        return Err(limit(&format!("the document has {} bytes", text.len()), "at most 1 MiB"));
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let place = |valid: &[u8]| {
        let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
        let column = valid.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    };
    let syntax = |at: usize, what: &str| {
        let at = place(text.get(..at).unwrap_or_default());
        Box::new(Problem::new(Code::Syntax, "", at, what, "text in UTF-8"))
    };
    if let Some(at) = text.iter().position(|b| *b == 0) {
        return Err(syntax(at, "the document contains a NUL byte"));
    }
    std::str::from_utf8(text).map_err(|e| syntax(e.valid_up_to(), "the document is not UTF-8"))
}

/// JSON's strings may hold characters that YAML knows by their escapes alone, such as U+007F.
fn printable(text: &str) -> Cow<'_, str> {
    let unknown = |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    if !text.contains(unknown) || serde_json::from_str::<&RawValue>(text).is_err() {
        return text.into();
    }
    text.chars()
        .fold(String::with_capacity(text.len()), |mut escaped, c| {
            if unknown(c) {
                escaped += &format!("\\u{:04x}", u32::from(c))
            } else {
                escaped.push(c)
            }
            escaped
        })
        .into()
}

struct Loader<'t, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    /// Where the text ends, in characters, if not with a line break.
    open_end: Option<usize>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Built>,
    nodes: usize,
    root: Option<Node>,
    problems: &'p mut Vec<Problem>,
}

/// A collection that is not closed yet.
struct Frame {
    line: u32,
    column: u32,
    anchor: usize,
    nodes_before: usize,
    height: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: HashSet<String>, key: Option<(Key, Role)>, merged: Vec<Node> },
}

/// What a key is for; `<<` merges only where it is written without quotes, so that JSON means what it says.
enum Role {
    Member,
    Merge,
}

/// A finished value, how many values it counts as, itself included, and how deep it nests.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    height: usize,
}

impl Loader<'_, '_> {
    fn run(&mut self) -> Result<(), Box<Problem>> {
        let mut documents = 0;
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next.map_err(|e| {
                let at = (number(e.marker().line()), number(e.marker().col() + 1));
                Box::new(Problem::new(Code::Syntax, "", at, e.info(), ""))
            })?;
            let at = place(&span);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Problem::new(Code::Limit, "", at, "there are several documents", "one").into());
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let mut text = text.into_owned();
                    // A last line that has no line break gets none.
                    if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) && self.open_end == Some(span.end.index()) {
                        text.truncate(text.strip_suffix('\n').map_or(text.len(), str::len));
                    }
                    let scalar = self.scalar(text, style, tag.as_deref(), at)?;
                    let (line, column) = at;
                    // A long text counts as several values: an alias copies it.
                    let nodes = 1 + scalar.text.len() / TEXT_OF_NODE;
                    self.count(nodes, at)?;
                    self.finish(Built { node: Node { line, column, body: Body::Scalar(scalar) }, nodes, height: 0 }, anchor)?;
                }
                Event::SequenceStart(_, anchor, _) => self.open(anchor, at, Items::List(Vec::new()))?,
                Event::MappingStart(_, anchor, _) => {
                    self.open(anchor, at, Items::Map { entries: Vec::new(), seen: HashSet::new(), key: None, merged: Vec::new() })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(anchor) => {
                    // An anchor that is not finished stands for a value that would contain itself.
                    let Some(mut built) = self.anchors.get(&anchor).cloned() else {
                        return Err(self.syntax(at, "an alias stands inside the value that it repeats"));
                    };
                    (built.node.line, built.node.column) = at;
                    self.count(built.nodes, at)?;
                    self.finish(built, 0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn scalar(&self, text: String, style: ScalarStyle, tag: Option<&Tag>, at: (u32, u32)) -> Result<Scalar, Box<Problem>> {
        let plain = matches!(style, ScalarStyle::Plain);
        let tag = tag.and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
        match tag.as_deref() {
            Some("str") => Ok(Scalar { text, plain: false }),
            Some("null") => Ok(Scalar { text: String::new(), plain: true }),
            Some("int" | "float" | "bool") => Ok(Scalar { text, plain: true }),
            Some("binary") => {
                let compact: String = text.split_ascii_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(compact).ok();
                match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => Ok(Scalar { text, plain: false }),
                    None => Err(self.syntax(at, "a !!binary value is not text in base64")),
                }
            }
            // A tag of nobody's says nothing; the value is read as its quotes say.
            _ => Ok(Scalar { text, plain }),
        }
    }

    fn open(&mut self, anchor: usize, at: (u32, u32), items: Items) -> Result<(), Box<Problem>> {
        if let Some(Frame { items: Items::Map { key: None, .. }, .. }) = self.frames.last() {
            return Err(self.syntax(at, "a list or mapping is used as a key"));
        }
        self.deep_enough(1, at)?;
        self.count(1, at)?;
        let (line, column) = at;
        self.frames.push(Frame { line, column, anchor, nodes_before: self.nodes, height: 0, items });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Box<Problem>> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let nodes = self.nodes - frame.nodes_before + 1;
        let body = match frame.items {
            Items::List(items) => Body::List(items),
            Items::Map { entries, seen, merged, .. } => {
                let at = (frame.line, frame.column);
                Body::Map(self.merge(entries, seen, merged).map_err(|what| self.syntax(at, what))?)
            }
        };
        let node = Node { line: frame.line, column: frame.column, body };
        self.finish(Built { node, nodes, height: frame.height + 1 }, frame.anchor)
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Box<Problem>> {
        let at = (built.node.line, built.node.column);
        self.deep_enough(built.height, at)?;
        if anchor != 0 {
            // The copy that is kept for aliases costs as much as the value.
            self.count(built.nodes, at)?;
            self.anchors.insert(anchor, built.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(built.node);
            return Ok(());
        };
        frame.height = frame.height.max(built.height);
        match &mut frame.items {
            Items::List(items) => items.push(built.node),
            Items::Map { entries, seen, key, merged } => match key.take() {
                None => match built.node.body {
                    Body::Scalar(scalar) => {
                        let role = if scalar.plain && scalar.text == "<<" { Role::Merge } else { Role::Member };
                        *key = Some((Key { text: scalar.text, line: at.0, column: at.1 }, role));
                    }
                    Body::List(_) | Body::Map(_) => return Err(self.syntax(at, "a list or mapping is used as a key")),
                },
                Some((_, Role::Merge)) => merged.push(built.node),
                Some((key, Role::Member)) if seen.insert(key.text.clone()) => entries.push((key, built.node)),
                Some((key, Role::Member)) if self.problems.len() < PROBLEMS_MAX => {
                    let (field, what) = (self.path(&key.text), "the key stands there already");
                    self.problems.push(Problem::new(Code::DuplicateKey, &field, (key.line, key.column), what, "each key once"));
                }
                Some((_, Role::Member)) => {}
            },
        }
        Ok(())
    }

    /// The entries of a mapping with those of `<<` after them, which never replace its own.
    fn merge(
        &mut self,
        mut entries: Vec<(Key, Node)>,
        mut seen: HashSet<String>,
        merged: Vec<Node>,
    ) -> Result<Vec<(Key, Node)>, &'static str> {
        for node in merged {
            let sources = match node.body {
                Body::List(nodes) => nodes,
                body => vec![Node { body, ..node }],
            };
            for source in sources {
                let Body::Map(added) = source.body else {
                    return Err("the key << merges mappings, and here it is given something else");
                };
                entries.extend(added.into_iter().filter(|(key, _)| seen.insert(key.text.clone())));
            }
        }
        Ok(entries)
    }

    fn deep_enough(&self, more: usize, at: (u32, u32)) -> Result<(), Box<Problem>> {
        if self.frames.len() + more > DEPTH_MAX {
            let what = "values are nested too deep";
            return Err(Problem::new(Code::Limit, "", at, what, format!("at most {DEPTH_MAX} levels")).into());
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, at: (u32, u32)) -> Result<(), Box<Problem>> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let what = "the document has too many values, those that aliases repeat included";
            return Err(Problem::new(Code::Limit, "", at, what, format!("at most {NODES_MAX}")).into());
        }
        Ok(())
    }

    fn syntax(&self, at: (u32, u32), what: &str) -> Box<Problem> {
        Box::new(Problem::new(Code::Syntax, "", at, what, ""))
    }

    /// The path of a key of the innermost mapping, cut where it is long.
    fn path(&self, key: &str) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            if path.len() >= PATH_MAX {
                return path;
            }
            match &frame.items {
                Items::Map { key: Some((key, _)), .. } => path += &format!("{}.", start(&key.text)),
                Items::List(items) => path = format!("{}[{}].", path.trim_end_matches('.'), items.len()),
                Items::Map { key: None, .. } => {}
            }
        }
        path + start(key)
    }
}

fn start(text: &str) -> &str {
    text.get(..text.floor_char_boundary(PATH_MAX)).unwrap_or(text)
}

fn place(span: &Span) -> (u32, u32) {
    (number(span.start.line()), number(span.start.col() + 1))
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
