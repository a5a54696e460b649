//! Fields of an answer by which somebody else's people find it in their logs, or its time.

use super::clean;

/// Fields kept of one answer; gateways send some thirty, of which these few matter.
const FIELDS_CAP: usize = 16;
/// Longest value kept, characters.
const VALUE_CAP: usize = 200;

/// Who answered, under which number, when. Proxies, gateways and providers name them so.
const KEPT: &[&str] = &[
    "apns-id",
    "apns-request-id",
    "apns-unique-id",
    "cf-ray",
    "date",
    "location",
    "proxy-status",
    "retry-after",
    "server",
    "via",
    "x-amz-cf-id",
    "x-amzn-requestid",
    "x-cache",
    "x-cache-lookup",
    "x-correlation-id",
    "x-request-id",
    "x-squid-error",
    "x-trace-id",
    "x-transaction-id",
];
/// Boxes that put their name before their fields (by their vendors' pages; not seen live).
const KEPT_PREFIXES: &[&str] = &[
    "x-bluecoat-",
    "x-bst-",
    "x-forcepoint-",
    "x-iboss-",
    "x-mcafee-",
    "x-mwg-",
    "x-netskope-",
    "x-swg-",
    "x-zscaler-",
];

/// The fields worth keeping, cleaned, in the order sent.
pub fn marks<'f>(fields: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<(String, String)> {
    let named = |(name, value): (&str, &'f [u8])| {
        let name = name.to_ascii_lowercase();
        let kept = KEPT.contains(&name.as_str())
            || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        kept.then(|| (clean(name.as_bytes(), VALUE_CAP), clean(value, VALUE_CAP)))
    };
    fields.into_iter().filter_map(named).take(FIELDS_CAP).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_logs_are_kept_and_secrets_are_not() {
        let sent: &[(&str, &[u8])] = &[
            ("Set-Cookie", b"session=canary"),
            ("X-Squid-Error", b"ERR_ACCESS_DENIED 0"),
            ("X-BlueCoat-Transaction", b"1a2b"),
            ("Via", b"1.1 \x1b[31mgw"),
            ("Proxy-Authenticate", b"NTLM canary"),
        ];
        let kept = marks(sent.iter().copied());
        let kept: Vec<_> = kept.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            kept,
            [
                ("x-squid-error", "ERR_ACCESS_DENIED 0"),
                ("x-bluecoat-transaction", "1a2b"),
                ("via", "1.1 .[31mgw"),
            ]
        );
        let many = std::iter::repeat_n(("via", &b"x"[..]), 100);
        assert_eq!(marks(many).len(), FIELDS_CAP);
    }
}
