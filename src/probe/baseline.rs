//! Compares with an earlier report: what changed on the path, although nothing may be broken yet.

use serde_json::{Map, Value};

use super::report::Report;

/// A rung that takes so many times as long as before is news, above [`SLOW`].
const SLOWER: u64 = 3;
/// Milliseconds below which a slower rung is noise.
const SLOW: u64 = 300;

/// Why a baseline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is not there, or unreadable.
    #[error("the baseline {0} cannot be read")]
    Io(String, #[source] std::io::Error),
    /// It is no report.
    #[error("the baseline {0} is no JSON report of `probe --json`")]
    Json(String, #[source] serde_json::Error),
}

/// Reads a report that `probe --json` wrote; `None` where there is none yet, so that a timer's
/// first run works.
pub fn read(file: &std::path::Path) -> Result<Option<Value>, BaselineError> {
    let name = || file.display().to_string();
    match std::fs::read(file) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(report) => Ok(Some(report)),
            Err(error) => Err(BaselineError::Json(name(), error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BaselineError::Io(name(), error)),
    }
}

/// What is not as it was: one line for each change, empty when all is the same.
pub fn changes(before: &Value, now: &Report) -> Vec<String> {
    let empty = Vec::new();
    let targets = before.get("targets").and_then(Value::as_array).unwrap_or(&empty);
    let mut changes = Vec::new();
    for target in &now.targets {
        let same = |one: &&Value| {
            text(one, "origin") == Some(&target.origin)
                && text(one, "egress") == Some(&target.egress)
        };
        let Some(before) = targets.iter().find(same) else {
            changes.push(format!("{} by {} was not probed before", target.origin, target.egress));
            continue;
        };
        let at = format!("{} by {}", target.origin, target.egress);
        let code = before.get("verdict").and_then(|verdict| text(verdict, "code"));
        let code = code.map_or("nothing", String::as_str);
        if code != target.verdict.code {
            changes.push(format!("{at}: {} was {}", target.verdict.code, clean(code)));
        }
        let rungs = before.get("rungs").and_then(Value::as_array).unwrap_or(&empty);
        for rung in &target.rungs {
            let Some(old) = rungs.iter().find(|old| text(old, "stage") == Some(&rung.stage)) else {
                continue;
            };
            compared(&mut changes, &format!("{at}, {}", rung.stage), old, rung);
        }
    }
    changes
}

fn compared(changes: &mut Vec<String>, at: &str, old: &Value, rung: &super::rung::Rung) {
    let nothing = Map::new();
    let evidence = old.get("evidence").and_then(Value::as_object).unwrap_or(&nothing);
    let watched: &[&str] = match rung.stage.as_str() {
        "tls" | "proxy-tls" => &["issuer", "version", "group", "inspected"],
        "alpn" => &["chosen"],
        "connect" => &["status", "via"],
        "request" => &["status", "by"],
        "settings" => &[
            "HEADER_TABLE_SIZE",
            "MAX_CONCURRENT_STREAMS",
            "INITIAL_WINDOW_SIZE",
            "MAX_FRAME_SIZE",
            "MAX_HEADER_LIST_SIZE",
            "ENABLE_CONNECT_PROTOCOL",
        ],
        _ => &[],
    };
    // A failed rung has other evidence; the code's change says it.
    if evidence.contains_key("error") == rung.evidence.contains_key("error") {
        for key in watched {
            let (was, is) = (evidence.get(*key), rung.evidence.get(*key));
            if was != is {
                changes.push(format!("{at}: {key} is {}, was {}", plain(is), plain(was)));
            }
        }
    }
    let was = old.get("ms").and_then(Value::as_u64).unwrap_or(0);
    if let Some(ms) = rung.ms.filter(|ms| *ms > SLOW && *ms > was.saturating_mul(SLOWER)) {
        changes.push(format!("{at}: {ms} ms, was {was} ms"));
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v String> {
    match value.get(key) {
        Some(Value::String(text)) => Some(text),
        Some(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_),
        )
        | None => None,
    }
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(other) => clean(&other.to_string()),
    }
}

/// The baseline is a file that others may have written.
fn clean(text: &str) -> String {
    crate::hop::clean(text.as_bytes(), 200)
}
