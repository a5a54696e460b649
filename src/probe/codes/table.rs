//! The table of codes.

use super::{Row, Severity};
use crate::hop::Hop;

/// Declares the enum and its table in one place, so that no code lacks an explanation.
macro_rules! codes {
    ($($name:ident $word:literal $severity:ident [$($hop:ident)+] $sentence:literal, $action:literal, $means:literal;)+) => {
        /// A stable code; its meaning stands in [`Code::row`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $means] $name,)+
        }

        impl Code {
            /// Every code, in the order of the path.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its row.
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Self::$name => &Row {
                        word: $word,
                        severity: Severity::$severity,
                        hops: &[$(Hop::$hop),+],
                        sentence: $sentence,
                        action: $action,
                        means: $means,
                    },)+
                }
            }
        }
    };
}

codes! {
    // Healthy, or nearly.
    Healthy "ok" Ok [None]
        "{origin} answers {way}: every rung was climbed, {detail}.",
        "",
        "The whole path works: name, connection, proxy, TLS, HTTP/2 and the provider's own answer.";
    Inspected "inspected" Warn [Inspector]
        "{vendor} inspects TLS to {origin} {way}; HTTP/2 survives it, as far as can be seen today.",
        "Ask for an exception from TLS inspection for {host}:{port}: providers do not support inspection, and the next update of the box may end HTTP/2. {knob}",
        "The certificate chains to a root that you declared as an inspector's. Pushes get through, and the box reads them.";
    OtherPort "works_on_other_port" Warn [Proxy ToProxy BeyondProxy Network Origin Inspector Portal]
        "{origin} fails {way}, but port {other_port} of the same host works, and the relay uses it. On {port}: {cause}",
        "Ask for port {port} too, or write `ports: [{other_port}]` into the route so that nothing is lost on trying {port}.",
        "APNs listens on 443 and 2197. One of them is blocked or inspected on your path, the other is not.";
    Http1Only "http1_only" Warn [None]
        "{origin} answers {way}, but over HTTP/1.1: a box or the origin itself offers no HTTP/2.",
        "Nothing has to be done for a few pushes a second; for more, ask for HTTP/2 to {host}.",
        "FCM and Mattermost work over HTTP/1.1 too. APNs does not: there the probe fails.";
    PingLost "ping_lost" Warn [BeyondProxy Network Origin]
        "{origin} answers requests {way}, but an HTTP/2 PING got no answer.",
        "Ask whether the box between answers or passes HTTP/2 PING. Without it the relay drops quiet connections and dials again.",
        "The relay finds dead connections by PING. Who swallows it cannot be told from here.";
    IdleCut "idle_cut" Warn [BeyondProxy Network]
        "{origin} works {way}, but a connection that was idle for {seconds} s was dead afterwards.",
        "Ask for an idle time-out above {seconds} s for {host}:{port}, or set `lane.ping` of the egress below it.",
        "Something on the path forgets idle connections. Who did it cannot be told from here: it just falls silent.";
    ClockOff "clock_off" Warn [RelayHost]
        "{origin} works {way}, but the clock of this machine differs by {seconds} s from that of {timed_by}.",
        "Set the clock of this machine (chrony or systemd-timesyncd).",
        "Provider tokens are valid for an hour at most and certificates by date: a wrong clock breaks both later.";
    OriginUnwell "provider_unwell" Warn [Origin]
        "The path to {origin} works {way}, but the provider answered {status}.",
        "Look at the provider's status page; nothing is wrong with the path.",
        "The answer is the provider's own, and it says that it is overloaded or broken.";

    // Names and addresses.
    NameNotFound "name_not_found" Fail [Resolver]
        "The name server does not know {host}: it has no address there.",
        "Ask for {host} to be known to the name server {servers}, or send through a proxy, which resolves by itself.",
        "The name servers of the relay say that the name has no address. Inside many networks only the proxy resolves outside names.";
    ResolverSilent "resolver_silent" Fail [Resolver]
        "The name server {servers} does not answer the question for {host}.",
        "Ask whether this machine may reach the name server {servers} on UDP and TCP port 53, or name others in `dns.servers`.",
        "No answer came in time: the server is down, or a firewall drops the question.";
    ResolverFailed "resolver_failed" Fail [Resolver]
        "The name server {servers} answers the question for {host} with an error ({detail}).",
        "Ask the name server's people why it refuses or fails for {host}.",
        "The server answered SERVFAIL, REFUSED or something that is no answer.";
    NoResolver "no_name_server" Fail [RelayHost]
        "This machine names no server to resolve {host} with.",
        "Write a server into /etc/resolv.conf or into `dns.servers` of the egress.",
        "The relay never takes routed names from the hosts file, so it needs a name server.";
    LoopHostsFile "loop_hosts_file" Fail [RelayHost]
        "The hosts file of this machine leads {host} back to the relay itself.",
        "Set `dns.hosts_file: never` for the egress, or take the entry out of the hosts file.",
        "The sender's redirect is used by the relay too, so it would dial itself.";
    LoopStub "loop_stub" Fail [RelayHost]
        "The name service of this machine ({servers}) answers {host} from the hosts file, with the relay's own address.",
        "Name the real servers in `dns.servers` of the egress.",
        "A stub such as systemd-resolved or dnsmasq reads the hosts file, and its upstreams could not be found.";
    LoopZone "loop_zone" Fail [Resolver]
        "The name server {servers} gives the relay's own address for {host}.",
        "Name a server without that zone in `dns.servers`, or pin the origin by `connect_to`.",
        "An internal zone redirects the name to the relay for every machine, the relay included.";
    LoopProxy "loop_proxy" Fail [RelayHost]
        "The configured proxy or pin leads back to the relay itself.",
        "Correct `proxies` or `connect_to` of the egress: they name an address on which this relay listens.",
        "The relay would send pushes to itself.";
    LoopCertificate "loop_certificate" Fail [RelayHost BeyondProxy Network]
        "What answers for {host} {way} is this relay: it shows the relay's own certificate.",
        "Ask the people of the proxy and of its name server why {host} leads to the relay there.",
        "Somewhere on the way the name is redirected to the relay, most likely in a zone or hosts file that the proxy uses.";
    RelayInPlace "relay_in_place_of_origin" Fail [BeyondProxy Network RelayHost]
        "A relay with our own issuer answers for {host} {way}, where the provider should be.",
        "If that relay is meant, write `next_hop: relay` into the route; else take the redirect of {host} out of that network's zone.",
        "The certificate is from our own issuer, so another relay of yours stands there.";
    AddressSinkhole "address_sinkhole" Fail [Resolver]
        "The name server {servers} answers {host} with {addresses}, which is no host: the name is blocked by DNS.",
        "Ask the name server's people to take {host} off their block list.",
        "DNS filters answer blocked names with 0.0.0.0, a loopback address or a page of their own.";
    AddressPrivate "address_private" Fail [Resolver]
        "The name server {servers} answers {host} with {addresses}, an address inside your network: the provider is not there.",
        "Ask who answers for {host} in the internal zone; if a relay or gateway is meant, write its name into the route.",
        "Push providers have public addresses only, so an internal zone or filter stands in their place.";

    // To the proxy.
    ProxyNameNotFound "proxy_name_not_found" Fail [Resolver]
        "The proxy's name {proxy} cannot be resolved.",
        "Check the proxy's name, or ask for it in the zones of the name server {servers}.",
        "Either the name is misspelt or the name server does not know it.";
    ProxyRefused "proxy_port_closed" Fail [ToProxy]
        "The connection to the proxy {proxy} is refused: nobody listens there, or a firewall resets.",
        "Check address and port of the proxy; ask whether this machine's network may reach {proxy}.",
        "A closed port and a firewall that resets look the same from here.";
    ProxyFiltered "proxy_filtered" Fail [ToProxy]
        "The proxy {proxy} does not answer at all: a firewall drops the connection, or the proxy is off.",
        "Ask for TCP from this machine to {proxy}.",
        "A filtered port and a machine that is off look the same from here.";
    ProxyUnreachable "proxy_unreachable" Fail [ToProxy]
        "There is no route from this machine to the proxy {proxy}.",
        "Check this machine's routes and the proxy's address.",
        "The network stack or a router says that the address cannot be reached.";
    ProxySpeaksTls "proxy_speaks_tls" Fail [Proxy]
        "The proxy {proxy} speaks TLS, and it was spoken to in clear.",
        "Write `https://{proxy}` in place of `http://{proxy}`.",
        "The first bytes of the proxy are TLS, or it completes a TLS handshake.";
    ProxyNotTls "proxy_not_tls" Fail [Proxy]
        "The proxy {proxy} does not speak TLS, and it was spoken to in TLS.",
        "Write `http://{proxy}` in place of `https://{proxy}`.",
        "The bytes that came back are not TLS.";
    ProxyTls "proxy_tls_failed" Fail [Proxy]
        "TLS with the proxy {proxy} fails: {detail}.",
        "Name the root of the proxy's certificate in `roots` of this proxy, or ask for a certificate in its name.",
        "The proxy's own certificate or TLS version is not acceptable.";
    ProxyNotHttp "proxy_not_http" Fail [Proxy]
        "What listens at {proxy} is no HTTP proxy: it answered {detail}.",
        "Check the proxy's address and port: this one belongs to another service.",
        "The answer to CONNECT is not HTTP.";
    NotAConnectProxy "not_a_connect_proxy" Fail [Proxy]
        "What listens at {proxy} does not do CONNECT: it answered {status}.",
        "Check the proxy's address and port, or ask for CONNECT to be allowed there.",
        "A web server, a reverse proxy or a proxy for plain HTTP only answers so.";
    ProxyClosed "proxy_closed" Fail [Proxy]
        "The proxy {proxy} takes the connection and closes it without an answer to CONNECT.",
        "Ask whether this machine's address may use the proxy {proxy}, and for CONNECT to {origin}.",
        "Proxies that admit by source address, and overloaded ones, close without a word.";
    ProxyHung "proxy_hung" Fail [Proxy]
        "The proxy {proxy} takes connections and answers no CONNECT, to {control} neither.",
        "Ask the proxy's people whether the proxy at {proxy} is stuck.",
        "No CONNECT is answered, so it is the proxy and not the target.";
    ConnectWaits "connect_waits_for_origin" Fail [BeyondProxy]
        "The proxy {proxy} answers for {control} but waits for {origin}: a firewall beyond the proxy drops it, or the proxy's name server is silent about this name.",
        "Ask for TCP from the proxy {proxy} to {origin}, and whether the proxy can resolve that name.",
        "The proxy works for another host, so what it waits for lies beyond it: its connection to the provider, or the provider's name.";
    ConnectTimeout "connect_timeout" Fail [BeyondProxy]
        "The proxy {proxy} does not answer CONNECT to {origin} in time.",
        "Ask the proxy's people what becomes of CONNECT {origin} from this machine.",
        "A hung proxy and one that waits for a dropped origin look the same while no other host tells them apart.";

    // What the proxy answers.
    AuthMissing "proxy_auth_missing" Fail [RelayHost]
        "The proxy {proxy} wants credentials (it offers {offered}) and the relay has none.",
        "Ask for a service account and write it into `credentials` of this proxy.",
        "407 Proxy Authentication Required, and no credentials are configured.";
    AuthScheme "proxy_auth_scheme" Fail [RelayHost]
        "The proxy {proxy} offers {offered}, and the configured credentials are for none of these.",
        "Configure credentials of a kind that is offered (basic, ntlm, negotiate), or ask for one of those.",
        "407 Proxy Authentication Required without a scheme that the relay was given credentials for.";
    AuthRefused "proxy_auth_refused" Fail [Proxy]
        "The proxy {proxy} refuses the configured credentials ({status}, offers {offered}).",
        "Check user and password; ask whether the account is locked and may CONNECT to {origin}. The relay does not try again, so that no account gets locked.",
        "A wrong password and an account without permission get the same answer, so they cannot be told apart here.";
    PolicyPort "policy_port" Fail [Proxy]
        "The proxy {proxy} forbids port {port} ({status}), other ports of the same path are open.",
        "Ask for CONNECT to {origin}; many proxies allow port 443 only.",
        "The refusal is for the port: another port through the same proxy is not refused.";
    PolicyHost "policy_host" Fail [Proxy]
        "The proxy {proxy} forbids {host} ({status}), but allows {control}.",
        "Ask for CONNECT to {origin} for this machine's address or account.",
        "The refusal is for the name or its category: another host through the same proxy is not refused.";
    PolicyAll "policy_everything" Fail [Proxy]
        "The proxy {proxy} forbids {origin} ({status}), and {control} as well: it is about this machine or account.",
        "Ask for this machine's address or account to be allowed to use the proxy {proxy}.",
        "Every CONNECT is refused, so neither the host nor the port is the reason.";
    Policy "policy" Fail [Proxy]
        "The proxy {proxy} forbids CONNECT to {origin} ({status}).",
        "Ask for CONNECT to {origin} for this machine's address or account.",
        "403 Forbidden. Whether port, name or account is the reason could not be told apart.";
    ProxyDns "proxy_dns" Fail [Proxy]
        "The proxy {proxy} cannot resolve {host} ({detail}).",
        "Ask the proxy's people for resolution of {host} on the proxy.",
        "The proxy says that its name server does not know the name.";
    BehindRefused "beyond_proxy_refused" Fail [BeyondProxy]
        "The proxy {proxy} reaches out, and its connection to {origin} is refused ({detail}).",
        "Ask for TCP from the proxy {proxy} to {origin}: a firewall beyond it resets.",
        "Squid reports error 111, connection refused, for its own connection.";
    BehindTimeout "beyond_proxy_timeout" Fail [BeyondProxy]
        "The proxy {proxy} reaches out, and its connection to {origin} is dropped ({detail}).",
        "Ask for TCP from the proxy {proxy} to {origin}: a firewall beyond it drops.",
        "Squid reports error 110, or the proxy answers 504: its own connection got no answer.";
    CannotForward "proxy_cannot_forward" Fail [Proxy]
        "The proxy {proxy} cannot forward to {origin} ({detail}): its name server or its parent proxy fails.",
        "Ask the proxy's people to look at name resolution and parent proxies of {proxy} for {host}.",
        "Squid says ERR_CANNOT_FORWARD for its own DNS and for a dead parent alike.";
    Gateway "proxy_gateway_error" Fail [BeyondProxy Proxy]
        "The proxy {proxy} answers {status} to CONNECT {origin}: it says that it cannot reach it.",
        "Ask the proxy's people why {origin} cannot be reached from {proxy}; the time of the attempt stands in the report.",
        "502, 503 and 504 mean that the proxy's own connection failed, or that the proxy hides a policy.";
    ProxyBroken "proxy_broken" Fail [Proxy]
        "The proxy {proxy} fails with {status} on CONNECT {origin}.",
        "Ask the proxy's people to look up the attempt in their log by its time.",
        "An internal error of the proxy, or an answer that is not in the rules.";
    ProxyBusy "proxy_busy" Fail [Proxy]
        "The proxy {proxy} answers {status}: too many connections of this machine.",
        "Ask for a higher connection limit for this machine at {proxy}.",
        "Proxies limit connections by source address.";
    PortalRedirect "portal_redirect" Fail [Portal]
        "A portal answers in place of the proxy {proxy}: {status} on CONNECT {origin}.",
        "Ask for this machine to be taken out of the login or warning page.",
        "A redirect or 511 sends people to a page; programs cannot follow.";

    // In the tunnel, before or in TLS.
    PortalPage "block_page" Fail [Portal]
        "Where {host} should begin TLS {way}, a web page comes: {detail}",
        "Ask the proxy's people to take {origin} out of blocking and login pages.",
        "A box opens the tunnel and then answers in HTTP itself.";
    ForeignBytes "not_tls" Fail [BeyondProxy Network]
        "Where {host} should begin TLS {way}, other bytes come: {detail}",
        "Ask who answers on {origin} on this path; it does not speak TLS.",
        "What answers is no provider: all of them speak TLS.";
    TunnelReset "tunnel_reset" Fail [BeyondProxy]
        "The tunnel to {origin} is cut right after the proxy {proxy} opened it, at or beyond the proxy.",
        "Ask the proxy's and the firewall's people what cuts {origin} after CONNECT 200.",
        "Many filters accept CONNECT and then cut what they do not like. Whether the proxy or something beyond it does so cannot be told from here.";
    TunnelResetHost "tunnel_reset_for_host" Fail [BeyondProxy]
        "The tunnel to {origin} is cut right after the proxy {proxy} opened it, but {control} works: the name is filtered, at or beyond the proxy.",
        "Ask for {host} to be taken off the filter by name or category.",
        "The same proxy and the same hello work for another host, so it is about this name.";
    NetworkReset "reset_in_tls" Fail [Network]
        "The connection to {origin} is cut as soon as TLS begins.",
        "Ask the firewall's people what cuts TLS to {host} on port {port}.",
        "Firewalls that filter by name let TCP through and cut at the ClientHello. The origin itself could do it too.";
    TunnelSilent "tunnel_black_hole" Fail [BeyondProxy]
        "The proxy {proxy} opens the tunnel to {origin} and then nothing comes back, at or beyond the proxy.",
        "Ask the proxy's and the firewall's people what becomes of the tunnel to {origin} after CONNECT 200.",
        "Some proxies say 200 before they are connected. Who swallows the bytes cannot be told from here.";
    TunnelSilentHost "tunnel_black_hole_for_host" Fail [BeyondProxy]
        "The proxy {proxy} opens the tunnel to {origin} and then nothing comes back, but {control} works: the name is filtered, at or beyond the proxy.",
        "Ask for {host} to be taken off the filter by name or category.",
        "The same proxy and the same hello work for another host, so it is about this name.";
    NetworkSilent "tls_black_hole" Fail [Network]
        "{origin} takes the connection and then nothing comes back to the TLS hello.",
        "Ask the firewall's people what swallows TLS to {host} on port {port}.",
        "A box takes the connection in the origin's place, or drops what follows.";
    HelloTooLarge "hello_too_large" Fail [BeyondProxy Network]
        "A large TLS hello to {origin} is swallowed {way}, while a small one passes.",
        "Set `post_quantum: false` for the egress; ask for the path MTU and for an update of the box that drops split hellos.",
        "The post-quantum key share makes the hello longer than one packet. Old inspectors and MTU holes drop it.";
    TlsVersion "tls_no_common_version" Fail [BeyondProxy Origin Inspector]
        "What ends TLS for {host} {way} speaks no TLS version that the relay speaks ({detail}).",
        "Ask for TLS 1.2 or 1.3 on the box that ends TLS for {host}: providers speak both, so it is not the provider.",
        "The relay speaks TLS 1.2 and 1.3, as every push provider does.";
    TlsAlert "tls_alert" Fail [BeyondProxy Origin]
        "What ends TLS for {host} {way} refuses the handshake ({detail}).",
        "Ask what ends TLS for {host} on this path, and why it refuses: no common cipher, a client certificate, a policy on the name.",
        "A TLS alert came in place of a certificate, so who sent it has no name.";
    TlsBroken "tls_broken" Fail [BeyondProxy Origin]
        "What ends TLS for {host} {way} breaks the handshake ({detail}).",
        "Ask what ends TLS for {host} on this path: its TLS is not sound.",
        "The bytes are TLS, but not a handshake that is allowed.";
    CertExpired "certificate_expired" Fail [Origin BeyondProxy Inspector RelayHost]
        "The certificate shown for {host} {way} has expired, by this machine's clock{clock} ({detail}).",
        "{check}Ask who renews the certificate issued by {issuer}.",
        "Either the certificate is old or the clock of this machine is ahead.";
    ClockWrong "clock_wrong" Fail [RelayHost]
        "The clock of this machine is wrong by {seconds} s against {timed_by}, so the certificate of {host} looks invalid.",
        "Set the clock of this machine (chrony or systemd-timesyncd).",
        "The peers say another time than this machine.";
    ClockBehind "certificate_not_yet_valid" Fail [RelayHost BeyondProxy Inspector Origin]
        "The certificate shown for {host} {way} is not valid yet, by this machine's clock{clock} ({detail}).",
        "{check}Ask who made the certificate issued by {issuer}.",
        "Certificates are not made for the future, so the clock of this machine is behind.";
    CertName "certificate_wrong_name" Fail [BeyondProxy Network RelayHost Inspector]
        "What answers for {host} {way} shows a certificate for other names ({detail}).",
        "Ask where {host} leads to on this path: another server or a default page answers.",
        "The certificate is valid, but for somebody else.";
    InspectorKnown "inspector" Fail [Inspector]
        "{vendor} inspects TLS to {host} {way}: it shows a certificate issued by {issuer}, which the relay does not trust.",
        "Ask for {host}:{port} to be exempted from TLS inspection. {knob} If that cannot be had, trust its root in `roots` of the egress and probe again: HTTP/2 must survive.",
        "The issuer's name is that of a known inspecting product. Providers do not support inspection.";
    InspectorUnknown "unknown_issuer" Fail [Inspector BeyondProxy Origin RelayHost]
        "The certificate shown for {host} {way} is issued by {issuer}, whom nobody trusts: most likely a box inspects TLS; a server that forgets its intermediate certificate looks the same.{speaks}",
        "Ask for {host}:{port} to be exempted from TLS inspection; if {issuer} is yours, trust its root in `roots` of the egress.",
        "A missing intermediate certificate looks the same, but providers do not forget theirs; a company's name in the issuer speaks for an inspector.";
    SelfSigned "self_signed" Fail [BeyondProxy Origin RelayHost]
        "What answers for {host} {way} shows a self-signed certificate ({detail}).",
        "Ask where {host} leads to on this path: a test server or a box with its default certificate answers.",
        "Neither providers nor inspectors that work show self-signed certificates.";
    CertOther "certificate_unacceptable" Fail [BeyondProxy Network RelayHost Inspector]
        "The certificate shown for {host} {way} is not acceptable ({detail}).",
        "Ask who made the certificate issued by {issuer}.",
        "The chain breaks a rule other than name, time or trust.";

    // ALPN and HTTP/2.
    AlpnStripped "alpn_stripped" Fail [Inspector BeyondProxy Network Origin]
        "HTTP/2 is lost {way}: what ends TLS for {host} (certificate by {issuer}) answers without ALPN.",
        "Ask {vendor} to pass ALPN h2, or to exempt {host}:{port} from inspection. {knob}",
        "APNs speaks HTTP/2 only, and ALPN is how it is agreed on. Without it no push gets through.";
    AlpnHttp1 "alpn_http1" Fail [Inspector BeyondProxy Network Origin]
        "HTTP/2 is lost {way}: what ends TLS for {host} (certificate by {issuer}) chooses {detail} where h2 is needed.",
        "Ask {vendor} to allow HTTP/2, or to exempt {host}:{port} from inspection. {knob}",
        "APNs speaks HTTP/2 only; a box that knows HTTP/1.1 alone stands between.";
    AlpnRefused "alpn_refused" Fail [BeyondProxy Network Inspector]
        "HTTP/2 is refused {way}: what ends TLS for {host} (certificate by {issuer}) answers h2 with alert 120.",
        "Ask {vendor} to allow HTTP/2, or to exempt {host}:{port} from inspection. {knob}",
        "Alert no_application_protocol: whoever ends TLS knows no HTTP/2. A second handshake without ALPN names the box by its certificate.";
    H2Swallowed "h2_swallowed" Fail [BeyondProxy Origin Inspector Network]
        "h2 is agreed on with {host} {way}, but the HTTP/2 preface gets no SETTINGS: a box agrees to what it does not speak.",
        "Ask {vendor} for real HTTP/2 support, or to exempt {host}:{port} from inspection. {knob}",
        "ALPN says h2 and nothing follows.";
    H2Http1 "h2_answered_in_http1" Fail [BeyondProxy Origin Inspector]
        "h2 is agreed on with {host} {way}, but the answer is HTTP/1: {detail}",
        "Ask {vendor} for real HTTP/2 support, or to exempt {host}:{port} from inspection. {knob}",
        "A box passes ALPN on and then handles the bytes as HTTP/1.1.";
    H2Closed "h2_closed" Fail [BeyondProxy Origin Inspector]
        "h2 is agreed on with {host} {way}, and the connection is cut at the HTTP/2 preface ({detail}).",
        "Ask {vendor} what cuts HTTP/2 to {host}; or to exempt {host}:{port} from inspection. {knob}",
        "The connection ends before SETTINGS.";
    H2Broken "h2_broken" Fail [BeyondProxy Origin Inspector]
        "h2 is agreed on with {host} {way}, and what comes breaks the rules of HTTP/2 ({detail}).",
        "Ask {vendor} for real HTTP/2 support, or to exempt {host}:{port} from inspection. {knob}",
        "A frame or a setting that RFC 9113 forbids: a box between writes HTTP/2 anew, and wrongly.";
    SettingsValue "settings_value" Fail [BeyondProxy Origin Inspector]
        "A box between trips over one of the relay's SETTINGS: with none HTTP/2 to {host} {way} starts, with ours it does not.",
        "Ask {vendor} for an update of its HTTP/2, or to exempt {host}:{port} from inspection. {knob}",
        "An empty SETTINGS frame was answered, the relay's own was not.";
    GoAway "goaway" Fail [Origin BeyondProxy]
        "{host} ends HTTP/2 at once {way} with GOAWAY: {detail}.",
        "Look the reason up: APNs says here that a certificate or environment is wrong.",
        "GOAWAY came before a request could be answered.";

    // The request.
    StreamRefused "stream_refused" Fail [BeyondProxy Origin]
        "{host} refuses the request {way} by resetting the stream ({detail}).",
        "Ask what ends HTTP/2 for {host} on this path; providers answer an unauthenticated request.",
        "RST_STREAM came in place of an answer.";
    RequestSilent "request_swallowed" Fail [BeyondProxy Origin]
        "HTTP/2 with {host} {way} starts, but a request gets no answer.",
        "Ask what ends HTTP/2 for {host} on this path and what becomes of POST requests.",
        "SETTINGS came, so HTTP/2 is spoken; the request is swallowed.";
    RequestCut "request_cut" Fail [BeyondProxy Origin]
        "HTTP/2 with {host} {way} starts, and the connection is cut at the first request ({detail}).",
        "Ask what cuts requests to {host} on this path.",
        "The connection ended in place of an answer.";
    LargeRequest "large_request_swallowed" Fail [BeyondProxy Network]
        "Small requests to {host} pass {way}, a push of 4 KiB does not: packets of full size are lost.",
        "Ask for the path MTU and for ICMP type 3 code 4 to be let through.",
        "An MTU hole lets handshakes pass and swallows pushes.";
    BlockPageInside "block_page_in_tls" Fail [Portal Inspector]
        "In place of {host} a web page answers inside TLS {way} ({status}, {detail}).",
        "Ask {vendor} to take {origin} out of blocking; the page stands in the report. {knob}",
        "A box ends TLS and answers itself: the answer has not what only the provider's has.";
    ForeignAnswer "answer_not_providers" Fail [BeyondProxy Inspector Origin]
        "Something answers in place of {host} {way} ({status}, {detail}).",
        "Ask who answers for {host} on this path: the answer has not what only the provider's has.",
        "APNs' answers carry apns-id, Google's are JSON of a known form.";

    // The direct path.
    DirectRefused "origin_port_closed" Fail [Network]
        "The connection to {origin} is refused{refuser}.",
        "{service}Ask for TCP from this machine to {origin}, or name a proxy in `egress`.",
        "A firewall that resets and a closed port look the same from here; providers' ports are open.";
    DirectFiltered "origin_filtered" Fail [Network]
        "The connection to {origin} gets no answer: a firewall drops it{off}.",
        "{service}Ask for TCP from this machine to {origin}, or name a proxy in `egress`.",
        "Inside most company networks the internet is reached through a proxy only.";
    DirectUnreachable "origin_unreachable" Fail [Network]
        "There is no route from this machine to {origin}.",
        "Check this machine's routes, or name a proxy in `egress`.",
        "The network stack or a router says that the address cannot be reached.";
    DirectClosed "origin_closed" Fail [Network Origin]
        "{origin} takes the connection and closes it at once.",
        "Ask the firewall's people what stands between; then look at the provider's status page.",
        "A box takes connections in the origin's place, or the origin is broken.";

    // From the sender's side.
    ThroughOk "through_ok" Ok [None]
        "The relay at {control} answers for {host} as a sender would see it: {detail}.",
        "",
        "This machine trusts the relay's certificate, and the protocol arrives as it left. A note says where the redirect does not hold.";
    ThroughHttp1 "through_http1" Warn [None]
        "The relay at {control} answers for {host}, but what arrives there is {detail}: something between speaks HTTP/1.1 only.",
        "Nothing, where an inspecting proxy stands between and the relay stands behind it: that is what it is for.",
        "What left as HTTP/2 arrived as HTTP/1.1.";
    ThroughUntrusted "through_untrusted" Fail [RelayHost]
        "This machine does not trust the relay at {control}: its certificate for {host} is issued by {issuer}.",
        "Give the sender the relay's root (`pushrelay ca show` prints the commands).",
        "The sender's TLS would fail with an unknown issuer.";
    ThroughNotRelay "through_not_the_relay" Fail [RelayHost]
        "What answers for {host} at {control} is not the relay: {detail}.",
        "Check the redirect (hosts entry, zone) and that HTTPS_PROXY does not lead around it.",
        "Only a relay answers the reserved path.";
    ThroughDown "through_unreachable" Fail [RelayHost]
        "The relay at {control} cannot be reached from here: {detail}.",
        "Check address and port, the relay's `networks`, and the firewall between.",
        "The sender would not get through either.";
    Bypassed "through_bypassed" Fail [RelayHost]
        "The sender's environment leads {host} through {detail}, around the relay.",
        "Take the variable out of the unit, add {host} to NO_PROXY where the sender honours it, or point it at the relay.",
        "HTTPS_PROXY sends names to that proxy, so a hosts entry for the relay is never read.";

    // We ourselves.
    OurFault "relay_host" Fail [RelayHost]
        "This machine cannot climb to {origin}: {detail}.",
        "Correct the configuration or the machine as the detail says.",
        "A file, a permission or a setting on this machine is missing.";
    Unexplained "unexplained" Fail [BeyondProxy Network Proxy ToProxy Origin Inspector RelayHost Resolver Portal]
        "{origin} fails {way}: {detail}.",
        "Send the report to the people of the hop that it names.",
        "A failure that has no code of its own yet; the evidence says all that is known.";
}
