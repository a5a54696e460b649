//! `pushrelay check`, `init` and `schema` through the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// EX_CONFIG.
const EXIT_CONFIG: i32 = 78;

fn pushrelay(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushrelay"))
        .current_dir(folder)
        .args(arguments)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A kind of bad file: its name, its text, where the problem is, what is wrong, what is right.
struct Bad {
    kind: &'static str,
    text: &'static str,
    place: &'static str,
    wrong: &'static str,
    right: &'static str,
}

const fn bad(
    kind: &'static str,
    text: &'static str,
    place: &'static str,
    wrong: &'static str,
    right: &'static str,
) -> Bad {
    Bad { kind, text, place, wrong, right }
}

/// Stands for a valid beginning of three lines, so that each text shows only its mistake.
const LISTENER: &str = "version: 1\nlisteners:\n  - { name: a, bind: ['127.0.0.1:0'] }\n";

/// Problems behind the valid beginning: their first line is line 4.
const BAD_RESTS: &[Bad] = &[
    bad(
        "unknown key",
        "routes:\n  - provider: apns\n    egres: direct\n",
        "6:5: routes[0].egres: ",
        "not known",
        "did you mean `egress`?",
    ),
    bad(
        "unknown word",
        "routes: [{ provider: apple }]\n",
        "4:22: routes[0].provider: ",
        "`apple` is not known",
        "apns, fcm, mattermost",
    ),
    bad("no route", "drain: 7s\n", "1:1: routes: ", "there is no route", "provider: apns"),
    bad("wrong type", "routes: apns\n", "4:9: routes: ", "a list is expected", "[one, two]"),
    bad(
        "duration without unit",
        "routes: [{ provider: apns, deadline: 7 }]\n",
        "4:38: routes[0].deadline: ",
        "needs a unit",
        "7s",
    ),
    bad(
        "duration out of range",
        "routes: [{ provider: apns, deadline: 7h }]\n",
        "4:38: routes[0].deadline: ",
        "7h is out of range",
        "the default is 7s",
    ),
    bad(
        "size in decimal units",
        "routes: [{ provider: apns, body: 8KB }]\n",
        "4:34: routes[0].body: ",
        "not a size",
        "8KiB",
    ),
    bad(
        "unquoted id",
        "routes: [{ provider: apns, teams: [1234567890] }]\n",
        "4:36: routes[0].teams[0]: ",
        "text is expected",
        "quotes",
    ),
    bad(
        "yes for true",
        "routes: [{ provider: apns, egress: direct }]\negress: { direct: { post_quantum: yes } }\n",
        "5:35: egress.direct.post_quantum: ",
        "true or false is expected",
        "write true or false",
    ),
    bad(
        "unknown egress",
        "routes: [{ provider: apns, egress: corprate }]\negress: { corporate: {} }\n",
        "4:36: routes[0].egress: ",
        "no `corprate`",
        "did you mean `corporate`?",
    ),
    bad(
        "egress not named",
        "routes: [{ provider: apns }]\negress: { corporate: {} }\n",
        "4:10: routes[0].egress: ",
        "every route names its own",
        "corporate, direct",
    ),
    bad(
        "proxy without scheme",
        "routes: [{ provider: apns, egress: a }]\negress: { a: { proxies: [{ url: 'proxy.example:3128' }] } }\n",
        "5:33: egress.a.proxies[0].url: ",
        "scheme is missing",
        "http://HOST:PORT",
    ),
    bad(
        "password in the URL",
        "routes: [{ provider: apns, egress: a }]\negress: { a: { proxies: [{ url: 'http://u:hunter2@p.example:1' }] } }\n",
        "5:33: egress.a.proxies[0].url: ",
        "would reach logs",
        "credentials: { basic:",
    ),
    bad(
        "SOCKS",
        "routes: [{ provider: apns, egress: a }]\negress: { a: { proxies: [{ url: 'socks5://p.example:1' }] } }\n",
        "5:33: egress.a.proxies[0].url: ",
        "SOCKS is not spoken",
        "HTTP proxy",
    ),
    bad(
        "password in the file",
        "routes: [{ provider: apns, egress: a }]\negress:\n  a:\n    proxies:\n      - url: http://p.example:1\n        credentials: { basic: { username: u, password: hunter2 } }\n",
        "9:56: egress.a.proxies[0].credentials.basic.password: ",
        "never written into relay.yaml",
        "{ file: PATH }",
    ),
    bad(
        "the same host twice",
        "routes:\n  - provider: fcm\n  - { name: b, hosts: [fcm.googleapis.com], origin: 'https://a.example' }\n",
        "6:5: routes[1]: ",
        "already carried by route `fcm`",
        "one route for a host",
    ),
    bad(
        "two routes of one name",
        "routes:\n  - { provider: apns, environments: [production] }\n  - { provider: apns, environments: [sandbox] }\n",
        "6:5: routes[1].name: ",
        "two routes are called `apns`",
        "`name:` of its own",
    ),
    bad(
        "passthrough with an identity",
        "routes: [{ provider: apns, tls: passthrough, provider_identity: { chain: a, key: b } }]\n",
        "4:65: routes[0].provider_identity: ",
        "contradicts `tls: passthrough`",
        "tls: terminate",
    ),
    bad(
        "a key of another provider",
        "routes: [{ provider: fcm, when_unsent: refuse }]\n",
        "4:40: routes[0].when_unsent: ",
        "no meaning",
        "APNs routes",
    ),
    bad(
        "a star in the middle",
        "routes: [{ hosts: [a.example], origin: 'http://b.example', paths: ['/a/*/b'] }]\n",
        "4:68: routes[0].paths[0]: ",
        "only at the end",
        "one pattern for each path",
    ),
    bad(
        "dot segments",
        "routes: [{ hosts: [a.example], origin: 'http://b.example', paths: ['/a/../b'] }]\n",
        "4:68: routes[0].paths[0]: ",
        "dot segments",
        "plain path",
    ),
    bad(
        "an own route without origin",
        "routes: [{ hosts: [a.example] }]\n",
        "4:10: routes[0].origin: ",
        "`origin` is missing",
        "origin: https://HOST:PORT",
    ),
    bad(
        "an address as host",
        "routes: [{ hosts: [10.0.0.1], origin: 'http://b.example' }]\n",
        "4:20: routes[0].hosts[0]: ",
        "not an IP address",
        "the name that senders use",
    ),
    bad(
        "number out of range",
        "routes: [{ provider: apns, egress: direct }]\negress: { direct: { lane: { connections: 99 } } }\n",
        "5:42: egress.direct.lane.connections: ",
        "99 is out of range",
        "from 1 to 16",
    ),
    bad(
        "admin for everybody",
        "routes: [{ provider: apns }]\nadmin: { bind: '0.0.0.0:9380', networks: [10.0.0.0/8] }\n",
        "5:8: admin.token: ",
        "needs a token",
        "127.0.0.1",
    ),
    bad(
        "a network with host bits",
        "routes: [{ provider: apns }]\nadmin: { networks: [10.20.1.0/16] }\n",
        "5:21: admin.networks[0]: ",
        "behind its mask",
        "10.20.0.0/16",
    ),
    bad(
        "a key twice",
        "routes: [{ provider: apns }]\nroutes: []\n",
        "5:1: ",
        "`routes` stands here twice",
        "keep one",
    ),
    bad(
        "a bracket that never closes",
        "routes: [{ provider: apns }\n",
        "4:9: ",
        "unclosed bracket",
        "brackets",
    ),
    bad("a tab", "routes:\n\t- provider: apns\n", "5:1: ", "a tab", "spaces"),
];

/// Problems of the beginning itself.
const BAD_FILES: &[Bad] = &[
    bad("empty file", "", "1:1: ", "empty", "pushrelay init"),
    bad(
        "no version",
        "listeners: [{ bind: ['127.0.0.1:0'] }]\nroutes: [{ provider: fcm }]\n",
        "1:1: version: ",
        "missing",
        "version: 1",
    ),
    bad(
        "a later version",
        "version: 2\nlisteners: [{ bind: ['127.0.0.1:0'] }]\nroutes: [{ provider: fcm }]\n",
        "1:10: version: ",
        "reads version 1",
        "version: 1",
    ),
    bad(
        "no listener",
        "version: 1\nroutes: [{ provider: fcm }]\n",
        "1:1: listeners: ",
        "no listener",
        "bind",
    ),
    bad(
        "an open relay",
        "version: 1\nlisteners:\n  - bind: ['0.0.0.0:443']\nroutes: [{ provider: fcm }]\n",
        "3:5: listeners[0].networks: ",
        "anybody could use",
        "networks: [10.20.0.0/16]",
    ),
    bad(
        "a bind without address",
        "version: 1\nlisteners:\n  - bind: [':443']\nroutes: [{ provider: fcm }]\n",
        "3:12: listeners[0].bind[0]: ",
        "not ADDRESS:PORT",
        "0.0.0.0:443",
    ),
    bad(
        "one socket twice",
        "version: 1\nlisteners:\n  - { name: a, bind: ['127.0.0.1:8443'] }\n  - { name: b, bind: ['127.0.0.1:8443'] }\nroutes: [{ provider: fcm }]\n",
        "4:23: listeners[1].bind[0]: ",
        "already taken by listener `a`",
        "of its own",
    ),
    bad(
        "credentials nobody is asked for",
        "version: 1\nlisteners:\n  - bind: ['127.0.0.1:0']\n    connect_credentials: { basic: { username: u, password: { env: PW } } }\nroutes: [{ provider: fcm }]\n",
        "4:26: listeners[0].connect_credentials: ",
        "lacks `connect`",
        "add `connect`",
    ),
    bad(
        "a default host without leaf",
        "version: 1\nlisteners:\n  - bind: ['127.0.0.1:0']\n    default_host: fcm.googleapis.co\nroutes: [{ provider: fcm }]\n",
        "4:19: listeners[0].default_host: ",
        "no route carries",
        "did you mean `fcm.googleapis.com`?",
    ),
];

fn shows(bad: &Bad, text: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("relay.yaml"), text).expect("the file is written");
    let output = pushrelay(folder.path(), &["check", "--syntax"]);
    let said = stdout(&output);
    let kind = bad.kind;
    assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{kind}: {said}");
    let start = format!("relay.yaml:{}", bad.place);
    let problems: Vec<&str> = said.lines().filter(|line| line.starts_with("relay.yaml:")).collect();
    assert_eq!(problems.len(), 1, "{kind}: {said}");
    assert!(problems[0].starts_with(&start) && problems[0].contains(bad.wrong), "{kind}: {said}");
    let hint = said.lines().find(|line| line.starts_with("  hint: ")).unwrap_or_default();
    assert!(hint.contains(bad.right), "{kind}: {said}");
    assert!(!said.contains("hunter2"), "{kind}: {said}");
}

#[test]
fn each_kind_of_bad_file_is_explained_at_its_place() {
    assert!(BAD_RESTS.len() + BAD_FILES.len() >= 20);
    for bad in BAD_RESTS {
        shows(bad, &format!("{LISTENER}{}", bad.text));
    }
    for bad in BAD_FILES {
        shows(bad, bad.text);
    }
}

#[test]
fn every_problem_is_printed_at_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners:\n  - bind: ['0.0.0.0:443']\n    acept: [tls]\nroutes:\n  - provider: apns\n    deadline: 7\n    egress: nowhere\nadmin: { bind: here }\n";
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    let output = pushrelay(folder.path(), &["check", "--config", "a.yaml"]);
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    let said = stdout(&output);
    let places: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("a.yaml:"))
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    assert_eq!(
        places,
        [
            "listeners[0].networks",
            "listeners[0].acept",
            "routes[0].deadline",
            "routes[0].egress",
            "admin.bind"
        ],
        "{said}"
    );
}

#[test]
fn a_missing_file_is_a_problem_of_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let output = pushrelay(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    assert!(stdout(&output).contains("pushrelay init"), "{}", stdout(&output));
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_overwrites() {
    for placement in ["pre", "post"] {
        let folder = tempfile::tempdir().unwrap();
        let output = pushrelay(folder.path(), &["init", "--placement", placement]);
        assert_eq!(output.status.code(), Some(0));
        let output = pushrelay(folder.path(), &["check", "--syntax"]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert!(stdout(&output).contains("valid (1 listener, 1 route, 7 hosts)"));
        let before = std::fs::read(folder.path().join("relay.yaml")).unwrap();
        assert_eq!(pushrelay(folder.path(), &["init"]).status.code(), Some(64));
        let nowhere = pushrelay(folder.path(), &["init", "-o", "none/relay.yaml"]);
        assert_eq!(nowhere.status.code(), Some(1));
        let printed = pushrelay(folder.path(), &["init", "--placement", placement, "-o", "-"]);
        let written = std::fs::read_to_string(folder.path().join("relay.yaml")).unwrap();
        assert_eq!(stdout(&printed), written);
        assert!(!folder.path().join("-").exists());
        assert_eq!(std::fs::read(folder.path().join("relay.yaml")).unwrap(), before);
        // Without --syntax the issuer is looked for.
        let output = pushrelay(folder.path(), &["check"]);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG));
        assert!(stdout(&output).contains("pushrelay ca init"), "{}", stdout(&output));
    }
}

#[test]
fn a_secret_that_everybody_reads_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners: [{ bind: ['127.0.0.1:0'], accept: [plain] }]\nroutes: [{ provider: fcm }]\nadmin: { token: { file: admin.token } }\n";
    std::fs::write(folder.path().join("relay.yaml"), text).unwrap();
    let token = folder.path().join("admin.token");
    std::fs::write(&token, "hunter2\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = pushrelay(folder.path(), &["check"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    assert!(
        said.starts_with("relay.yaml:4:17: admin.token: ") && said.contains("chmod o-rwx"),
        "{said}"
    );
    assert!(!said.contains("hunter2"));
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(pushrelay(folder.path(), &["check"]).status.code(), Some(0));
}

#[test]
fn the_effective_file_checks_and_prints_itself() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pushrelay(folder.path(), &["init"]).status.code(), Some(0));
    let first = stdout(&pushrelay(folder.path(), &["check", "--syntax", "--effective"]));
    assert!(first.contains("deadline: 7s") && first.contains("queue: 1000"), "{first}");
    std::fs::write(folder.path().join("relay.yaml"), &first).unwrap();
    let again = pushrelay(folder.path(), &["check", "--syntax", "--effective"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(stdout(&again), first);
}

#[test]
fn flows_and_schema_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pushrelay(folder.path(), &["init"]).status.code(), Some(0));
    let flows = stdout(&pushrelay(folder.path(), &["check", "--syntax", "--flows"]));
    assert!(flows.starts_with("SOURCE"), "{flows}");
    assert!(
        flows.contains("api-manage-broadcast.sandbox.push.apple.com") && flows.contains("2195/tcp")
    );
    let schema = pushrelay(folder.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert_eq!(schema["title"], "relay.yaml");
    assert!(schema["properties"]["listeners"].is_object());
}

/// Runs in a shell, so that a test can say where the output goes.
fn in_shell(folder: &Path, script: &str) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .env("PUSHRELAY", env!("CARGO_BIN_EXE_pushrelay"))
        .output()
        .expect("a shell")
}

#[test]
fn a_full_disk_or_a_closed_pipe_is_no_panic_and_spoils_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Nobody listens at port 1: the ladder ends at once.
    let probe = "$PUSHRELAY probe --proxy http://127.0.0.1:1 api.push.apple.com";
    for (script, code) in [
        (format!("{probe} --json >/dev/full"), 1),
        (format!("{probe} >/dev/full"), 1),
        (format!("{probe} --report /dev/full"), 1),
        (format!("{probe} --json-file none/last.json"), 1),
        (format!("{probe} --json-file last.json --report last.html"), 11),
        ("$PUSHRELAY completions bash >/dev/full".to_owned(), 1),
        ("$PUSHRELAY demo 2>&1 >/dev/full | grep panicked".to_owned(), 1),
        (
            "{ $PUSHRELAY probe --explain all; echo $? >code; } | true; exit $(cat code)"
                .to_owned(),
            0,
        ),
    ] {
        let output = in_shell(path, &script);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{script}: {complaint}");
        assert!(!complaint.contains("panicked"), "{script}: {complaint}");
    }
    // A draft that cannot be written leaves last week's report as it was.
    let report = std::fs::read(path.join("last.json")).unwrap();
    std::fs::create_dir(path.join("last.json.tmp")).unwrap();
    let output = in_shell(path, &format!("{probe} --json-file last.json"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(path.join("last.json")).unwrap(), report);
    assert!(path.join("last.html").exists() && !path.join("last.html.tmp").exists());
}

#[test]
fn what_fails_for_the_same_reason_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = in_shell(folder.path(), "$PUSHRELAY probe --proxy http://127.0.0.1:1 apns fcm");
    let text = stdout(&output);
    assert_eq!(text.matches("> Check address and port of the proxy").count(), 1, "{text}");
    assert_eq!(text.matches(", as for api.push.apple.com:443").count(), 3, "{text}");
    assert!(text.contains("4 probed: 0 ok, 0 warn, 4 fail"), "{text}");
}

#[test]
fn a_target_that_no_route_has_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners:\n  - { name: a, bind: ['127.0.0.1:0'], accept: [plain] }\nroutes:\n  - provider: fcm\n";
    std::fs::write(folder.path().join("relay.yaml"), text).unwrap();
    let output = pushrelay(folder.path(), &["probe", "fcm.googleapis.com", "apsn"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("\"apsn\" is neither a route of relay.yaml (fcm)"), "{told}");
}

#[test]
fn send_reads_urls_as_administrators_write_them() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, told) in [
        (&["--via-proxy", "proxy:3128"][..], 64, "the scheme is missing"),
        (&["--to", "api.push.apple.com"], 64, "the scheme is missing"),
        // Nobody listens at port 1, be IPv6 there or not.
        (&["--via-proxy", "http://[::1]:1"], 1, "the connection failed"),
    ] {
        let output = pushrelay(folder.path(), &[&["send"], arguments].concat());
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners:\n  - { name: a, bind: ['192.0.2.1:0'], accept: [plain], networks: [192.0.2.0/24] }\nroutes:\n  - provider: fcm\nadmin: { bind: off }\n";
    std::fs::write(folder.path().join("relay.yaml"), text).unwrap();
    let output = pushrelay(folder.path(), &["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("listener a: cannot listen on 192.0.2.1:0: "), "{told}");
    assert!(told.contains("\n  hint: this machine has no address 192.0.2.1"), "{told}");
}

#[test]
fn a_valid_file_that_deserves_a_look_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners:\n  - { name: a, bind: ['127.0.0.1:0'], accept: [plain] }\nroutes:\n  - { provider: fcm, egress: direct }\negress:\n  corporate:\n    proxies: [{ url: 'http://proxy.corp.example:3128' }]\n";
    std::fs::write(folder.path().join("relay.yaml"), text).unwrap();
    let output = pushrelay(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    let told = stdout(&output);
    assert!(told.ends_with("\nnote: relay.yaml: no route uses egress corporate\n"), "{told}");
}

/// What would keep `run` from starting, or a reload from being taken.
#[test]
fn what_cannot_be_served_is_not_valid() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let made = [
        "ca",
        "init",
        "--algorithm",
        "p256",
        "--root-key",
        "root.key",
        "--host",
        "own.example",
        "--dir",
        "certs",
    ];
    assert!(pushrelay(folder.path(), &made).status.success());
    write("proxy.pw", b"\xff\xfe");
    let own = "{ name: own, hosts: [own.example], origin: 'http://127.0.0.1:1', egress: out }";
    let proxy = "{ url: 'http://p:3128', credentials: { ntlm: { username: u, password: { file: proxy.pw } } } }";
    for (routes, proxies, audit, said) in [
        (own, "", "", ""),
        ("{ provider: mattermost, egress: out }", "", "", "the issuer may not speak for"),
        (own, proxy, "", "must be UTF-8"),
        (own, "", "audit: { path: missing/audit.jsonl }", "missing does not exist"),
    ] {
        let text = format!(
            "version: 1\nlisteners: [{{ name: a, bind: ['127.0.0.1:0'] }}]\n\
             routes: [{routes}]\negress: {{ out: {{ proxies: [{proxies}] }} }}\n{audit}\n"
        );
        write("relay.yaml", text.as_bytes());
        let output = pushrelay(folder.path(), &["check", "--config", "relay.yaml"]);
        let told = stdout(&output);
        let code = if said.is_empty() { 0 } else { 78 };
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{told}");
    }
}
