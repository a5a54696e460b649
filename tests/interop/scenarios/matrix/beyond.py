"""Cases whose fault lies beyond the proxy, in the network or at what answers for the origin."""

from .case import Case, healthy, warned
from .far import (DROP, FCM_SAYS, NO_ROUTE, REFERENCE, RESET, Balancer, Box, To, Wall, Web)
from .ways import Direct, Squid, Stand

# Braces of directives are doubled.
FCM = FCM_SAYS.replace("{", "{{").replace("}", "}}")
KNOWN = ("--inspection-roots", "{known}")

TLS = "ssl crt {pem} alpn h2"

NETWORK = [
    Case("direct-reset", "nftables reset", Direct(Wall(RESET)), "origin_port_closed", "network"),
    Case("direct-dropped", "nftables drop", Direct(Wall(DROP)), "origin_filtered", "network"),
    Case("direct-prohibited", "nftables say prohibited", Direct(Wall(NO_ROUTE)),
         "origin_unreachable", "network"),
    Case("direct-long-packets", "nftables drop packets above 1,300 octets",
         Direct(Wall("meta length > 1300 drop")), "hello_too_large", "network"),
    Case("direct-sni-filter", "HAProxy resets by SNI",
         Direct(To(Balancer("", "mode tcp", "tcp-request inspect-delay 5s",
                            "tcp-request content reject if { req.ssl_sni -m end push.apple.com }",
                            "server o {origin}"))),
         "reset_in_tls", "network"),
    Case("direct-sni-hole", "HAProxy swallows by SNI",
         Direct(To(Balancer("", "mode tcp", "tcp-request inspect-delay 5s",
                            "tcp-request content silent-drop if { req.ssl_sni -m found }",
                            "server o {origin}"))),
         "tls_black_hole", "network"),
    Case("direct-captive-page", "nginx in plain HTTP answers in the origin's place",
         Direct(To(Web(listen="", directives=("return 302 http://login.corp.example/",)))),
         "block_page", "portal"),
    Case("direct-hello-hole", "a box swallows hellos above 1,000 octets",
         Direct(To(Box("pipe", hello=1000))), "hello_too_large", "network"),
    warned("direct-port-443", "nftables drop 443, not 2197", Direct(Wall(DROP, "443")),
           "works_on_other_port", "network"),
    warned("direct-idle-cut", "HAProxy forgets connections after 2 s",
           Direct(To(Balancer("", "mode tcp", "timeout client 2s", "timeout server 2s",
                              "server o {origin}"))),
           "idle_cut", "network", options=("--idle", "4")),
    healthy("direct-slow", "every packet is 100 ms late", Direct(To(Box("pipe", delay=0.1)))),
]

TUNNEL = [
    Case("tunnel-reset", "the proxy resets right after 200", Stand("tunnel", then="reset"),
         "tunnel_reset", "beyond-proxy"),
    Case("tunnel-silent", "the proxy says 200, and nothing follows",
         Stand("tunnel", then="silence"), "tunnel_black_hole", "beyond-proxy"),
    Case("tunnel-page", "the proxy says 200, and a page follows", Stand("tunnel", then="page"),
         "block_page", "portal"),
    Case("tunnel-sni-filter", "HAProxy beyond Squid resets by SNI",
         Squid(beyond=To(Balancer("", "mode tcp", "tcp-request inspect-delay 5s",
                                  "tcp-request content reject if { req.ssl_sni -m found }",
                                  "server o {origin}"))),
         "tunnel_reset_for_host", "beyond-proxy"),
    Case("tunnel-hole-for-host", "a box beyond Squid swallows this host",
         Squid(beyond=To(Box("talker", says="silence"))), "tunnel_black_hole_for_host",
         "beyond-proxy"),
    Case("tunnel-hello-hole", "a box beyond Squid swallows hellos above 1,000 octets",
         Squid(beyond=To(Box("pipe", hello=1000))), "hello_too_large", "beyond-proxy"),
    Case("tunnel-noise", "what answers beyond Squid is no TLS",
         Squid(beyond=To(Box("talker", says="noise"))), "not_tls", "beyond-proxy"),
]

CERTIFICATES = [
    Case("nginx-expired", "nginx's certificate has expired", Direct(To(Web("expired"))),
         "certificate_expired", "origin"),
    Case("nginx-future", "nginx's certificate is not valid yet", Squid(beyond=To(Web("future"))),
         "certificate_not_yet_valid", "beyond-proxy"),
    Case("nginx-wrong-name", "nginx's certificate is for others", Direct(To(Web("stranger"))),
         "certificate_wrong_name", "network"),
    Case("nginx-wrong-name-squid", "nginx's certificate is for others, beyond Squid",
         Squid(beyond=To(Web("stranger"))), "certificate_wrong_name", "beyond-proxy"),
    Case("nginx-self-signed", "nginx's certificate is self-signed",
         Squid(beyond=To(Web("self-signed"))), "self_signed", "beyond-proxy"),
    Case("nginx-no-intermediate", "nginx sends no intermediate certificate",
         Squid(beyond=To(Web("no-intermediate"))), "unknown_issuer", "inspector"),
    Case("nginx-client-only", "nginx's certificate is for clients only",
         Squid(beyond=To(Web("client-only"))), "certificate_unacceptable", "beyond-proxy"),
    Case("nginx-vendor", "a box with Fortinet's issuer inspects", Direct(To(Web("by-fortinet"))),
         "inspector", "inspector"),
    Case("haproxy-tls11", "HAProxy speaks TLS 1.1 at most",
         Direct(To(Balancer(f"{TLS} ssl-max-ver TLSv1.1 ciphers ALL:@SECLEVEL=0"))),
         "tls_no_common_version", "origin"),
    Case("haproxy-ciphers", "HAProxy has no cipher in common",
         Direct(To(Balancer(f"{TLS} ssl-max-ver TLSv1.2 ciphers ECDHE-ECDSA-AES128-SHA"))),
         "tls_alert", "origin"),
    Case("haproxy-client-certificate", "HAProxy demands a client certificate",
         Squid(beyond=To(Balancer(TLS + " ca-file {roots} verify required"))), "tls_alert",
         "beyond-proxy"),
    Case("nginx-client-certificate", "nginx demands a client certificate",
         Squid(beyond=To(Web(directives=("ssl_client_certificate {roots}",
                                         "ssl_verify_client on", "return 200")))),
         "block_page_in_tls", "portal"),
]

ALPN = [
    Case("nginx-http1", "nginx without HTTP/2", Direct(To(Web(listen="ssl"))), "alpn_http1",
         "network"),
    Case("nginx-http1-squid", "nginx without HTTP/2, beyond Squid",
         Squid(beyond=To(Web(listen="ssl"))), "alpn_http1", "beyond-proxy"),
    Case("nginx-http1-inspector", "an inspector without HTTP/2, its root declared",
         Squid(beyond=To(Web("by-known", listen="ssl"))), "alpn_http1", "inspector",
         options=KNOWN),
    Case("haproxy-no-alpn", "HAProxy without ALPN", Squid(beyond=To(Balancer("ssl crt {pem}"))),
         "alpn_stripped", "beyond-proxy"),
    Case("haproxy-no-alpn-inspector", "an inspector without ALPN, its root declared",
         Direct(To(Balancer("ssl crt {pem}", leaf="by-known"))), "alpn_stripped", "inspector",
         options=KNOWN),
    warned("fcm-http1", "FCM without HTTP/2, which FCM does not need",
           Direct(To(Web("reference", listen="ssl", directives=(f"return 401 '{FCM}'",)),
                     address=REFERENCE)), "http1_only", "none", target="fcm.googleapis.com"),
    Case("haproxy-http1", "HAProxy with ALPN http/1.1",
         Squid(beyond=To(Balancer("ssl crt {pem} alpn http/1.1"))), "alpn_http1", "beyond-proxy"),
]


def _h2(name, broken, fault, code, **more):
    """One HTTP/2 fault of a box beyond Squid."""
    return Case(name, broken, Squid(beyond=To(Box("h2", fault=fault))), code, "beyond-proxy",
                **more)


HTTP2 = [
    _h2("h2-settings-lost", "a box agrees on h2 and swallows it", "SETTINGS lost", "h2_swallowed"),
    _h2("h2-in-http1", "a box agrees on h2 and answers HTTP/1.1", "answers HTTP/1.1",
        "h2_answered_in_http1"),
    _h2("h2-closed", "a box closes at the preface", "closes", "h2_closed"),
    _h2("h2-settings-value", "a box trips over one of our SETTINGS", "trips over a value",
        "settings_value"),
    _h2("h2-settings-altered", "a box alters SETTINGS into nonsense", "altered SETTINGS",
        "h2_broken"),
    _h2("h2-ping-lost", "a box swallows PING", "PING lost", "ping_lost", severity="warn"),
    _h2("h2-goaway", "GOAWAY at the first request", "GOAWAY", "goaway"),
    _h2("h2-stream-refused", "RST_STREAM at the first request", "refuses streams",
        "stream_refused"),
    _h2("h2-no-answer", "a request gets no answer", "no answer", "request_swallowed"),
    _h2("h2-cut", "the connection is cut at the first request", "cuts requests", "request_cut"),
    _h2("h2-large-lost", "a box swallows large requests", "large lost",
        "large_request_swallowed"),
    Case("h2-settings-lost-inspector", "an inspector agrees on h2 and swallows it",
         Direct(To(Box("h2", leaf="by-known", fault="SETTINGS lost"))), "h2_swallowed",
         "inspector", options=KNOWN),
    Case("long-packets-request", "packets above 1,300 octets are lost, the hello is short",
         Direct(Wall("meta length > 1300 drop"),
                config={"egress": {"out": {"post_quantum": False}}}),
         "large_request_swallowed", "network"),
]

ANSWERS = [
    Case("nginx-404", "nginx answers 404", Squid(beyond=To(Web(directives=("return 404",)))),
         "block_page_in_tls", "portal"),
    Case("nginx-json", "nginx answers JSON of its own",
         Direct(To(Web(directives=("return 403 '{{\"error\":\"denied\"}}'",)))),
         "answer_not_providers", "origin"),
    Case("nginx-444", "nginx closes without an answer",
         Squid(beyond=To(Web(directives=("return 444",)))), "stream_refused", "beyond-proxy"),
    Case("haproxy-503", "HAProxy answers 503 by itself",
         Squid(beyond=To(Balancer(TLS, "http-request deny deny_status 503"))), "block_page_in_tls",
         "portal"),
    warned("origin-unwell", "the provider itself answers 503",
           Squid(beyond=To(Web(directives=(
               "add_header apns-id EC1BF194-B3B2-424A-89A9-5A918A6E6B5D always",
               "return 503 '{{\"reason\":\"ServiceUnavailable\"}}'")))),
           "provider_unwell", "origin"),
]

CASES = [*NETWORK, *TUNNEL, *CERTIFICATES, *ALPN, *HTTP2, *ANSWERS]
