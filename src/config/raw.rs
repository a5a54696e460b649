//! relay.yaml as it is written: text -> tree -> structs, with every problem of form collected.
//!
//! The only module that knows the YAML library. It reads no file and judges no meaning; that is
//! `validate`'s. Problems never carry snippets of the file, which could quote a secret.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use super::problem::{Places, Position, Problem};

mod decode;
mod keys;
mod tree;
mod units;

pub use keys::*;
pub(crate) use tree::join;
pub use units::{Size, Span};

use decode::Decoder;
use tree::{Node, Pair, Value};

/// Largest relay.yaml, octets: hundreds of routes fit, an accident does not.
pub const LARGEST_FILE: usize = 1 << 20;

/// Attempts of decoding, each after one problem was cut out: more problems than anybody reads.
const ATTEMPTS: usize = 200;

/// What was read of a file.
#[derive(Debug)]
pub struct Document {
    /// Whatever could be read.
    pub file: File,
    /// Where it stands.
    pub places: Places,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads the text of a relay.yaml. Without a tree at all (a syntax error) `file` is empty.
pub fn read(text: &str) -> Document {
    let mut problems = Vec::new();
    let mut root = match parse(text) {
        Ok(root) => root,
        Err(problem) => {
            let mut places = Places::default();
            places.add_unread(String::new());
            return Document { file: File::default(), places, problems: vec![problem] };
        }
    };
    let mut file = File::default();
    let mut cut = Vec::new();
    for _attempt in 0..ATTEMPTS {
        match File::deserialize(Decoder(&root)) {
            Ok(read) => {
                file = read;
                break;
            }
            Err(error) => {
                let path = error.path.clone();
                if !error.is_told(&cut) {
                    problems.push(error.into_problem());
                }
                if path.is_empty() || !root.cut(&path) {
                    root.cut = true;
                    break;
                }
                cut.push(path);
            }
        }
    }
    let mut places = Places::default();
    root.places("", &mut places);
    Document { file, places, problems }
}

/// Writes the structs as YAML.
pub fn write(file: &File) -> Result<String, fmt::Error> {
    serde_yaml::to_string(file).map_err(|_cannot_happen| fmt::Error)
}

/// The JSON schema of relay.yaml.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(File)
}

fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > LARGEST_FILE {
        return Err(whole_file(format!("the file is larger than {LARGEST_FILE} octets")));
    }
    let options = serde_yaml::options! {
        // Bounds against anchors that multiply: a hand-written file has a few hundred nodes.
        budget: serde_yaml::budget! { max_depth: 32, max_nodes: 50_000, max_documents: 1 },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 20_000 },
        strict_booleans: true,
        with_snippet: false,
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::Error,
    };
    let spanned: Spanned<Node> =
        serde_yaml::from_str_with_options(text, options).map_err(|error| syntax(&error, text))?;
    let mut root = placed(spanned);
    if root.value == Value::Null {
        return Err(whole_file("the file is empty".to_owned()));
    }
    root.name_below(String::new());
    Ok(root)
}

fn whole_file(message: String) -> Problem {
    Problem {
        line: 1,
        column: 1,
        path: String::new(),
        message,
        hint: Some("`pushrelay init` writes a first relay.yaml".to_owned()),
    }
}

fn syntax(error: &serde_yaml::Error, text: &str) -> Problem {
    if let Some(problem) = tab(text) {
        return problem;
    }
    let at = error.location().map_or(Position::START, position);
    let rendered = error.without_snippet().render();
    let first = rendered.lines().next().unwrap_or("not YAML");
    // The place already stands in front of the message.
    let message = match first.find(" at line ") {
        Some(cut) => &first[..cut],
        None => first,
    };
    let message = message.rsplit_once("error: ").map_or(message, |(_, rest)| rest);
    let (message, hint) = explained(message);
    Problem {
        line: at.line,
        column: at.column,
        path: String::new(),
        message: crate::hop::clean(message.as_bytes(), 200),
        hint: Some(hint.to_owned()),
    }
}

/// The parser's words in an administrator's, where they are known, and what would be right.
fn explained(message: &str) -> (String, &'static str) {
    let twice = message.strip_prefix("duplicate mapping key: ");
    if let Some(key) = twice.and_then(|rest| rest.split(',').next()) {
        return (format!("`{key}` stands here twice"), "keep one");
    }
    let own = |words: &str| words.to_owned();
    if message.contains("Documents {") {
        let hint = "relay.yaml is one document: take out the line `---` and what is behind it";
        return (own("a second YAML document begins here"), hint);
    }
    if message.contains("quoted scalar") {
        let hint = "look for a quote that is not closed, here or on a line above";
        return (message.to_owned(), hint);
    }
    if message.contains("expected string scalar") {
        let hint = "put text with brackets or colons into quotes, such as \"[::]:443\"";
        return (own("a list or a map stands where a key or a word belongs"), hint);
    }
    if message.contains("simple key expected") {
        let hint = "write `key: value`, with a colon and a blank, here or on the line above";
        return (own("a key without its colon"), hint);
    }
    (message.to_owned(), "check indentation, quotes and brackets here and on the line above")
}

/// A file in another encoding; `valid` octets of it are UTF-8.
pub(super) fn not_utf8(bytes: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let message = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is UTF-16, not UTF-8",
        _ => "this is not UTF-8",
    };
    Problem {
        line: number(before.matches('\n').count()),
        column: number(line.chars().count()),
        path: String::new(),
        message: message.to_owned(),
        hint: Some("save the file as UTF-8".to_owned()),
    }
}

/// The first line that a tab indents, in a text that is no YAML: the parser would blame the line
/// above.
fn tab(text: &str) -> Option<Problem> {
    let blank = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let (index, column) = text
        .lines()
        .enumerate()
        .find_map(|(index, line)| Some((index, line[..blank(line)].find('\t')?)))?;
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    Some(Problem {
        line: number(index),
        column: number(column),
        path: String::new(),
        message: "a tab indents this line".to_owned(),
        hint: Some("YAML is indented with spaces".to_owned()),
    })
}

fn position(location: serde_yaml::Location) -> Position {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Position { line: number(location.line()), column: number(location.column()) }
}

fn placed(spanned: Spanned<Node>) -> Node {
    Node { at: position(spanned.referenced), ..spanned.value }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

/// A node that still waits for its place.
const fn unplaced(value: Value) -> Node {
    Node::new(Position::START, value)
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(unplaced(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(unplaced(Value::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(unplaced(Value::Uint(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(unplaced(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(unplaced(Value::Text(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(unplaced(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(unplaced(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Node>>()? {
            nodes.push(placed(node));
        }
        Ok(unplaced(Value::List(nodes)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs: Vec<Pair> = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Spanned<Node>>()? {
            if pairs.iter().any(|pair| pair.key == key.value) {
                return Err(A::Error::custom("a key stands here twice"));
            }
            pairs.push(Pair { at: position(key.referenced), key: key.value, node: placed(node) });
        }
        Ok(unplaced(Value::Map(pairs)))
    }
}

#[cfg(test)]
mod tests;
