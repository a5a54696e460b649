//! What is shown of a rung, as JSON: peer text in it was cleaned where it came in.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::findings::Failure;
use crate::hop::{Fact, HopErrorKind, ProxyRefusal, TlsFacts};

/// What a passed rung shows.
pub fn of(fact: &Fact) -> Map<String, Value> {
    let value = match fact {
        Fact::Addresses { name, addresses, by } => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            json!({ "name": name.to_string(), "addresses": addresses, "by": by })
        }
        Fact::Tcp { local, peer } => {
            json!({ "local": local.to_string(), "peer": peer.to_string() })
        }
        Fact::Tls(facts) => tls(facts),
        Fact::Tunnel { status, reason, via, marks } => {
            json!({ "status": status, "reason": reason, "via": via, "fields": fields(marks) })
        }
        Fact::Alpn(chosen) => json!({ "chosen": chosen }),
        Fact::Settings(entries) => settings(entries),
        Fact::Ping => json!({}),
    };
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn tls(facts: &TlsFacts) -> Value {
    let until = OffsetDateTime::from_unix_timestamp(facts.not_after).ok();
    let until = until.and_then(|at| at.format(&Rfc3339).ok());
    json!({
        "version": facts.version,
        "cipher": facts.cipher,
        "group": facts.group,
        "issuer": facts.issuer,
        "subjects": facts.subjects,
        "sha256": facts.fingerprint,
        "not_after": until,
        "inspected": facts.inspected,
    })
}

/// SETTINGS by their names in RFC 9113 §6.5.2, RFC 8441 and RFC 9218.
fn settings(entries: &[(u16, u32)]) -> Value {
    let named = entries.iter().map(|(id, value)| {
        let name = match id {
            1 => "HEADER_TABLE_SIZE".to_owned(),
            2 => "ENABLE_PUSH".to_owned(),
            3 => "MAX_CONCURRENT_STREAMS".to_owned(),
            4 => "INITIAL_WINDOW_SIZE".to_owned(),
            5 => "MAX_FRAME_SIZE".to_owned(),
            6 => "MAX_HEADER_LIST_SIZE".to_owned(),
            8 => "ENABLE_CONNECT_PROTOCOL".to_owned(),
            9 => "NO_RFC7540_PRIORITIES".to_owned(),
            other => format!("0x{other:x}"),
        };
        (name, Value::from(*value))
    });
    Value::Object(named.collect())
}

/// What a failed rung shows.
pub fn of_failure(failure: &Failure) -> Value {
    let mut evidence = json!({
        "error": failure.kind.to_string(),
        "cause": failure.cause,
        "dialer": failure.hop.word(),
    });
    if let Some(refusal) = refusal(&failure.kind) {
        evidence["status"] = refusal.status.into();
        evidence["reason"] = refusal.reason.as_str().into();
        evidence["via"] = refusal.via.clone().into();
        evidence["offered"] = refusal.offered.clone().into();
        evidence["squid_error"] = refusal.squid_error.clone().into();
        evidence["fields"] = fields(&refusal.marks);
        evidence["page"] = refusal.page.as_str().into();
    }
    if let HopErrorKind::GoAway { code, reason } = &failure.kind {
        evidence["goaway"] = goaway(*code, reason.as_deref());
    }
    evidence
}

/// A GOAWAY: its code by the name of RFC 9113 §7, and what the peer wrote beside it.
pub fn goaway(code: u32, reason: Option<&str>) -> Value {
    let name = format!("{:?}", h2::Reason::from(code));
    json!({ "code": code, "name": name, "reason": reason })
}

/// Fields that somebody's logs are searched by; repeated ones are joined.
pub fn fields(marks: &[(String, String)]) -> Value {
    let mut map = Map::new();
    for (name, value) in marks {
        match map.get_mut(name) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            Some(_) | None => {
                map.insert(name.clone(), value.as_str().into());
            }
        }
    }
    if map.is_empty() { Value::Null } else { Value::Object(map) }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "three kinds carry a refusal")]
pub(super) fn refusal(kind: &HopErrorKind) -> Option<&ProxyRefusal> {
    match kind {
        HopErrorKind::ProxyRefused(refusal)
        | HopErrorKind::CredentialsMissing(refusal)
        | HopErrorKind::CredentialsRefused(refusal) => Some(refusal),
        _ => None,
    }
}
