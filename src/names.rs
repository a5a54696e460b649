//! Host names and authorities as types, so that a wrong one cannot travel.
//!
//! Pure parsing: nothing here resolves, dials or reads a file.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A DNS name: lower case, no trailing dot, at most 253 octets, labels of 1..=63 octets of
/// letters, digits, `-` and `_` (RFC 1123 §2.1; `_` because internal zones use it).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// What is wrong with a name or an authority; `Display` says it for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing stands where a name should.
    #[error("the host name is empty")]
    Empty,
    /// Longer than 253 octets, or a label longer than 63.
    #[error("the host name is too long")]
    TooLong,
    /// A character that no host name has.
    #[error("the host name has a character that host names do not have")]
    Character,
    /// The port is missing, zero, or no number up to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// `user@host`: never accepted in an authority (RFC 9110 §4.2.4).
    #[error("an authority must not carry a user name")]
    UserInfo,
    /// An IP address where only a name can stand.
    #[error("this must be a name, not an IP address")]
    Address,
}

impl HostName {
    /// The name as text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 253 {
            return Err(NameError::TooLong);
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(NameError::Address);
        }
        // By octets: every push is read here, and a search for text costs more than these few.
        for label in text.as_bytes().split(|byte| *byte == b'.') {
            let (Some(first), Some(last)) = (label.first(), label.last()) else {
                return Err(NameError::Empty);
            };
            if label.len() > 63 {
                return Err(NameError::TooLong);
            }
            let ok = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
            if !label.iter().all(ok) || *first == b'-' || *last == b'-' {
                return Err(NameError::Character);
            }
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP literal; IPv6 without brackets here, with them in text.
    Ip(IpAddr),
    /// A DNS name.
    Name(HostName),
}

impl Host {
    /// The name, when it is one.
    pub const fn name(&self) -> Option<&HostName> {
        match self {
            Self::Ip(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(NameError::Character)?;
            let ip: Ipv6Addr = inner.parse().map_err(|_bad| NameError::Character)?;
            return Ok(Self::Ip(ip.into()));
        }
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Self::Ip(ip)),
            Err(_not_an_address) => text.parse().map(Self::Name),
        }
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `host:port`, both always known.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

impl Authority {
    /// Puts a host and a port together.
    pub fn new(host: impl Into<Host>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host[:port]` as it stands in a Host field or an `:authority` (RFC 9110 §7.2);
    /// without a port the result has none. User info is refused.
    pub fn parse_optional_port(text: &str) -> Result<(Host, Option<u16>), NameError> {
        if text.contains('@') {
            return Err(NameError::UserInfo);
        }
        let colon = match text.rfind(']') {
            Some(end) => text[end..].find(':').map(|at| at + end),
            None => text.find(':'),
        };
        let Some(colon) = colon else {
            return Ok((text.parse()?, None));
        };
        let digits = &text[colon + 1..];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::Port);
        }
        let port = digits.parse().map_err(|_too_large| NameError::Port)?;
        if port == 0 {
            return Err(NameError::Port);
        }
        Ok((text[..colon].parse()?, Some(port)))
    }
}

impl FromStr for Authority {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (host, port) = Self::parse_optional_port(text)?;
        Ok(Self { host, port: port.ok_or(NameError::Port)? })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_lose_the_root_dot() {
        let name: HostName = "API.Push.Apple.COM.".parse().unwrap();
        assert_eq!(name.as_str(), "api.push.apple.com");
    }

    #[test]
    fn authorities_keep_brackets_and_demand_a_port() {
        let v6: Authority = "[::1]:443".parse().unwrap();
        assert_eq!(v6.to_string(), "[::1]:443");
        for bad in ["host", "host:", "host:0", "host:65536", "host:+1", "u@host:1", ":1", "::1:1"] {
            assert!(bad.parse::<Authority>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_field_may_leave_the_port_out() {
        assert_eq!(Authority::parse_optional_port("[::1]").unwrap().1, None);
        assert_eq!(Authority::parse_optional_port("a.example:2197").unwrap().1, Some(2197));
        for bad in ["", "a..b", "a b", "a/b", "-a", "[::1", "a:b:c"] {
            assert!(Authority::parse_optional_port(bad).is_err(), "{bad}");
        }
    }
}
