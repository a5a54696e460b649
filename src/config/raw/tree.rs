//! relay.yaml as a tree whose every node knows its place.
//!
//! The tree lets decoding go on after a problem: what cannot be read is cut out and the rest is
//! read again, so that one run reports everything.

use crate::config::problem::{Places, Position};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where the value begins.
    pub(super) at: Position,
    /// Its path in the file as written.
    pub(super) path: String,
    /// The value.
    pub(super) value: Value,
    /// Cut out: it could not be read and that is reported.
    pub(super) cut: bool,
}

/// What YAML can say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Float(f64),
    Int(i64),
    List(Vec<Node>),
    Map(Vec<Pair>),
    Null,
    Text(String),
    Uint(u64),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

impl Node {
    /// A node whose path is not known yet; [`Node::name_below`] gives it.
    pub(super) const fn new(at: Position, value: Value) -> Self {
        Self { at, path: String::new(), value, cut: false }
    }

    /// Gives this node and everything below it their paths.
    pub(super) fn name_below(&mut self, path: String) {
        match &mut self.value {
            Value::List(nodes) => {
                for (index, node) in nodes.iter_mut().enumerate() {
                    node.name_below(format!("{path}[{index}]"));
                }
            }
            Value::Map(pairs) => {
                for pair in pairs {
                    pair.node.name_below(join(&path, &pair.key));
                }
            }
            Value::Bool(_)
            | Value::Float(_)
            | Value::Int(_)
            | Value::Null
            | Value::Text(_)
            | Value::Uint(_) => {}
        }
        self.path = path;
    }

    /// Cuts the node at `path` out; false when there is none left to cut.
    pub(super) fn cut(&mut self, path: &str) -> bool {
        if self.cut || !path.starts_with(self.path.as_str()) {
            return false;
        }
        if self.path == path {
            self.cut = true;
            return true;
        }
        match &mut self.value {
            Value::List(nodes) => nodes.iter_mut().any(|node| node.cut(path)),
            Value::Map(pairs) => pairs.iter_mut().any(|pair| pair.node.cut(path)),
            Value::Bool(_)
            | Value::Float(_)
            | Value::Int(_)
            | Value::Null
            | Value::Text(_)
            | Value::Uint(_) => false,
        }
    }

    /// Writes down where everything stands, by the path that decoding gives it.
    pub(super) fn places(&self, decoded: &str, places: &mut Places) {
        if self.cut {
            places.add_unread(decoded.to_owned());
            return;
        }
        places.add(decoded.to_owned(), self.path.clone(), self.at);
        match &self.value {
            Value::List(nodes) => {
                let mut index = 0;
                for node in nodes {
                    if node.cut {
                        places.add_unread(format!("{decoded}[]"));
                    } else {
                        node.places(&format!("{decoded}[{index}]"), places);
                        index += 1;
                    }
                }
            }
            Value::Map(pairs) => {
                for pair in pairs {
                    pair.node.places(&join(decoded, &pair.key), places);
                }
            }
            Value::Bool(_)
            | Value::Float(_)
            | Value::Int(_)
            | Value::Null
            | Value::Text(_)
            | Value::Uint(_) => {}
        }
    }
}

/// `path.key`; keys that are no plain words stand in brackets.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.bytes().all(plain) {
        return format!("{path}[\"{key}\"]");
    }
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
