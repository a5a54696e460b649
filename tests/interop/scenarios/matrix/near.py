"""Cases whose fault lies at the relay host, its name servers, the proxy or on the way to it."""

from kit.pki import APNS_HOST

from .case import Case, healthy, warned
from .far import DROP, NO_ROUTE, RESET, Wall
from .proxies import USER
from .ways import (Direct, Elsewhere, FrontDoor, Mitmproxy, Nobody, Squid, Stand, Tinyproxy,
                   WebServer)

OTHER_PORT = f"{APNS_HOST}:2197"
SERVICE = "fcm.googleapis.com:8443"
CLOCK = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
         "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
PROXIED = {"egress": {"out": {"proxies": [{"url": "http://proxy.corp.example:3128"}]}}}

HEALTHY = [
    healthy("squid-healthy", "Squid, nothing wrong", Squid()),
    healthy("squid-basic-healthy", "Squid asks for Basic and gets it",
            Squid("http_access deny {p} !known", user=USER)),
    healthy("squid-tls-healthy", "TLS to Squid", Squid(tls="by-world", scheme="https")),
    healthy("tinyproxy-healthy", "tinyproxy, nothing wrong", Tinyproxy()),
    healthy("direct-healthy", "no proxy, nothing wrong", Direct()),
    healthy("fcm-healthy", "Squid, nothing wrong, FCM", Squid(), target="fcm.googleapis.com"),
]

NAMES = [
    Case("dns-nxdomain", "dnsmasq does not know the name", Direct(dns={APNS_HOST: ""}),
         "name_not_found", "resolver"),
    Case("dns-refused", "dnsmasq has no upstream and refuses", Direct(dns={"other.example": ""}),
         "resolver_failed", "resolver"),
    Case("dns-silent", "nftables drop the questions", Direct(dns="deaf"),
         "resolver_silent", "resolver"),
    Case("dns-private", "dnsmasq answers 10.20.30.40", Direct(dns={APNS_HOST: "10.20.30.40"}),
         "address_private", "resolver"),
    Case("dns-sinkhole", "dnsmasq answers 0.0.0.0", Direct(dns={APNS_HOST: "0.0.0.0"}),
         "address_sinkhole", "resolver"),
    Case("dns-loopback", "dnsmasq answers 127.0.0.1", Direct(dns={APNS_HOST: "127.0.0.1"}),
         "address_sinkhole", "resolver"),
    Case("dns-block-page", "dnsmasq answers a filter's block page",
         Direct(dns={APNS_HOST: "146.112.61.106"}), "address_sinkhole", "resolver"),
    Case("hosts-file-loop", "a hosts entry leads to the relay, and the relay reads it",
         Direct(hosts={APNS_HOST: None},
                config={"egress": {"out": {"dns": {"hosts_file": "use"}}}}),
         "loop_hosts_file", "relay-host"),
    Case("stub-loop", "a local dnsmasq answers from the hosts file",
         Direct(hosts={APNS_HOST: None}, stub=("--no-resolv",),
                config={"egress": {"out": {}}}),
         "loop_stub", "relay-host"),
    Case("zone-loop", "dnsmasq's zone leads to the relay",
         Direct(dns="own", config={"egress": {"out": {}}}),
         "loop_zone", "resolver"),
    Case("proxy-name", "the proxy's name is misspelt", Elsewhere("http://proxi.corp.example:3128"),
         "proxy_name_not_found", "resolver"),
]

CLOCKS = [
    warned("clock-ahead", "the clock is ten minutes ahead", Squid(), "clock_off", "relay-host",
           target="fcm.googleapis.com", env={**CLOCK, "FAKETIME": "+10m"}),
    Case("clock-years-ahead", "the clock is two years ahead", Direct(), "certificate_expired",
         "relay-host", env={**CLOCK, "FAKETIME": "+700d"}),
    Case("clock-year-behind", "the clock is a year behind", Squid(), "clock_wrong",
         "relay-host", env={**CLOCK, "FAKETIME": "-365d"}),
]

TO_PROXY = [
    Case("proxy-closed-port", "nobody listens", Nobody(), "proxy_port_closed", "to-proxy"),
    Case("proxy-reset", "nftables reset", Nobody(RESET), "proxy_port_closed", "to-proxy"),
    Case("proxy-filtered", "nftables drop", Nobody(DROP), "proxy_filtered", "to-proxy"),
    Case("proxy-no-route", "no route to the proxy",
         Nobody(own_host={"commands": ("ip route add unreachable 10.77.1.30/32",)}),
         "proxy_unreachable", "to-proxy"),
    Case("proxy-speaks-tls", "Squid's TLS port, spoken to in clear", Squid(tls="by-world"),
         "proxy_speaks_tls", "proxy"),
    Case("proxy-not-tls", "Squid's clear port, spoken to in TLS", Squid(scheme="https"),
         "proxy_not_tls", "proxy"),
    Case("proxy-unknown-root", "TLS to Squid, whose root is unknown",
         Squid(tls="by-corp", scheme="https"), "proxy_tls_failed", "proxy"),
    Case("proxy-is-web-server", "nginx where the proxy should be", WebServer(),
         "not_a_connect_proxy", "proxy"),
    Case("proxy-is-balancer", "HAProxy where the proxy should be",
         FrontDoor("", "server none 127.0.0.1:9", "retries 0"), "proxy_gateway_error", "proxy"),
    Case("proxy-is-mail-server", "something greets where the proxy should be",
         Stand("talker", says="greeting"), "proxy_not_http", "proxy"),
    Case("proxy-hangs", "the proxy takes connections and answers nothing",
         Stand("tunnel", then="no answer"), "proxy_hung", "proxy"),
    Case("squid-silent-dns", "Squid's name server does not answer", Squid(kind="silent"),
         "proxy_hung", "proxy"),
    Case("squid-resets", "Squid resets strangers (deny_info TCP_RESET)",
         Squid("acl {p}x src all", "deny_info TCP_RESET {p}x", "http_access deny {p} {p}x"),
         "proxy_closed", "proxy"),
    Case("haproxy-silent-drop", "HAProxy drops the connection without a word",
         FrontDoor("", "http-request silent-drop"), "proxy_hung", "proxy"),
]

POLICY = [
    warned("squid-port-acl-apns", "Squid forbids 2197, 443 works",
           Squid("http_access deny {p} !p443"), "works_on_other_port", "proxy",
           target=OTHER_PORT),
    Case("squid-port-acl", "Squid forbids a port of another service",
         Squid("http_access deny {p} !p443"), "policy_port", "proxy", target=SERVICE),
    Case("squid-name-acl", "Squid forbids the name", Squid("http_access deny {p} apple"),
         "policy_host", "proxy"),
    Case("squid-source-acl", "Squid forbids this machine",
         Squid("acl {p}x src 10.77.1.0/24", "http_access deny {p} {p}x"),
         "policy_everything", "proxy"),
    Case("squid-user-acl", "Squid knows the user, who may not",
         Squid("http_access deny {p} !known", "http_access deny {p} !nobody all", user=USER),
         "policy_everything", "proxy"),
    Case("squid-user-asked-again", "Squid knows the user, and asks for another",
         Squid("http_access deny {p} !nobody", user=USER), "proxy_auth_refused", "proxy"),
    Case("squid-wants-basic", "Squid asks for Basic, nothing is configured",
         Squid("http_access deny {p} !known"), "proxy_auth_missing", "relay-host"),
    Case("squid-wrong-password", "Squid asks for Basic, the password is wrong",
         Squid("http_access deny {p} !known", user=USER, password="wrong"),
         "proxy_auth_refused", "proxy"),
    Case("squid-wants-ntlm", "Squid offers NTLM only, Basic is configured",
         Squid("http_access deny {p} !known", kind="ntlm", user=USER),
         "proxy_auth_scheme", "relay-host"),
    Case("squid-login-page", "Squid redirects to a login page (deny_info 302)",
         Squid("acl {p}x src all", "deny_info 302:http://login.corp.example/ {p}x",
               "http_access deny {p} {p}x"), "portal_redirect", "portal"),
    warned("tinyproxy-port-acl", "tinyproxy's ConnectPort is 443 only", Tinyproxy("ConnectPort 443"),
           "works_on_other_port", "proxy", target=OTHER_PORT),
    Case("tinyproxy-filter", "tinyproxy filters the name",
         Tinyproxy('Filter "{filter}"', "FilterDefaultDeny No"), "policy_host", "proxy"),
    Case("tinyproxy-wants-basic", "tinyproxy asks for Basic",
         Tinyproxy("BasicAuth someone secret"), "proxy_auth_missing", "relay-host"),
    Case("tinyproxy-source-acl", "tinyproxy allows other machines only",
         Tinyproxy("Allow 192.0.2.1"), "policy_everything", "proxy"),
    Case("haproxy-busy", "HAProxy says 429", FrontDoor("", "http-request deny deny_status 429"),
         "proxy_busy", "proxy"),
    Case("haproxy-portal", "HAProxy redirects to a login page",
         FrontDoor("", "http-request redirect location http://login.corp.example/"),
         "portal_redirect", "portal"),
]

FORWARDING = [
    Case("squid-dns-refused", "Squid's name server is dead", Squid(kind="ntlm"),
         "proxy_cannot_forward", "proxy"),
    Case("squid-nxdomain", "Squid's name server does not know the name", Squid(),
         "proxy_cannot_forward", "proxy", target="unknown.push.invalid"),
    Case("squid-dead-parent", "Squid's parent proxy is dead",
         Squid("never_direct allow {p}", "cache_peer_access dead allow {p}"),
         "proxy_cannot_forward", "proxy"),
    Case("squid-beyond-reset", "the firewall beyond Squid resets", Squid(beyond=Wall(RESET)),
         "beyond_proxy_refused", "beyond-proxy"),
    Case("squid-beyond-dropped", "the firewall beyond Squid drops, Squid gives up",
         Squid(beyond=Wall(DROP), kind="hasty"), "beyond_proxy_timeout", "beyond-proxy"),
    Case("squid-beyond-waits", "the firewall beyond Squid drops, Squid waits",
         Squid(beyond=Wall(DROP)), "connect_waits_for_origin", "beyond-proxy"),
    Case("squid-beyond-no-route", "the firewall beyond Squid says prohibited",
         Squid(beyond=Wall(NO_ROUTE)), "beyond_proxy_refused", "beyond-proxy"),
    warned("squid-beyond-443", "the firewall beyond Squid drops 443, not 2197",
           Squid(beyond=Wall(RESET, "443")), "works_on_other_port", "beyond-proxy"),
    Case("tinyproxy-beyond-reset", "the firewall beyond tinyproxy resets",
         Tinyproxy(beyond=Wall(RESET)), "proxy_gateway_error", "beyond-proxy"),
]

MITM = [
    warned("mitmproxy-known", "mitmproxy inspects with a declared root", Mitmproxy(),
           "inspected", "inspector", options=("--inspection-roots", "{mitm}")),
    Case("mitmproxy-unknown", "mitmproxy inspects with an unknown root", Mitmproxy(),
         "inspector", "inspector"),
    Case("mitmproxy-http1", "mitmproxy without HTTP/2", Mitmproxy("http1"), "alpn_stripped",
         "inspector", options=("--inspection-roots", "{mitm}")),
    Case("mitmproxy-block-page", "mitmproxy answers a block page inside TLS", Mitmproxy(number=1),
         "block_page_in_tls", "inspector", options=("--inspection-roots", "{mitm}")),
    Case("squid-bump-unknown", "Squid inspects with an unknown root", Squid(bump="corp"),
         "unknown_issuer", "inspector"),
    Case("squid-bump-vendor", "a box with Zscaler's issuer inspects", Squid(bump="zscaler", kind="hasty"),
         "inspector", "inspector"),
    Case("squid-bump-known", "Squid inspects with a declared root, without ALPN",
         Squid(bump="known", kind="second"), "alpn_stripped", "inspector",
         options=("--inspection-roots", "{known}")),
    Case("squid-bump-terminate", "Squid ends every tunnel (ssl_bump terminate)",
         Squid("ssl_bump terminate {p}", bump="corp"), "proxy_closed", "proxy"),
    Case("squid-sni-filter", "Squid ends tunnels by SNI",
         Squid("ssl_bump peek {p} step1", "ssl_bump terminate {p} sni", "ssl_bump splice {p}",
               bump="corp"), "tunnel_reset_for_host", "beyond-proxy"),
]

CASES = [*HEALTHY, *NAMES, *CLOCKS, *TO_PROXY, *POLICY, *FORWARDING, *MITM]
