//! The way back: whose answer is it, and what of it reaches the sender.
//!
//! Inspecting proxies and portals answer in the provider's place. Their word is never passed on
//! as the provider's: the push left, so what became of it is `unknown`. Behind another relay its
//! `Proxy-Status` says more.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, SERVER, VIA};
use http::{HeaderMap, Response, StatusCode};

use crate::config::NextHop;
use crate::downstream::Answer;
use crate::hop::{Hop, HopError, HopErrorKind, Stage, clean};
use crate::provider::Provider;
use crate::provider::apns::{APNS_ID, APNS_REQUEST_ID};
use crate::relay::Permit;
use crate::relay::answer::proxy_status::{self, Reported};
use crate::relay::outcome::{Outcome, RelayError};

use super::fields;

/// An answer of the provider's, or of a relay beyond that refused by its rules.
#[derive(Debug)]
pub struct Judged {
    /// What the sender gets.
    pub answer: Answer,
    /// What it means.
    pub outcome: Outcome,
}

/// Judges an answer and makes it ready for the sender (C5, R5).
///
/// # Errors
/// [`RelayError::Unknown`] where somebody else answered in the provider's place, and what a relay
/// beyond reported.
pub fn answer(response: Response<Bytes>, permit: &Permit, far: Hop) -> Result<Judged, RelayError> {
    let chained = permit.route.next_hop != NextHop::Origin;
    let reported = chained.then(|| proxy_status::reported(response.headers())).flatten();
    if let Some(Reported { outcome, hop, stage, .. }) = &reported {
        match outcome {
            Outcome::NotSent => {
                return Err(RelayError::NotSent(adopted(&response, *hop, *stage)));
            }
            Outcome::Unknown => {
                return Err(RelayError::Unknown(adopted(&response, *hop, *stage)));
            }
            Outcome::RelayRefused => {
                return Ok(Judged { answer: clear(response, true), outcome: *outcome });
            }
            // The provider's own word came through: judged like any other below.
            Outcome::Accepted | Outcome::ProviderRefused => {}
        }
    }
    provider_said(&response, permit.route.provider, far).map_err(RelayError::Unknown)?;
    let outcome =
        if response.status().is_success() { Outcome::Accepted } else { Outcome::ProviderRefused };
    Ok(Judged { answer: clear(response, false), outcome })
}

/// Is it the provider's word, for all that its fields tell? `far` is who answers there.
///
/// # Errors
/// Who answered in the provider's place, and what.
pub fn provider_said(
    response: &Response<Bytes>,
    provider: Provider,
    far: Hop,
) -> Result<(), HopError> {
    if genuine(response, provider, far == Hop::Inspector) {
        return Ok(());
    }
    Err(HopError::new(far, Stage::Request, foreign(response)))
}

/// Is it the provider's word? APNs marks each of its answers; the others answer JSON, and a page
/// for people, a proxy's login or a gateway's error is somebody else's.
fn genuine(response: &Response<Bytes>, provider: Provider, inspected: bool) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let for_proxies = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || status == StatusCode::NETWORK_AUTHENTICATION_REQUIRED;
    match provider {
        Provider::Apns => headers.contains_key(&APNS_ID) || headers.contains_key(&APNS_REQUEST_ID),
        Provider::Fcm | Provider::Mattermost => {
            let gateway = matches!(status.as_u16(), 502..=504);
            let page = is_page(headers);
            let misplaced = inspected || gateway || status.is_success() || status.is_redirection();
            !(for_proxies || headers.contains_key("x-squid-error") || (page && misplaced))
        }
        Provider::Own => !for_proxies,
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
}

fn foreign(response: &Response<Bytes>) -> HopErrorKind {
    let text = |name| response.headers().get(name).map(|value| clean(value.as_bytes(), 80));
    HopErrorKind::ForeignAnswer {
        status: response.status().as_u16(),
        content_type: text(CONTENT_TYPE),
        by: text(VIA).or_else(|| text(SERVER)),
    }
}

fn adopted(response: &Response<Bytes>, hop: Option<Hop>, stage: Option<Stage>) -> HopError {
    let details = proxy_status::reported(response.headers()).and_then(|reported| reported.details);
    let kind = HopErrorKind::ForeignAnswer {
        status: response.status().as_u16(),
        content_type: response.headers().get(CONTENT_TYPE).map(|kind| clean(kind.as_bytes(), 80)),
        by: Some(format!("the relay beyond ({})", details.as_deref().unwrap_or("no details"))),
    };
    HopError::new(hop.unwrap_or(Hop::BeyondProxy), stage.unwrap_or(Stage::Request), kind)
}

fn clear(response: Response<Bytes>, keep_proxy_status: bool) -> Answer {
    let (parts, body) = response.into_parts();
    let mut headers = parts.headers;
    let named: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let dropped: Vec<_> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            let ours = name == "proxy-status" && keep_proxy_status;
            // alt-svc would lead senders past the relay; a foreign Proxy-Status could be taken
            // for ours by a relay before us.
            !ours
                && (fields::is_hop_by_hop(name)
                    || matches!(name, "alt-svc")
                    || *name == HOST
                    || *name == CONTENT_LENGTH
                    || named.iter().any(|named| named == name))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    Answer { status: parts.status, headers, body, close: false }
}
