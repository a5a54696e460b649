//! What is shown of a rung, as JSON: peer text in it was cleaned where it came in.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::findings::Failure;
use crate::hop::{Fact, HopErrorKind, ProxyRefusal, Stage, TlsFacts};
use crate::names::Authority;

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
        Fact::Tunnel { status, reason, via } => {
            json!({ "status": status, "reason": reason, "via": via })
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
pub fn of_failure(failure: &Failure, origin: &Authority, proxy: Option<&Authority>) -> Value {
    let mut evidence = json!({
        "error": failure.kind.to_string(),
        "cause": failure.cause,
        "dialer": failure.hop.word(),
        "command": command(failure.stage, origin, proxy),
    });
    if let Some(refusal) = refusal(&failure.kind) {
        evidence["status"] = refusal.status.into();
        evidence["reason"] = refusal.reason.as_str().into();
        evidence["via"] = refusal.via.clone().into();
        evidence["offered"] = refusal.offered.clone().into();
        evidence["squid_error"] = refusal.squid_error.clone().into();
        evidence["page"] = refusal.page.as_str().into();
    }
    evidence
}

#[expect(clippy::wildcard_enum_match_arm, reason = "three kinds carry a refusal")]
fn refusal(kind: &HopErrorKind) -> Option<&ProxyRefusal> {
    match kind {
        HopErrorKind::ProxyRefused(refusal)
        | HopErrorKind::CredentialsMissing(refusal)
        | HopErrorKind::CredentialsRefused(refusal) => Some(refusal),
        _ => None,
    }
}

/// A command that shows the same, without the relay. Never with a credential.
pub fn command(stage: Stage, origin: &Authority, proxy: Option<&Authority>) -> String {
    let host = &origin.host;
    match (stage, proxy) {
        (Stage::Queue | Stage::Resolve, None) => format!("dig {host}"),
        (Stage::Queue | Stage::Resolve, Some(proxy)) => format!("getent ahosts {}", proxy.host),
        (Stage::Tcp, None) => format!("nc -vz {host} {}", origin.port),
        (Stage::Tcp, Some(proxy)) => format!("nc -vz {} {}", proxy.host, proxy.port),
        (Stage::ProxyTls, proxy) => {
            let at = proxy.unwrap_or(origin);
            format!("openssl s_client -connect {at} -servername {}", at.host)
        }
        (Stage::Connect, Some(proxy)) => {
            format!("curl -v --proxy http://{proxy} https://{origin}/")
        }
        (Stage::Connect | Stage::Tls | Stage::Alpn, proxy) => {
            let proxy = proxy.map(|proxy| format!(" -proxy {proxy}")).unwrap_or_default();
            format!("openssl s_client{proxy} -connect {origin} -servername {host} -alpn h2")
        }
        (Stage::Settings | Stage::Ping | Stage::Request, proxy) => {
            let proxy = proxy.map(|proxy| format!(" --proxy http://{proxy}")).unwrap_or_default();
            format!("curl -v --http2{proxy} -d '{{}}' https://{origin}/3/device/0")
        }
    }
}
