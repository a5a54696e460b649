//! Tests of the relay.yaml that ships.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Config, raw};

const SHIPPED: &str = include_str!("../../relay.yaml");

/// The live text of a commented-out line; `None` for prose (`# words`) and live lines.
fn commented(line: &str) -> Option<String> {
    let code = line.trim_start();
    let indent = &line[..line.len() - code.len()];
    let code = code.strip_prefix('#')?;
    let prose = code.starts_with(' ') && !code.starts_with("  ");
    (!code.is_empty() && !prose).then(|| format!("{indent}{code}"))
}

/// The file with the commented lines for which `wanted` says so made live.
fn uncommented(wanted: impl Fn(usize) -> bool) -> String {
    let lines = SHIPPED.lines().enumerate().map(|(index, line)| match commented(line) {
        Some(code) if wanted(index) => code,
        Some(_) | None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs of commented lines: each is one block.
fn blocks() -> Vec<Vec<usize>> {
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    for (index, _) in SHIPPED.lines().enumerate().filter(|(_, line)| commented(line).is_some()) {
        match blocks.last_mut() {
            Some(block) if block.last() == Some(&(index - 1)) => block.push(index),
            Some(_) | None => blocks.push(vec![index]),
        }
    }
    blocks
}

#[test]
fn the_shipped_file_and_each_of_its_blocks_are_valid() {
    let file = Path::new("/etc/pushrelay/relay.yaml");
    let live = Config::from_text(SHIPPED, file).unwrap_or_else(|invalid| panic!("{invalid}"));
    let blocks = blocks();
    assert!(blocks.len() >= 20, "{}", blocks.len());
    for block in &blocks {
        let text = uncommented(|index| block.contains(&index));
        Config::from_text(&text, file).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"));
    }
    // Written defaults are the code's.
    for key in [
        "drain",
        "environments",
        "body",
        "ports",
        "tls",
        "when_unsent",
        "when_unknown",
        "deadline",
        "limits",
        "log",
        "audit",
    ] {
        let line = SHIPPED.lines().position(|line| {
            commented(line).is_some_and(|code| code.trim_start().starts_with(&format!("{key}:")))
        });
        let text = uncommented(|index| Some(index) == line);
        assert_ne!(text, SHIPPED, "{key}");
        assert_eq!(Config::from_text(&text, file).unwrap(), live, "{key}");
    }
    let everything = uncommented(|_| true);
    Config::from_text(&everything, file).unwrap_or_else(|invalid| panic!("{invalid}"));
}

/// Every key that the schema knows, by the name of its block.
fn schema_keys() -> BTreeSet<(String, String)> {
    let schema = raw::schema().to_value();
    let mut keys = BTreeSet::new();
    let mut add = |block: &str, schema: &Value| {
        for key in schema["properties"].as_object().into_iter().flatten() {
            keys.insert((block.to_owned(), key.0.clone()));
        }
    };
    add("File", &schema);
    for (name, block) in schema["$defs"].as_object().unwrap() {
        add(name, block);
    }
    keys
}

#[test]
fn the_schema_and_the_shipped_file_know_the_same_keys() {
    let everything = uncommented(|_| true);
    let keys: BTreeSet<String> = schema_keys().into_iter().map(|(_, key)| key).collect();
    let written: BTreeSet<&str> = everything
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter_map(|word| word.strip_suffix(':'))
        .collect();
    let missing: Vec<&String> = keys.iter().filter(|key| !written.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "not in relay.yaml: {missing:?}");
    // Every key of the file is known to the schema: reading it refuses unknown keys, and the
    // schema comes from the same structs.
    assert_eq!(raw::read(&everything).problems, []);
    let schema = raw::schema().to_value();
    for (name, block) in schema["$defs"].as_object().unwrap() {
        if block["properties"].is_object() && block["oneOf"].is_null() {
            assert_eq!(block["additionalProperties"], Value::Bool(false), "{name}");
        }
    }
}
