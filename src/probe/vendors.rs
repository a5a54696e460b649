//! Products that inspect TLS, by the issuer that their default certificates carry, and the knob
//! that brings HTTP/2 back where their documentation names one.
//!
//! The issuer strings are from product documentation and public reports; none was seen live by us,
//! so a match is a pointer, never a proof. Operators often replace the default issuer by one of
//! their own: then no product can be named.

/// A product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    /// Its name.
    pub name: &'static str,
    /// What stands in the issuer, lower case; any of them.
    marks: &'static [&'static str],
    /// The setting to ask for; empty where none is known.
    pub knob: &'static str,
}

const VENDORS: &[Vendor] = &[
    Vendor {
        name: "Zscaler",
        marks: &["zscaler"],
        knob: "In Zscaler Internet Access: SSL inspection policy, action Do Not Inspect, or HTTP/2 inspection for the tenant.",
    },
    Vendor {
        name: "Netskope",
        marks: &["netskope", "goskope"],
        knob: "In Netskope: SSL Decryption policy, action Do Not Decrypt.",
    },
    Vendor {
        name: "Symantec (Blue Coat) ProxySG",
        marks: &["blue coat", "bluecoat", "proxysg", "symantec web"],
        knob: "On ProxySG: detect_protocol(none) for these hosts, or SGOS 7.1 and later for HTTP/2.",
    },
    Vendor {
        name: "Skyhigh (McAfee) Web Gateway",
        marks: &["mcafee", "skyhigh"],
        knob: "On Skyhigh Web Gateway: SSL Scanner rule set, an exception for these hosts, or HTTP/2 enabled on both sides.",
    },
    Vendor {
        name: "Forcepoint Web Security",
        marks: &["forcepoint", "websense"],
        knob: "In Forcepoint: SSL Decryption Bypass for these hosts.",
    },
    Vendor {
        name: "Palo Alto Networks firewall",
        marks: &["palo alto", "pan-os"],
        knob: "On PAN-OS: a no-decrypt rule for these hosts, or `Strip ALPN` off in the decryption profile.",
    },
    Vendor {
        name: "Fortinet FortiGate",
        marks: &["fortinet", "fortigate", "fortigate ca"],
        knob: "On FortiOS: exempt the hosts in the ssl-ssh-profile, or `set supported-alpn all` there.",
    },
    Vendor {
        name: "Check Point",
        marks: &["check point", "checkpoint"],
        knob: "On Check Point: an HTTPS Inspection bypass rule for these hosts.",
    },
    Vendor {
        name: "Cisco Umbrella",
        marks: &["cisco umbrella", "opendns"],
        knob: "In Umbrella: Selective Decryption List with these hosts.",
    },
    Vendor {
        name: "Cisco Secure Web Appliance",
        marks: &["cisco", "ironport"],
        knob: "On the Secure Web Appliance: decryption policy Pass Through, or HTTP2CONFIG on AsyncOS 14 and later.",
    },
    Vendor {
        name: "Sophos",
        marks: &["sophos", "astaro"],
        knob: "On Sophos: a TLS exclusion for these hosts.",
    },
    Vendor {
        name: "Barracuda",
        marks: &["barracuda"],
        knob: "On Barracuda: an SSL Inspection exemption for these hosts.",
    },
    Vendor {
        name: "WatchGuard Firebox",
        marks: &["watchguard", "fireware"],
        knob: "On the Firebox: a domain-name rule Allow (not Inspect) in the HTTPS proxy action.",
    },
    Vendor {
        name: "SonicWall",
        marks: &["sonicwall"],
        knob: "On SonicWall: exclude the hosts in DPI-SSL Client.",
    },
    Vendor { name: "Trend Micro", marks: &["trend micro", "interscan"], knob: "" },
    Vendor { name: "Untangle or Arista NG Firewall", marks: &["untangle"], knob: "" },
    Vendor { name: "Smoothwall", marks: &["smoothwall"], knob: "" },
    Vendor { name: "iboss", marks: &["iboss"], knob: "" },
    Vendor { name: "Menlo Security", marks: &["menlo security"], knob: "" },
    Vendor {
        name: "Cloudflare Gateway",
        marks: &["cloudflare for teams", "gateway ca - cloudflare"],
        knob: "In Cloudflare Zero Trust: an HTTP policy Do Not Inspect for these hosts.",
    },
    Vendor { name: "Kaspersky", marks: &["kaspersky"], knob: "" },
    Vendor { name: "ESET", marks: &["eset ssl filter"], knob: "" },
    Vendor { name: "Avast", marks: &["avast"], knob: "" },
    Vendor { name: "Bitdefender", marks: &["bitdefender"], knob: "" },
    Vendor {
        name: "Squid",
        marks: &["squid"],
        knob: "In squid.conf: `ssl_bump splice` for these hosts; Squid knows no HTTP/2.",
    },
    Vendor {
        name: "mitmproxy",
        marks: &["mitmproxy"],
        knob: "In mitmproxy: ignore_hosts for these hosts.",
    },
    Vendor { name: "Burp", marks: &["portswigger"], knob: "" },
    Vendor { name: "Charles", marks: &["charles proxy"], knob: "" },
    Vendor { name: "Fiddler", marks: &["do_not_trust_fiddlerroot", "fiddler"], knob: "" },
];

/// The product that an issuer names.
pub fn by_issuer(issuer: &str) -> Option<&'static Vendor> {
    let issuer = issuer.to_lowercase();
    VENDORS.iter().find(|vendor| vendor.marks.iter().any(|mark| issuer.contains(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_name_products_and_public_ones_name_none() {
        for (issuer, name) in [
            ("C=US, ST=California, O=Zscaler Inc., CN=Zscaler Intermediate Root CA", "Zscaler"),
            ("CN=ca.corp.goskope.com, O=Corp", "Netskope"),
            ("O=Blue Coat Systems, CN=ProxySG", "Symantec (Blue Coat) ProxySG"),
            ("CN=McAfee Web Gateway", "Skyhigh (McAfee) Web Gateway"),
            ("CN=Forcepoint Cloud CA", "Forcepoint Web Security"),
            ("O=Palo Alto Networks, CN=decrypt", "Palo Alto Networks firewall"),
            ("O=Fortinet, CN=FG100E", "Fortinet FortiGate"),
            ("O=Check Point Software", "Check Point"),
            ("O=Cisco, CN=Cisco Umbrella Secondary SubCA", "Cisco Umbrella"),
            ("O=Cisco, CN=wsa", "Cisco Secure Web Appliance"),
            ("CN=Sophos SSL CA", "Sophos"),
            ("O=Barracuda Networks", "Barracuda"),
            ("O=WatchGuard, CN=Fireware web CA", "WatchGuard Firebox"),
            ("CN=squid.corp.example", "Squid"),
            ("CN=mitmproxy, O=mitmproxy", "mitmproxy"),
        ] {
            assert_eq!(by_issuer(issuer).unwrap().name, name, "{issuer}");
        }
        for issuer in [
            "C=US, O=Apple Inc., CN=Apple Public Server RSA CA 1 - G1",
            "C=US, O=Google Trust Services, CN=WR2",
            "C=US, O=DigiCert Inc, CN=DigiCert Global G2 TLS RSA SHA256 2020 CA1",
            "C=GB, O=Sectigo Limited, CN=Sectigo RSA",
            "O=Corp, CN=Corp Inspection CA",
        ] {
            assert!(by_issuer(issuer).is_none(), "{issuer}");
        }
    }
}
