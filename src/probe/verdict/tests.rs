//! Every code that one ladder can end with, by findings that end with it.

use super::*;
use crate::hop::{CertificateFault, ProxyRefusal};
use crate::probe::findings::{Answer, Controls, Shown, Tried};

fn base(proxied: bool) -> Findings {
    Findings {
        proxy: proxied.then(|| "proxy.corp.example:3128".parse().unwrap()),
        h2_only: true,
        servers: Some("192.0.2.53:53".to_owned()),
        addresses: Some(("17.188.143.34".to_owned(), Class::Public)),
        ..Findings::of("api.push.apple.com:443".parse().unwrap())
    }
}

fn failure(hop: Hop, stage: Stage, kind: HopErrorKind) -> Failure {
    let at_proxy = matches!(stage, Stage::ProxyTls | Stage::Connect) || hop == Hop::ToProxy;
    Failure { hop, stage, kind, cause: None, at_proxy }
}

fn proxied(hop: Hop, stage: Stage, kind: HopErrorKind) -> Findings {
    Findings { failure: Some(failure(hop, stage, kind)), ..base(true) }
}

fn direct(hop: Hop, stage: Stage, kind: HopErrorKind) -> Findings {
    Findings { failure: Some(failure(hop, stage, kind)), ..base(false) }
}

fn refusal(status: u16, squid: Option<&str>) -> HopErrorKind {
    HopErrorKind::ProxyRefused(Box::new(said(status, squid)))
}

fn said(status: u16, squid: Option<&str>) -> ProxyRefusal {
    ProxyRefusal {
        status,
        reason: "Refused".to_owned(),
        via: None,
        offered: vec!["Negotiate".to_owned(), "Basic".to_owned()],
        squid_error: squid.map(str::to_owned),
        marks: Vec::new(),
        page: String::new(),
    }
}

fn refused(status: u16, squid: Option<&str>) -> Findings {
    proxied(Hop::Proxy, Stage::Connect, refusal(status, squid))
}

fn tried(with: &str, failure: Option<Failure>) -> Option<Tried> {
    let with = with.parse().unwrap();
    Some(Tried { with, failure, issuer: None, inspected: false, alpn: None })
}

fn other_host(failure: Option<Failure>) -> Controls {
    Controls { other_host: tried("fcm.googleapis.com:443", failure), ..Controls::default() }
}

fn certificate(reason: CertificateFault, issuer: &str, subject: &str) -> HopErrorKind {
    HopErrorKind::Certificate {
        reason,
        issuer: Some(issuer.to_owned()),
        subject: Some(subject.to_owned()),
    }
}

fn alpn(chosen: Option<&str>, issuer: &str) -> HopErrorKind {
    let chosen = chosen.map(str::to_owned);
    HopErrorKind::AlpnNotH2 { chosen, issuer: Some(issuer.to_owned()) }
}

fn answer(status: u16, genuine: bool, content_type: &str) -> Option<Answer> {
    let content_type = Some(content_type.to_owned());
    Some(Answer { status, genuine, content_type, by: None, page: String::new() })
}

fn healthy() -> Findings {
    Findings {
        shown: Some(Shown { issuer: Some("CN=Apple Public CA".to_owned()), inspected: false }),
        alpn: Some("h2".to_owned()),
        ping: Some(true),
        answer: answer(403, true, "application/json"),
        ..base(true)
    }
}

fn with(mut findings: Findings, change: impl FnOnce(&mut Findings)) -> Findings {
    change(&mut findings);
    findings
}

fn inspected(shown: &mut Findings) {
    let issuer = Some("O=Zscaler Inc., CN=Zscaler Root CA".to_owned());
    shown.shown = Some(Shown { issuer, inspected: true });
}

/// Findings, the code and the hop that they must end with.
type Row = (Findings, Code, Hop);

fn healthy_rows() -> Vec<Row> {
    vec![
        (healthy(), Code::Healthy, Hop::None),
        (with(healthy(), inspected), Code::Inspected, Hop::Inspector),
        (with(healthy(), |f| f.ping = Some(false)), Code::PingLost, Hop::BeyondProxy),
        (with(healthy(), |f| f.idle = Some((60, false))), Code::IdleCut, Hop::BeyondProxy),
        (with(healthy(), |f| f.idle = Some((60, true))), Code::Healthy, Hop::None),
        (with(healthy(), |f| f.skew = Some(-900)), Code::ClockOff, Hop::RelayHost),
        (with(healthy(), |f| f.skew = Some(30)), Code::Healthy, Hop::None),
        (
            with(healthy(), |f| f.answer = answer(503, true, "application/json")),
            Code::OriginUnwell,
            Hop::Origin,
        ),
        (
            with(healthy(), |f| {
                f.h2_only = false;
                f.alpn = Some("http/1.1".to_owned());
            }),
            Code::Http1Only,
            Hop::None,
        ),
        (
            with(healthy(), |f| f.answer = answer(200, false, "text/html")),
            Code::BlockPageInside,
            Hop::Portal,
        ),
        (
            with(healthy(), |f| {
                inspected(f);
                f.answer = answer(200, false, "text/html; charset=utf-8");
            }),
            Code::BlockPageInside,
            Hop::Inspector,
        ),
        (
            with(healthy(), |f| f.answer = answer(502, false, "application/json")),
            Code::ForeignAnswer,
            Hop::BeyondProxy,
        ),
    ]
}

fn name_rows() -> Vec<Row> {
    use HopErrorKind as K;
    let at = |hop, kind| direct(hop, Stage::Resolve, kind);
    let timeout = || direct(Hop::Network, Stage::Tcp, K::Timeout);
    let addresses = |text: &str, class| {
        let text = text.to_owned();
        with(timeout(), |f| f.addresses = Some((text, class)))
    };
    vec![
        (at(Hop::Resolver, K::NameNotFound), Code::NameNotFound, Hop::Resolver),
        (at(Hop::Resolver, K::Timeout), Code::ResolverSilent, Hop::Resolver),
        (
            at(Hop::Resolver, K::Io(std::io::ErrorKind::NetworkUnreachable)),
            Code::ResolverSilent,
            Hop::Resolver,
        ),
        (
            at(Hop::Resolver, K::NameRefused("Server Failure".into())),
            Code::ResolverFailed,
            Hop::Resolver,
        ),
        (at(Hop::RelayHost, K::Io(std::io::ErrorKind::NotFound)), Code::NoResolver, Hop::RelayHost),
        (at(Hop::RelayHost, K::Loop(LoopCause::HostsFile)), Code::LoopHostsFile, Hop::RelayHost),
        (at(Hop::RelayHost, K::Loop(LoopCause::Stub)), Code::LoopStub, Hop::RelayHost),
        (at(Hop::Resolver, K::Loop(LoopCause::Zone)), Code::LoopZone, Hop::Resolver),
        (at(Hop::RelayHost, K::Loop(LoopCause::Proxy)), Code::LoopProxy, Hop::RelayHost),
        (
            proxied(Hop::BeyondProxy, Stage::Tls, K::Loop(LoopCause::OwnCertificate)),
            Code::LoopCertificate,
            Hop::BeyondProxy,
        ),
        (at(Hop::Resolver, K::Unreachable), Code::AddressSinkhole, Hop::Resolver),
        (addresses("146.112.61.106", Class::Sinkhole), Code::AddressSinkhole, Hop::Resolver),
        (addresses("127.0.0.1", Class::Loopback), Code::AddressSinkhole, Hop::Resolver),
        (addresses("10.0.0.1", Class::Private), Code::AddressPrivate, Hop::Resolver),
        // A pin may lead anywhere.
        (
            with(addresses("10.0.0.1", Class::Private), |f| f.pinned = true),
            Code::DirectFiltered,
            Hop::Network,
        ),
        (
            with(proxied(Hop::Resolver, Stage::Resolve, K::NameNotFound), |f| {
                f.failure.as_mut().unwrap().at_proxy = true;
            }),
            Code::ProxyNameNotFound,
            Hop::Resolver,
        ),
        (
            direct(Hop::RelayHost, Stage::Queue, K::Io(std::io::ErrorKind::NotFound)),
            Code::OurFault,
            Hop::RelayHost,
        ),
    ]
}

fn connection_rows() -> Vec<Row> {
    use HopErrorKind as K;
    let to_proxy = |kind| proxied(Hop::ToProxy, Stage::Tcp, kind);
    let straight = |kind| direct(Hop::Network, Stage::Tcp, kind);
    let connect = |kind| proxied(Hop::Proxy, Stage::Connect, kind);
    let silent = || proxied(Hop::BeyondProxy, Stage::Connect, K::Timeout);
    let seen = |expected| K::NotTheProtocol { expected, seen: "SSH-2.0".to_owned() };
    let tls_proxy = |f: &mut Findings| f.controls.proxy_tls = Some(true);
    vec![
        (to_proxy(K::Refused), Code::ProxyRefused, Hop::ToProxy),
        (to_proxy(K::Timeout), Code::ProxyFiltered, Hop::ToProxy),
        (to_proxy(K::Unreachable), Code::ProxyUnreachable, Hop::ToProxy),
        (straight(K::Refused), Code::DirectRefused, Hop::Network),
        (straight(K::Timeout), Code::DirectFiltered, Hop::Network),
        (straight(K::Unreachable), Code::DirectUnreachable, Hop::Network),
        (straight(K::Closed), Code::DirectClosed, Hop::Network),
        (proxied(Hop::Proxy, Stage::ProxyTls, seen("TLS")), Code::ProxyNotTls, Hop::Proxy),
        (proxied(Hop::Proxy, Stage::ProxyTls, K::Timeout), Code::ProxyTls, Hop::Proxy),
        (connect(seen("HTTP")), Code::ProxyNotHttp, Hop::Proxy),
        (with(connect(seen("HTTP")), tls_proxy), Code::ProxySpeaksTls, Hop::Proxy),
        (with(connect(K::Closed), tls_proxy), Code::ProxySpeaksTls, Hop::Proxy),
        (connect(K::Closed), Code::ProxyClosed, Hop::Proxy),
        (silent(), Code::ConnectTimeout, Hop::BeyondProxy),
        (with(silent(), |f| f.controls = other_host(None)), Code::ConnectWaits, Hop::BeyondProxy),
        (
            with(silent(), |f| {
                let same = failure(Hop::BeyondProxy, Stage::Connect, K::Timeout);
                f.controls = other_host(Some(same));
            }),
            Code::ProxyHung,
            Hop::Proxy,
        ),
    ]
}

fn refusal_rows() -> Vec<Row> {
    use HopErrorKind as K;
    let kind = |it: fn(Box<ProxyRefusal>) -> K| {
        proxied(Hop::Proxy, Stage::Connect, it(Box::new(said(407, None))))
    };
    let configured = |f: &mut Findings| f.credentials = true;
    let other = |status| {
        let refused = failure(Hop::Proxy, Stage::Connect, refusal(status, None));
        move |f: &mut Findings| f.controls = other_host(Some(refused))
    };
    vec![
        (kind(K::CredentialsMissing), Code::AuthMissing, Hop::RelayHost),
        (with(kind(K::CredentialsMissing), configured), Code::AuthScheme, Hop::RelayHost),
        (kind(K::CredentialsRefused), Code::AuthRefused, Hop::Proxy),
        (proxied(Hop::Proxy, Stage::Connect, K::CredentialsLatched), Code::AuthRefused, Hop::Proxy),
        (refused(403, None), Code::Policy, Hop::Proxy),
        (with(refused(403, None), |f| f.controls = other_host(None)), Code::PolicyHost, Hop::Proxy),
        (with(refused(403, None), other(403)), Code::PolicyAll, Hop::Proxy),
        (with(refused(403, None), other(503)), Code::PolicyHost, Hop::Proxy),
        (
            with(refused(403, None), |f| {
                f.h2_only = false;
                f.controls.other_port = tried("api.push.apple.com:443", None);
            }),
            Code::PolicyPort,
            Hop::Proxy,
        ),
        (refused(503, Some("ERR_DNS_FAIL 0")), Code::ProxyDns, Hop::Proxy),
        (refused(503, Some("ERR_CONNECT_FAIL 111")), Code::BehindRefused, Hop::BeyondProxy),
        (refused(503, Some("ERR_CONNECT_FAIL 110")), Code::BehindTimeout, Hop::BeyondProxy),
        (refused(500, Some("ERR_CANNOT_FORWARD 0")), Code::CannotForward, Hop::Proxy),
        (refused(502, None), Code::Gateway, Hop::BeyondProxy),
        (refused(503, None), Code::Gateway, Hop::BeyondProxy),
        (refused(504, None), Code::BehindTimeout, Hop::BeyondProxy),
        (refused(500, None), Code::ProxyBroken, Hop::Proxy),
        (with(refused(503, None), other(503)), Code::Gateway, Hop::Proxy),
        // tinyproxy's word for an origin that it cannot reach.
        (
            with(refused(500, None), |f| f.controls = other_host(None)),
            Code::Gateway,
            Hop::BeyondProxy,
        ),
        (with(refused(500, None), other(500)), Code::ProxyBroken, Hop::Proxy),
        (refused(429, None), Code::ProxyBusy, Hop::Proxy),
        (refused(302, None), Code::PortalRedirect, Hop::Portal),
        (refused(511, None), Code::PortalRedirect, Hop::Portal),
        (refused(405, None), Code::NotAConnectProxy, Hop::Proxy),
        (
            with(refused(403, None), |f| {
                f.controls.other_port = tried("api.push.apple.com:2197", None);
            }),
            Code::OtherPort,
            Hop::Proxy,
        ),
    ]
}

fn tls_rows() -> Vec<Row> {
    use CertificateFault as F;
    use HopErrorKind as K;
    let through = |hop, kind| proxied(hop, Stage::Tls, kind);
    let beyond = |kind| through(Hop::BeyondProxy, kind);
    let straight = |kind| direct(Hop::Network, Stage::Tls, kind);
    let page = || K::NotTheProtocol { expected: "TLS", seen: "HTTP/1.1 200 OK".to_owned() };
    let host = |f: &mut Findings| f.controls = other_host(None);
    let small = |f: &mut Findings| f.controls.small_hello = tried("api.push.apple.com:443", None);
    let corp = |reason| certificate(reason, "CN=Corp CA", "CN=api.push.apple.com");
    vec![
        (through(Hop::Portal, page()), Code::PortalPage, Hop::Portal),
        (beyond(page()), Code::ForeignBytes, Hop::BeyondProxy),
        (beyond(K::Closed), Code::TunnelReset, Hop::BeyondProxy),
        (with(beyond(K::Closed), host), Code::TunnelResetHost, Hop::BeyondProxy),
        (straight(K::Closed), Code::NetworkReset, Hop::Network),
        (beyond(K::Timeout), Code::TunnelSilent, Hop::BeyondProxy),
        (with(beyond(K::Timeout), host), Code::TunnelSilentHost, Hop::BeyondProxy),
        (straight(K::Timeout), Code::NetworkSilent, Hop::Network),
        (with(straight(K::Timeout), small), Code::HelloTooLarge, Hop::Network),
        (with(beyond(K::Closed), small), Code::HelloTooLarge, Hop::BeyondProxy),
        (beyond(K::Alert("ProtocolVersion (70)".into())), Code::TlsVersion, Hop::BeyondProxy),
        (
            beyond(K::Protocol("peer is incompatible: no version".into())),
            Code::TlsVersion,
            Hop::BeyondProxy,
        ),
        (straight(K::Alert("HandshakeFailure (40)".into())), Code::TlsAlert, Hop::Origin),
        (beyond(K::Protocol("corrupt message".into())), Code::TlsBroken, Hop::BeyondProxy),
        (beyond(corp(F::WrongName)), Code::CertName, Hop::BeyondProxy),
        (beyond(corp(F::OwnIssuer)), Code::RelayInPlace, Hop::BeyondProxy),
        (beyond(corp(F::Other)), Code::CertOther, Hop::BeyondProxy),
        (through(Hop::Inspector, corp(F::UnknownIssuer)), Code::InspectorUnknown, Hop::Inspector),
        (
            through(
                Hop::Inspector,
                certificate(F::UnknownIssuer, "O=Fortinet, CN=FGT60", "CN=api.push.apple.com"),
            ),
            Code::InspectorKnown,
            Hop::Inspector,
        ),
        (
            beyond(certificate(F::UnknownIssuer, "CN=box", "CN=box")),
            Code::SelfSigned,
            Hop::BeyondProxy,
        ),
    ]
}

/// Certificates whose dates are refused: the clock decides, as far as anybody tells the time.
fn dated_rows() -> Vec<Row> {
    use CertificateFault as F;
    let through = |hop, kind| proxied(hop, Stage::Tls, kind);
    let corp = |reason| certificate(reason, "CN=Corp CA", "CN=api.push.apple.com");
    let late = |f: &mut Findings| f.skew = Some(86_400);
    let right = |f: &mut Findings| f.skew = Some(-2);
    vec![
        (through(Hop::Origin, corp(F::Expired)), Code::CertExpired, Hop::BeyondProxy),
        (through(Hop::Inspector, corp(F::Expired)), Code::CertExpired, Hop::Inspector),
        (with(through(Hop::Origin, corp(F::Expired)), late), Code::ClockWrong, Hop::RelayHost),
        // Somebody else's clock agrees with ours: it is the certificate.
        (with(through(Hop::Origin, corp(F::Expired)), right), Code::CertExpired, Hop::BeyondProxy),
        (
            with(through(Hop::RelayHost, corp(F::NotYetValid)), right),
            Code::ClockBehind,
            Hop::BeyondProxy,
        ),
        (
            with(through(Hop::Origin, corp(F::Expired)), |f| {
                let too = failure(Hop::Origin, Stage::Tls, corp(F::Expired));
                f.controls = other_host(Some(too));
            }),
            Code::CertExpired,
            Hop::RelayHost,
        ),
        (through(Hop::RelayHost, corp(F::NotYetValid)), Code::ClockBehind, Hop::RelayHost),
    ]
}

fn http2_rows() -> Vec<Row> {
    use HopErrorKind as K;
    let at_alpn = |chosen| proxied(Hop::BeyondProxy, Stage::Alpn, alpn(chosen, "CN=Public CA"));
    let settings = |kind| proxied(Hop::BeyondProxy, Stage::Settings, kind);
    let asked = |kind| proxied(Hop::BeyondProxy, Stage::Request, kind);
    let from_both = |f: &mut Findings| {
        f.controls.both_alpn = tried("api.push.apple.com:443", None);
        f.controls.both_alpn.as_mut().unwrap().alpn = Some("http/1.1".to_owned());
    };
    let alert = || {
        let kind = K::Alert("NoApplicationProtocol (120)".into());
        proxied(Hop::BeyondProxy, Stage::Tls, kind)
    };
    let bumped = |f: &mut Findings| {
        f.controls.no_alpn = tried("api.push.apple.com:443", None);
        f.controls.no_alpn.as_mut().unwrap().issuer = Some("CN=squid.corp.example".to_owned());
    };
    let text = |expected| K::NotTheProtocol { expected, seen: "HTTP/1.1 400".to_owned() };
    vec![
        (at_alpn(None), Code::AlpnStripped, Hop::BeyondProxy),
        (with(at_alpn(None), inspected), Code::AlpnStripped, Hop::Inspector),
        (with(at_alpn(None), from_both), Code::AlpnHttp1, Hop::BeyondProxy),
        (with(at_alpn(Some("http/1.1")), inspected), Code::AlpnHttp1, Hop::Inspector),
        (alert(), Code::AlpnRefused, Hop::BeyondProxy),
        (with(alert(), bumped), Code::AlpnRefused, Hop::Inspector),
        (with(alert(), from_both), Code::AlpnHttp1, Hop::BeyondProxy),
        (settings(K::Timeout), Code::H2Swallowed, Hop::BeyondProxy),
        (with(settings(K::Timeout), inspected), Code::H2Swallowed, Hop::Inspector),
        (settings(text("HTTP/2")), Code::H2Http1, Hop::BeyondProxy),
        (settings(K::Closed), Code::H2Closed, Hop::BeyondProxy),
        (
            with(settings(K::Closed), |f| {
                let cause = "received fatal alert: CertificateRequired";
                f.failure.as_mut().unwrap().cause = Some(cause.to_owned());
            }),
            Code::TlsAlert,
            Hop::BeyondProxy,
        ),
        (settings(K::Protocol("a bad frame".into())), Code::H2Broken, Hop::BeyondProxy),
        (
            with(asked(K::Protocol("a bad setting".into())), |f| f.alpn = Some("h2".into())),
            Code::H2Broken,
            Hop::BeyondProxy,
        ),
        (
            with(settings(K::Closed), |f| f.controls.bare_settings = Some(true)),
            Code::SettingsValue,
            Hop::BeyondProxy,
        ),
        (settings(K::GoAway { code: 0, reason: None }), Code::GoAway, Hop::BeyondProxy),
        (asked(K::GoAway { code: 0, reason: None }), Code::GoAway, Hop::BeyondProxy),
        (asked(K::Reset { code: 7 }), Code::StreamRefused, Hop::BeyondProxy),
        (asked(K::Timeout), Code::RequestSilent, Hop::BeyondProxy),
        (
            with(asked(K::Timeout), |f| f.controls.large_request = Some(false)),
            Code::LargeRequest,
            Hop::BeyondProxy,
        ),
        (asked(K::Closed), Code::RequestCut, Hop::BeyondProxy),
        (asked(K::BudgetExhausted), Code::Unexplained, Hop::BeyondProxy),
    ]
}

fn rows() -> Vec<Row> {
    let groups = [
        healthy_rows(),
        name_rows(),
        connection_rows(),
        refusal_rows(),
        tls_rows(),
        dated_rows(),
        http2_rows(),
    ];
    groups.into_iter().flatten().collect()
}

#[test]
fn each_finding_ends_with_its_code_and_hop() {
    for (number, (findings, code, hop)) in rows().into_iter().enumerate() {
        let verdict = judge(&findings);
        let got = (verdict.code, verdict.hop);
        assert_eq!(got, (code.word(), hop.word()), "row {number}: {}", verdict.sentence);
        assert!(code.row().hops.contains(&hop), "{} is not said of {hop}", code.word());
    }
}

#[test]
fn every_code_of_a_ladder_has_a_row() {
    let seen: std::collections::BTreeSet<_> = rows().into_iter().map(|row| row.1).collect();
    for code in Code::ALL {
        let through = code.word().starts_with("through_");
        assert!(through || seen.contains(code), "no row ends with {}", code.word());
    }
}

#[test]
fn sentences_are_whole_and_name_what_is_known() {
    for (findings, code, _) in rows() {
        let verdict = judge(&findings);
        for text in [&verdict.sentence, &verdict.action] {
            assert!(!text.contains(['{', '}']) && !text.contains("  "), "{}: {text}", code.word());
            assert!(!text.contains("()") && !text.contains(" ,"), "{}: {text}", code.word());
        }
        assert!(verdict.sentence.ends_with('.'), "{}", verdict.sentence);
        let fail = verdict.severity == Severity::Fail;
        assert!(!fail || !verdict.action.is_empty(), "{}", code.word());
    }
}

#[test]
fn what_speaks_for_a_box_or_a_server_is_told() {
    let reason = CertificateFault::UnknownIssuer;
    let kind = || certificate(reason, "CN=Corp CA", "CN=api.push.apple.com");
    let mut findings = proxied(Hop::Inspector, Stage::Tls, kind());
    findings.controls = other_host(None);
    assert!(judge(&findings).sentence.contains(" For a server speaks that "));
    findings.controls = other_host(Some(failure(Hop::Inspector, Stage::Tls, kind())));
    findings.controls.other_host.as_mut().unwrap().issuer = Some("CN=Corp CA".to_owned());
    assert!(judge(&findings).sentence.contains(" For a box speaks that "));
}

#[test]
fn a_direct_control_rung_is_told_of() {
    let mut findings = refused(403, None);
    findings.controls.direct = tried("api.push.apple.com:443", None);
    assert!(
        judge(&findings).sentence.contains("Directly, without the proxy, the same host answers")
    );
}

/// A service of one's own may be down, and may stand on an internal address.
#[test]
fn a_service_of_ones_own_is_not_blamed_on_a_firewall_alone() {
    let own = |mut findings: Findings| {
        findings.own = true;
        findings.addresses = Some(("10.1.2.3".to_owned(), Class::Private));
        judge(&findings)
    };
    let refused = own(direct(Hop::Network, Stage::Tcp, HopErrorKind::Refused));
    assert_eq!(refused.code, "origin_port_closed");
    assert!(refused.sentence.ends_with("nobody listens there, or a firewall resets."));
    assert!(refused.action.starts_with("See whether the service runs there. Ask for TCP"));
    let silent = own(direct(Hop::Network, Stage::Tcp, HopErrorKind::Timeout));
    assert!(silent.sentence.ends_with("or the machine is off."), "{}", silent.sentence);
    let apns = judge(&direct(Hop::Network, Stage::Tcp, HopErrorKind::Refused));
    assert!(apns.sentence.ends_with("and the provider does not refuse: a firewall resets."));
    assert!(apns.action.starts_with("Ask for TCP"), "{}", apns.action);
}
