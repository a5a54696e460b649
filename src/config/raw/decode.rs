//! Decodes the tree into the structs of relay.yaml, with serde.
//!
//! Errors know their place, say what would be right, and never quote a value that could be a
//! secret: words are quoted only where a closed set of them is allowed.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::keys::SECRET_SOURCE;
use super::tree::{Node, Pair, Value, join};
use crate::config::problem::{Position, Problem, nearest};
use crate::hop;

/// One error of decoding; the node at `path` is to be cut out before the next attempt.
#[derive(Debug)]
pub(super) struct DecodeError {
    at: Option<Position>,
    pub(super) path: String,
    message: String,
    hint: Option<String>,
    missing: Option<&'static str>,
    told: bool,
}

impl DecodeError {
    fn new(message: String, hint: Option<String>) -> Self {
        Self { at: None, path: String::new(), message, hint, missing: None, told: false }
    }

    /// The content of this node was cut out, which is reported already.
    fn cut() -> Self {
        Self { told: true, ..Self::new("this could not be read".to_owned(), None) }
    }

    /// True when an operator knows already: what is missing here was cut out.
    pub(super) fn is_told(&self, cut: &[String]) -> bool {
        self.told || self.missing.is_some_and(|key| cut.contains(&join(&self.path, key)))
    }

    /// Gives the error its place, unless something deeper already did.
    fn placed(mut self, at: Position, path: &str) -> Self {
        if self.at.is_none() {
            self.at = Some(at);
            path.clone_into(&mut self.path);
        }
        self
    }

    pub(super) fn into_problem(self) -> Problem {
        let at = self.at.unwrap_or(Position::START);
        let Self { path, message, hint, .. } = self;
        Problem { line: at.line, column: at.column, path, message, hint }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

/// How an operator calls what stands there; the value itself is not shown.
const fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
        Unexpected::Float(_) => "a number with a point",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::NewtypeStruct | Unexpected::Map => "a mapping",
        Unexpected::Seq => "a list",
        Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => "something else",
    }
}

fn expectation(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a mapping".to_owned(),
        _ if text.starts_with("struct ") => "a mapping".to_owned(),
        _ if matches!(text.as_str(), "u16" | "u32" | "u64" | "usize") => {
            "a whole number, not negative".to_owned()
        }
        _ => text,
    }
}

fn list(words: &[&str]) -> String {
    words.join(", ")
}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match text.split_once("; ") {
            Some((message, hint)) => Self::new(message.to_owned(), Some(hint.to_owned())),
            None => Self::new(text, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = expectation(expected);
        let hint = match (&found, wanted.as_str()) {
            (Unexpected::Unsigned(_) | Unexpected::Signed(_), "text")
            | (Unexpected::Float(_) | Unexpected::Bool(_), "text") => "put it in quotes".to_owned(),
            (_, "a list") => "write a list: [one, two]".to_owned(),
            _ => format!("write {wanted}"),
        };
        Self::new(format!("{wanted} is expected here, not {}", kind(&found)), Some(hint))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = expectation(expected);
        Self::new(
            format!("this is not {wanted} (it is {} out of range)", kind(&found)),
            Some(format!("write {wanted}")),
        )
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let word = hop::clean(word.as_bytes(), 60);
        let hint = match nearest(&word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? allowed: {}", list(known)),
            None => format!("allowed: {}", list(known)),
        };
        Self::new(format!("`{word}` is not known here"), Some(hint))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let key = hop::clean(key.as_bytes(), 60);
        let hint = match nearest(&key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", list(known)),
        };
        Self::new(format!("the key `{key}` is not known"), Some(hint))
    }

    fn missing_field(key: &'static str) -> Self {
        let new = Self::new(format!("`{key}` is missing"), Some(format!("add `{key}:`")));
        Self { missing: Some(key), ..new }
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(format!("`{key}` stands here twice"), Some("keep one".to_owned()))
    }
}

/// Reads a node that was not cut out.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'n>(pub(super) &'n Node);

impl<'n> Decoder<'n> {
    fn place(self, error: DecodeError) -> DecodeError {
        error.placed(self.0.at, &self.0.path)
    }
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.0.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::List(nodes) => visitor.visit_seq(Elements(nodes.iter())),
            Value::Map(pairs) => visitor.visit_map(Pairs { rest: pairs.iter(), current: None }),
            Value::Null => visitor.visit_unit(),
            Value::Text(value) => visitor.visit_str(value),
            Value::Uint(value) => visitor.visit_u64(*value),
        };
        result.map_err(|error| self.place(error))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Float(_)
            | Value::Int(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Text(_)
            | Value::Uint(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let choice = match &self.0.value {
            Value::Text(_) | Value::Uint(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_)
                if name == SECRET_SOURCE =>
            {
                Err(DecodeError::new(
                    "a secret is never written into relay.yaml".to_owned(),
                    Some(
                        "name its place: { file: PATH }, { env: NAME } or { credential: NAME }"
                            .to_owned(),
                    ),
                ))
            }
            Value::Text(word) => Ok(Choice { word, at: self.0.at, of: self.0, content: None }),
            Value::Map(pairs) => match pairs.as_slice() {
                [pair] => Ok(Choice {
                    word: &pair.key,
                    at: pair.at,
                    of: self.0,
                    content: Some(&pair.node),
                }),
                _ => Err(DecodeError::new(
                    format!("exactly one key is expected here, not {}", pairs.len()),
                    Some(format!("one of: {}", list(variants))),
                )),
            },
            Value::Bool(_)
            | Value::Float(_)
            | Value::Int(_)
            | Value::List(_)
            | Value::Null
            | Value::Uint(_) => Err(DecodeError::new(
                "a word is expected here".to_owned(),
                Some(format!("one of: {}", list(variants))),
            )),
        };
        choice.and_then(|choice| visitor.visit_enum(choice)).map_err(|error| self.place(error))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'n>(std::slice::Iter<'n, Node>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.0.find(|node| !node.cut) else { return Ok(None) };
        let decoder = Decoder(node);
        seed.deserialize(decoder).map(Some).map_err(|error| decoder.place(error))
    }
}

struct Pairs<'n> {
    rest: std::slice::Iter<'n, Pair>,
    current: Option<&'n Pair>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(pair) = self.rest.find(|pair| !pair.node.cut) else { return Ok(None) };
        self.current = Some(pair);
        let key: StrDeserializer<'_, DecodeError> = pair.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.placed(pair.at, &pair.node.path))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let Some(pair) = self.current.take() else {
            return Err(DecodeError::custom("a value without a key"));
        };
        let decoder = Decoder(&pair.node);
        seed.deserialize(decoder).map_err(|error| decoder.place(error))
    }
}

/// A word out of a closed set, with or without content: `origin`, or `relay: {...}`.
struct Choice<'n> {
    word: &'n str,
    at: Position,
    of: &'n Node,
    content: Option<&'n Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self), DecodeError> {
        let word: StrDeserializer<'_, DecodeError> = self.word.into_deserializer();
        let value = seed.deserialize(word).map_err(|error| error.placed(self.at, &self.of.path))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content.map(|node| &node.value) {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(DecodeError::new(
                format!("`{}` takes nothing", self.word),
                Some(format!("write only `{}`", self.word)),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        // `next_hop: relay` means the same as `next_hop: { relay: {} }`.
        let empty = Node {
            at: self.at,
            path: self.of.path.clone(),
            value: Value::Map(Vec::new()),
            cut: false,
        };
        match self.content {
            Some(node) if node.cut => Err(DecodeError::cut()),
            Some(node) if node.value != Value::Null => {
                let decoder = Decoder(node);
                seed.deserialize(decoder).map_err(|error| decoder.place(error))
            }
            Some(_) | None => seed.deserialize(Empty(&empty)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("relay.yaml has no tuples"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("relay.yaml has no struct variants"))
    }
}

/// An empty mapping that outlives nothing.
struct Empty<'n>(&'n Node);

impl<'de> Deserializer<'de> for Empty<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let none = std::iter::empty::<(&str, &str)>();
        visitor
            .visit_map(serde::de::value::MapDeserializer::new(none))
            .map_err(|error: DecodeError| error.placed(self.0.at, &self.0.path))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}
