//! Kinds of addresses: where no push provider can be is seen before anything is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is; the later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A public one.
    Public,
    /// Inside a network: RFC 1918, RFC 4193, RFC 6598, link-local, documentation, benchmarking.
    Private,
    /// This machine (RFC 1122 §3.2.1.3).
    Loopback,
    /// A known block page, or no host at all.
    Sinkhole,
}

impl Class {
    /// The word in evidence.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::Sinkhole => "sinkhole",
        }
    }

    /// The kind of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => v4(ip),
            IpAddr::V6(ip) => v6(ip),
        }
    }

    /// The worst of several: dialling tries them all.
    pub fn worst(ips: impl IntoIterator<Item = IpAddr>) -> Option<Self> {
        ips.into_iter().map(Self::of).max()
    }
}

/// Addresses that DNS filters are documented to answer with: Cisco Umbrella's block pages
/// (146.112.61.104 to .110) and Palo Alto Networks' sinkhole (72.5.65.111 and 198.135.184.22).
/// Not seen live.
fn is_known_sinkhole(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    (a, b, c) == (146, 112, 61) && (104..=110).contains(&d)
        || matches!([a, b, c, d], [72, 5, 65, 111] | [198, 135, 184, 22])
}

fn v4(ip: Ipv4Addr) -> Class {
    let [a, b, _, _] = ip.octets();
    if a == 0 || ip.is_broadcast() || ip.is_multicast() || is_known_sinkhole(ip) {
        Class::Sinkhole
    } else if ip.is_loopback() {
        Class::Loopback
    } else if ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || a >= 240
    {
        Class::Private
    } else {
        Class::Public
    }
}

fn v6(ip: Ipv6Addr) -> Class {
    let head = ip.segments()[0];
    if ip.is_unspecified() || ip.is_multicast() {
        Class::Sinkhole
    } else if ip.is_loopback() {
        Class::Loopback
    } else if head & 0xfe00 == 0xfc00
        || head & 0xffc0 == 0xfe80
        || (head == 0x2001 && ip.segments()[1] == 0x0db8)
    {
        Class::Private
    } else {
        Class::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_where_no_provider_can_be_are_told_apart() {
        for (ip, class) in [
            ("17.188.143.34", Class::Public),
            ("2620:149:208:4309::9", Class::Public),
            ("64:ff9b::11bc:8f22", Class::Public),
            ("10.1.2.3", Class::Private),
            ("172.31.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("100.64.0.1", Class::Private),
            ("198.18.0.1", Class::Private),
            ("169.254.1.1", Class::Private),
            ("fd00::1", Class::Private),
            ("fe80::1", Class::Private),
            ("::ffff:192.168.1.1", Class::Private),
            ("127.0.0.53", Class::Loopback),
            ("::1", Class::Loopback),
            ("0.0.0.0", Class::Sinkhole),
            ("::", Class::Sinkhole),
            ("146.112.61.106", Class::Sinkhole),
            ("146.112.61.111", Class::Public),
        ] {
            assert_eq!(Class::of(ip.parse().unwrap()), class, "{ip}");
        }
        let mixed = ["17.1.1.1", "10.0.0.1"].map(|ip| ip.parse().unwrap());
        assert_eq!(Class::worst(mixed), Some(Class::Private));
    }
}
