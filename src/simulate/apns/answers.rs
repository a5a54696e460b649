//! What the simulated origin answers: by the first digits of the device token, else as APNs would.
//!
//! A token `dead` + three digits of a status + two digits of a place in [`REASONS`] of that status
//! is answered with that status and reason: `dead41001...` gives 410 Unregistered. Every other
//! token is known to the origin.

/// Reasons by status (Apple: Handling notification responses from APNs); the place in a list is
/// what a device token names.
pub const REASONS: &[(u16, &[&str])] = &[
    (
        400,
        &[
            "BadCollapseId",
            "BadDeviceToken",
            "BadExpirationDate",
            "BadMessageId",
            "BadPriority",
            "BadTopic",
            "DeviceTokenNotForTopic",
            "DuplicateHeaders",
            "IdleTimeout",
            "InvalidPushType",
            "MissingDeviceToken",
            "MissingTopic",
            "PayloadEmpty",
            "TopicDisallowed",
        ],
    ),
    (
        403,
        &[
            "BadCertificate",
            "BadCertificateEnvironment",
            "ExpiredProviderToken",
            "Forbidden",
            "InvalidProviderToken",
            "MissingProviderToken",
            "UnrelatedKeyIdInToken",
            "BadEnvironmentKeyIdInToken",
        ],
    ),
    (404, &["BadPath"]),
    (405, &["MethodNotAllowed"]),
    (410, &["ExpiredToken", "Unregistered"]),
    (413, &["PayloadTooLarge"]),
    (429, &["TooManyProviderTokenUpdates", "TooManyRequests"]),
    (500, &["InternalServerError"]),
    (503, &["ServiceUnavailable", "Shutdown"]),
];

/// An answer before it is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A status without a body.
    pub(crate) const fn bare(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// A refusal with its reason.
    pub(crate) fn refusal(status: u16, reason: &str) -> Self {
        let mut body = serde_json::json!({ "reason": reason });
        if status == 410 {
            // Milliseconds at which APNs learnt it; a fixed past moment keeps answers comparable.
            body["timestamp"] = 1_700_000_000_000_u64.into();
        }
        Self {
            status,
            fields: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }
}

/// The answer that a device token asks for, if it does.
pub(crate) fn scripted(token: &str) -> Option<Answer> {
    let digits = token.strip_prefix("dead")?.get(..5)?;
    let status: u16 = digits[..3].parse().ok()?;
    let place: usize = digits[3..].parse().ok()?;
    let (_, reasons) = REASONS.iter().find(|(known, _)| *known == status)?;
    Some(Answer::refusal(status, reasons.get(place)?))
}

/// A 64-digit device token that the origin answers with `status` and `reason`; `None` for a pair
/// that is not in [`REASONS`]. `serial` makes it differ from others.
pub fn token_for(status: u16, reason: &str, serial: u64) -> Option<String> {
    let (_, reasons) = REASONS.iter().find(|(known, _)| *known == status)?;
    let place = reasons.iter().position(|known| *known == reason)?;
    Some(format!("dead{status}{place:02}{serial:055x}"))
}

/// A 64-digit device token that the origin accepts.
pub fn token_accepted(serial: u64) -> String {
    format!("ac{serial:062x}")
}

/// What a path is to APNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/3/device/TOKEN`.
    Device,
    /// `/4/broadcasts/apps/BUNDLE`.
    Broadcast,
    /// `/1/apps/BUNDLE/channels`.
    Channels,
    /// `/1/apps/BUNDLE/all-channels`.
    AllChannels,
    /// Nothing that APNs has.
    Unknown,
}

impl Resource {
    /// Tells them apart; a query is not part of any.
    pub(crate) fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["3", "device", _] => Self::Device,
            ["4", "broadcasts", "apps", bundle] if !bundle.is_empty() => Self::Broadcast,
            ["1", "apps", bundle, "channels"] if !bundle.is_empty() => Self::Channels,
            ["1", "apps", bundle, "all-channels"] if !bundle.is_empty() => Self::AllChannels,
            _ => Self::Unknown,
        }
    }

    /// The methods that it has.
    pub(crate) const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Device | Self::Broadcast => &["POST"],
            Self::Channels => &["POST", "GET", "DELETE"],
            Self::AllChannels => &["GET"],
            Self::Unknown => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_token_that_asks_for_it() {
        for (status, reasons) in REASONS {
            for reason in *reasons {
                let token = token_for(*status, reason, 7).unwrap();
                assert_eq!(token.len(), 64);
                assert_eq!(scripted(&token).unwrap(), Answer::refusal(*status, reason));
            }
        }
        assert_eq!(scripted(&token_accepted(1)), None);
        assert_eq!(scripted("dead99900"), None);
        assert_eq!(scripted("dead40099"), None);
    }

    #[test]
    fn paths_lead_to_resources() {
        let rows = [
            ("/3/device/ab", Resource::Device),
            ("/3/device/", Resource::Device),
            ("/4/broadcasts/apps/com.example", Resource::Broadcast),
            ("/1/apps/com.example/channels", Resource::Channels),
            ("/1/apps/com.example/all-channels", Resource::AllChannels),
            ("/3/device/ab/c", Resource::Unknown),
            ("/", Resource::Unknown),
        ];
        for (path, resource) in rows {
            assert_eq!(Resource::of(path), resource, "{path}");
        }
    }
}
