//! The last rung: a request without credentials that fits the provider, and whose answer it is.
//!
//! APNs' 403 MissingProviderToken, Google's 401 and OAuth2's 400 prove the whole path without a
//! device, a token or a push.

use bytes::Bytes;
use http::{Method, Request, Response, header};

use super::findings::Answer;
use crate::hop::clean;
use crate::names::Authority;
use crate::provider::{Dialect, Provider};

/// Longest text kept of an answer, characters.
const PAGE_CAP: usize = 300;
/// Octets of the APNs request's body: more than two packets of Ethernet, less than APNs' 4096, so
/// that an MTU hole shows.
const LARGE: usize = 3600;

/// What to ask and what to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// 403 with apns-id.
    Apns,
    /// 4xx with google.rpc.Status.
    Fcm,
    /// 4xx with `error`, or the public keys.
    OAuth2,
    /// The push proxy's version.
    Mattermost,
    /// Any answer of an origin of one's own.
    Own,
}

impl Ask {
    /// What fits a host of a provider.
    pub const fn of(provider: Provider, dialect: Dialect) -> Self {
        match (provider, dialect) {
            (Provider::Apns, _) => Self::Apns,
            (Provider::Fcm, Dialect::OAuth2) => Self::OAuth2,
            (Provider::Fcm, _) => Self::Fcm,
            (Provider::Mattermost, _) => Self::Mattermost,
            (Provider::Own, _) => Self::Own,
        }
    }

    /// The request; `large` fills several packets where the provider takes a body.
    pub fn request(self, origin: &Authority, secure: bool, large: bool) -> Request<Bytes> {
        let host = origin.host.to_string();
        let (method, path) = match self {
            Self::Apns => (Method::POST, format!("/3/device/{}", "0".repeat(64))),
            Self::Fcm if host.starts_with("iid.") => (Method::POST, "/iid/v1:batchAdd".to_owned()),
            Self::Fcm => (Method::POST, "/v1/projects/pushrelay-probe/messages:send".to_owned()),
            Self::OAuth2 if host.starts_with("www.") => {
                (Method::GET, "/oauth2/v3/certs".to_owned())
            }
            Self::OAuth2 if host.starts_with("accounts.") => {
                (Method::POST, "/o/oauth2/token".to_owned())
            }
            Self::OAuth2 => (Method::POST, "/token".to_owned()),
            Self::Mattermost => (Method::GET, "/version".to_owned()),
            Self::Own => (Method::GET, "/".to_owned()),
        };
        let body = match (self, large, &method) {
            (_, _, &Method::GET) => Bytes::new(),
            (Self::Apns | Self::Fcm, true, _) => {
                format!("{{\"aps\":{{}},\"probe\":\"{}\"}}", "x".repeat(LARGE)).into()
            }
            (Self::OAuth2, _, _) => Bytes::from_static(b"grant_type=none"),
            _ => Bytes::from_static(b"{}"),
        };
        let scheme = if secure { "https" } else { "http" };
        let authority =
            if origin.port == 443 && secure { host } else { format!("{host}:{}", origin.port) };
        let kind = if self == Self::OAuth2 {
            "application/x-www-form-urlencoded"
        } else {
            "application/json"
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        // Both are made of parsed names and literals.
        *request.uri_mut() = format!("{scheme}://{authority}{path}").parse().unwrap_or_default();
        let fields = request.headers_mut();
        let agent = concat!("pushrelay-probe/", env!("CARGO_PKG_VERSION"));
        fields.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
        if !request.body().is_empty() {
            let length = request.body().len();
            let fields = request.headers_mut();
            fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        request
    }

    /// Whose answer it is.
    pub fn judge(self, response: &Response<Bytes>) -> Answer {
        let fields = response.headers();
        let text = |name: &str| fields.get(name).map(|value| clean(value.as_bytes(), 120));
        let json: Option<serde_json::Value> = serde_json::from_slice(response.body()).ok();
        let has = |key: &str| json.as_ref().is_some_and(|json| json.get(key).is_some());
        let mut answer = Answer {
            status: response.status().as_u16(),
            genuine: false,
            content_type: text("content-type"),
            by: text("proxy-status").or_else(|| text("via")).or_else(|| text("server")),
            page: clean(response.body(), PAGE_CAP),
        };
        answer.genuine = match self {
            Self::Apns => fields.contains_key("apns-id") || fields.contains_key("apns-request-id"),
            Self::Fcm => has("error") || json.is_some() && answer.status < 400,
            Self::OAuth2 => has("error") || has("keys"),
            Self::Mattermost => !answer.is_page() && answer.status < 500,
            Self::Own => true,
        };
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(
        status: u16,
        fields: &[(&'static str, &'static str)],
        body: &str,
    ) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(body.to_owned()));
        *response.status_mut() = status.try_into().unwrap();
        for (name, value) in fields {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        response
    }

    #[test]
    fn only_what_the_provider_alone_has_makes_an_answer_its_own() {
        let id = [("apns-id", "00000000-0000-4000-8000-000000000000")];
        let html = [("content-type", "text/html")];
        let json = [("content-type", "application/json")];
        for (ask, response, genuine) in [
            (Ask::Apns, response(403, &id, r#"{"reason":"MissingProviderToken"}"#), true),
            (Ask::Apns, response(403, &json, r#"{"reason":"MissingProviderToken"}"#), false),
            (Ask::Apns, response(200, &html, "<html>blocked</html>"), false),
            (Ask::Fcm, response(401, &json, r#"{"error":{"code":401}}"#), true),
            (Ask::Fcm, response(403, &html, "<html>blocked</html>"), false),
            (Ask::OAuth2, response(400, &json, r#"{"error":"invalid_request"}"#), true),
            (Ask::OAuth2, response(200, &html, "<html>"), false),
            (Ask::Mattermost, response(200, &json, r#"{"version":"6"}"#), true),
            (Ask::Mattermost, response(200, &html, "<html>login</html>"), false),
            (Ask::Own, response(404, &html, "<html>"), true),
        ] {
            assert_eq!(ask.judge(&response).genuine, genuine, "{ask:?} {response:?}");
        }
    }

    #[test]
    fn the_request_carries_no_credential_and_fills_packets() {
        let origin = "api.push.apple.com:2197".parse().unwrap();
        let request = Ask::Apns.request(&origin, true, true);
        assert_eq!(request.uri().authority().unwrap().as_str(), "api.push.apple.com:2197");
        assert!((3000..4096).contains(&request.body().len()));
        assert!(!request.headers().contains_key("authorization"));
        assert!(Ask::Mattermost.request(&origin, true, true).body().is_empty());
    }
}
