//! Durations (`7s`, `500ms`, `1h`) and sizes (`8KiB`) as they stand in relay.yaml.
//!
//! A unit is always written for a duration, so that nobody has to guess.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A duration of relay.yaml: a whole number with one of the units ms, s, m, h, d.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size of relay.yaml in octets: a whole number, with B, KiB or MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

const DURATION: &str = "a duration such as 500ms, 7s, 5m or 1h";
const SIZE: &str = "a size such as 512B, 8KiB or 1MiB";

/// Splits `16KiB` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text.trim())?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn size(text: &str) -> Option<usize> {
    let (number, unit) = number_and_unit(text.trim())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_secs();
        if self.0.subsec_nanos() != 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        match whole {
            0 => f.write_str("0s"),
            _ if whole.is_multiple_of(3600) => write!(f, "{}h", whole / 3600),
            _ if whole.is_multiple_of(60) && whole > 60 => write!(f, "{}m", whole / 60),
            _ => write!(f, "{whole}s"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            octets if octets >= 1 << 20 && octets.is_multiple_of(1 << 20) => {
                write!(f, "{}MiB", octets >> 20)
            }
            octets if octets >= 1 << 10 && octets.is_multiple_of(1 << 10) => {
                write!(f, "{}KiB", octets >> 10)
            }
            octets => write!(f, "{octets}B"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURATION)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        duration(text)
            .map(Span)
            .ok_or_else(|| E::custom(format_args!("this is not a duration; write {DURATION}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Span, E> {
        Err(E::custom(format_args!("a duration needs a unit; did you mean {number}s?")))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        size(text)
            .map(Size)
            .ok_or_else(|| E::custom(format_args!("this is not a size; write {SIZE}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Size, E> {
        usize::try_from(number)
            .map(Size)
            .map_err(|_too_large| E::custom(format_args!("this is no size; write {SIZE}")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$", "description": DURATION })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB)?$" },
                { "type": "integer", "minimum": 0 },
            ],
            "description": SIZE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_print_as_they_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("7s", 7000),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(duration(&Span(read).to_string()), Some(read), "{text}");
        }
        for bad in
            ["", "7", "7 sec", "-1s", "1.5s", "s", "99999999999999999999s", "9999999999999999999d"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary_and_print_as_they_are_read() {
        for (text, octets) in [("512B", 512), ("8KiB", 8192), ("1MiB", 1 << 20), ("77", 77)] {
            let read = size(text).unwrap();
            assert_eq!(read, octets, "{text}");
            assert_eq!(size(&Size(read).to_string()), Some(read), "{text}");
        }
        for bad in ["8KB", "8k", "KiB", "-1B", "99999999999999999999MiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
