//! `pushrelay ca` through the real binary, judged by the real `openssl`.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use pushrelay::names::HostName;

use pushrelay::pki::ca::{
    Algorithm, CaError, ISSUED_LIFETIME, Issuer, LEAF_LIFETIME, LeafKey, new_root,
};
use pushrelay::pki::pem::{PemError, encode_certificates, encode_key, read_certificates};
use tempfile::TempDir;

const HOST: &str = "api.push.apple.com";

fn ca(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushrelay"));
    command.current_dir(folder).arg("ca").args(args).output().unwrap()
}

/// Standard output of a command that must succeed.
fn ok(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error of a command that must fail with this code.
fn refused(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    errors
}

fn openssl(folder: &Path, line: &str) -> Output {
    Command::new("openssl").current_dir(folder).args(line.split(' ')).output().unwrap()
}

fn made(folder: &Path, line: &str) {
    let output = openssl(folder, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `openssl verify` says of a leaf below `root.pem`, with the host checked.
fn verify(folder: &Path, root: &str, above: &str, leaf: &str, host: &str) -> Result<(), String> {
    let line = format!(
        "verify -x509_strict -purpose sslserver -verify_hostname {host} -CAfile {root} -untrusted {above} {leaf}"
    );
    let output = openssl(folder, &line);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(text.into_owned()) }
}

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

/// A folder with certs/ beside a root key that lies outside of it. P-256, so it is quick.
fn authority(hosts: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["init", "--root-key", "root.key", "--algorithm", "p256"];
    args.extend(hosts.iter().flat_map(|host| ["--host", *host]));
    ok(&ca(folder.path(), &args));
    folder
}

fn write_leaf(folder: &Path, issuer: &Issuer, key: LeafKey, file: &str) {
    let leaf = issuer.mint(&name(HOST), key, LEAF_LIFETIME, SystemTime::now()).unwrap();
    fs::write(folder.join(file), encode_certificates(&leaf.chain)).unwrap();
}

#[test]
fn the_default_authority_verifies_and_signs_for_every_sender() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = ok(&ca(folder, &["init", "--root-key", "root.key", "--host", HOST]));
    assert!(text.contains("Move it off this machine"), "{text}");
    for (file, mode) in
        [("root.key", 0o600), ("certs/issuer.key", 0o600), ("certs/root.pem", 0o644)]
    {
        let found = fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{file} {found:o}");
    }
    assert!(!folder.join("certs/root.key").exists());
    let certs = folder.join("certs");
    made(&certs, "verify -x509_strict -CAfile root.pem issuer.pem");

    let issuer = Issuer::load(&certs.join("issuer.pem"), &certs.join("issuer.key")).unwrap();
    assert!(issuer.is_rsa());
    for key in [LeafKey::P256, LeafKey::Rsa2048] {
        write_leaf(&certs, &issuer, key, "leaf.pem");
        verify(&certs, "root.pem", "issuer.pem", "leaf.pem", HOST).unwrap();
    }
    let wrong = verify(&certs, "root.pem", "issuer.pem", "leaf.pem", "www.apple.com").unwrap_err();
    assert!(wrong.contains("hostname mismatch"), "{wrong}");
}

#[test]
fn the_issuer_holds_its_constraints_against_openssl_too() {
    let folder = authority(&[HOST]);
    let certs = folder.path().join("certs");
    let text = openssl(&certs, "x509 -in issuer.pem -noout -text");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "Name Constraints: critical",
        "DNS:api.push.apple.com",
        "IP:0.0.0.0/0.0.0.0",
        "CA:TRUE, pathlen:0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Whoever steals the issuer's key can sign what he likes; nobody believes it.
    let sign = |san: &str| {
        fs::write(certs.join("ext"), format!("subjectAltName={san}\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")).unwrap();
        made(
            &certs,
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout x.key -subj /O=x -out x.csr",
        );
        made(
            &certs,
            "x509 -req -in x.csr -CA issuer.pem -CAkey issuer.key -extfile ext -days 5 -out x.pem",
        );
        openssl(&certs, "verify -CAfile root.pem -untrusted issuer.pem x.pem")
    };
    assert!(sign("DNS:api.push.apple.com").status.success());
    for stolen in ["DNS:www.bank.example", "IP:127.0.0.1", "IP:::1"] {
        let output = sign(stolen);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{stolen}");
        assert!(text.contains("subtree violation"), "{stolen}: {text}");
    }
}

/// A corporate authority as Active Directory names it, made by openssl; `key` is its key type.
fn active_directory(folder: &Path, key: &str) {
    let subject = "/DC=com/DC=example/DC=corp/OU=PKI/OU=Issuing";
    let root = format!(
        "req -x509 {key} -nodes -keyout ad-root.key -subj {subject}/CN=Root -days 30 -addext keyUsage=critical,keyCertSign,cRLSign -out ad-root.pem"
    );
    made(folder, &root);
    let request =
        format!("req -new {key} -nodes -keyout ad.key -subj {subject}/CN=Issuing-CA-1 -out ad.csr");
    made(folder, &request);
    fs::write(
        folder.join("ad.ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    made(
        folder,
        "x509 -req -in ad.csr -CA ad-root.pem -CAkey ad-root.key -extfile ad.ext -days 20 -out ad.pem",
    );
}

#[test]
fn an_active_directory_issuer_yields_leaves_that_verify() {
    for key in [
        "-newkey rsa:2048",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-384",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        active_directory(folder, key);
        let issuer = Issuer::load(&folder.join("ad.pem"), &folder.join("ad.key")).unwrap();
        write_leaf(folder, &issuer, LeafKey::P256, "leaf.pem");
        verify(folder, "ad-root.pem", "ad.pem", "leaf.pem", HOST).unwrap();
        let shown = openssl(folder, "x509 -in leaf.pem -noout -issuer");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert_eq!(shown.matches("DC = ").count(), 3, "{shown}");
        assert_eq!(shown.matches("OU = ").count(), 2, "{shown}");

        // The same through the command.
        let args = ["issue", "--issuer", "ad.pem", "--issuer-key", "ad.key", "--out", "out", HOST];
        ok(&ca(folder, &args));
        verify(folder, "ad-root.pem", "ad.pem", "out/api.push.apple.com.pem", HOST).unwrap();
    }
}

#[test]
fn keys_that_cannot_be_used_are_named_as_such() {
    let folder = authority(&[HOST]);
    let certs = folder.path().join("certs");
    let key = certs.join("issuer.key");
    let issue = || {
        let args = ["issue", "--out", "out", HOST];
        refused(&ca(folder.path(), &args), 1)
    };
    let load = || Issuer::load(&certs.join("issuer.pem"), &key).unwrap_err();
    let good = fs::read(&key).unwrap();

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let text = issue();
    assert!(text.contains("issuer.key") && text.contains("chmod o="), "{text}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    made(&certs, "pkcs8 -topk8 -in issuer.key -passout pass:secret -out locked.key");
    fs::write(&key, fs::read(certs.join("locked.key")).unwrap()).unwrap();
    assert!(matches!(load(), CaError::Pem(PemError::Encrypted(_))));
    assert!(issue().contains("encrypted"));

    fs::write(&key, &good).unwrap();
    made(&certs, "ec -in issuer.key -aes128 -passout pass:secret -out locked.key");
    fs::write(&key, fs::read(certs.join("locked.key")).unwrap()).unwrap();
    assert!(matches!(load(), CaError::Pem(PemError::Encrypted(_))));

    made(&certs, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key");
    fs::write(&key, fs::read(certs.join("other.key")).unwrap()).unwrap();
    let text = issue();
    assert!(text.contains("does not belong"), "{text}");
    assert!(!folder.path().join("out").exists(), "nothing is written by a command that fails");
}

#[test]
fn extend_keeps_root_and_key_and_admits_new_hosts() {
    let folder = authority(&[HOST]);
    let certs = folder.path().join("certs");
    let before = |file: &str| fs::read(certs.join(file)).unwrap();
    let (root, key, issuer) = (before("root.pem"), before("issuer.key"), before("issuer.pem"));
    let args = ["extend", "--root-key", "root.key", "--host", "push.corp.example"];
    let text = ok(&ca(folder.path(), &args));
    assert!(text.contains("push.corp.example") && !text.contains(HOST), "{text}");
    assert_eq!(before("root.pem"), root);
    assert_eq!(before("issuer.key"), key);
    assert_ne!(before("issuer.pem"), issuer);
    let issuer = Issuer::load(&certs.join("issuer.pem"), &certs.join("issuer.key")).unwrap();
    for host in [HOST, "push.corp.example"] {
        let now = SystemTime::now();
        let leaf = issuer.mint(&name(host), LeafKey::P256, LEAF_LIFETIME, now).unwrap();
        fs::write(certs.join("leaf.pem"), encode_certificates(&leaf.chain)).unwrap();
        verify(&certs, "root.pem", "issuer.pem", "leaf.pem", host).unwrap();
    }
    // A plain renewal, and a key that is not the root's.
    ok(&ca(folder.path(), &["extend", "--root-key", "root.key"]));
    let text = refused(&ca(folder.path(), &["extend", "--root-key", "certs/issuer.key"]), 1);
    assert!(text.contains("does not belong"), "{text}");
}

#[test]
fn nothing_is_overwritten_and_the_root_key_stays_apart() {
    let folder = authority(&[HOST]);
    let path = folder.path();
    let every = ["root.key", "certs/root.pem", "certs/issuer.pem", "certs/issuer.key"];
    let read = || every.map(|file| fs::read(path.join(file)).unwrap());
    let before = read();
    for (root_key, code, told) in
        [("root.key", 1, "exists already"), ("second.key", 64, "`pushrelay ca extend`")]
    {
        let args = ["init", "--root-key", root_key, "--host", HOST, "--algorithm", "p256"];
        let text = refused(&ca(path, &args), code);
        assert!(text.contains(told), "{text}");
    }
    let args = ["init", "--root-key", "stick/root.key", "--dir", "other", "--host", HOST];
    let text = refused(&ca(path, &args), 64);
    assert!(text.contains("is the medium mounted?") && !path.join("other").exists(), "{text}");
    let text = refused(&ca(path, &["csr", "--host", HOST, "--algorithm", "p256"]), 1);
    assert!(text.contains("exists already"), "{text}");
    assert_eq!(read(), before);
    assert!(!path.join("second.key").exists());

    let args = ["init", "--root-key", "new/root.key", "--dir", "new", "--host", HOST];
    let text = refused(&ca(path, &args), 64);
    assert!(text.contains("must not lie in"), "{text}");
    assert!(!path.join("new/root.pem").exists());
    let text = refused(&ca(path, &["init", "--root-key", "k", "--dir", "d"]), 64);
    assert!(text.contains("--host"), "{text}");
}

#[test]
fn issued_leaves_last_397_days_and_need_no_issuer_on_the_relay() {
    let folder = authority(&[HOST]);
    let path = folder.path();
    let args = ["issue", "--root-key", "root.key", "--out", "out", HOST, "push.corp.example"];
    let text = ok(&ca(path, &args));
    assert!(text.contains("leaves:") && text.contains("push.corp.example.key"), "{text}");
    let leaf: PathBuf = path.join("out").join(format!("{HOST}.pem"));
    let chain = read_certificates(&leaf).unwrap();
    assert_eq!(chain.len(), 1, "directly below the root");
    let line = format!("verify -CAfile certs/root.pem out/{HOST}.pem");
    made(path, &line);
    let seconds = ISSUED_LIFETIME.as_secs();
    let check =
        |ahead: u64| openssl(path, &format!("x509 -in out/{HOST}.pem -noout -checkend {ahead}"));
    assert!(check(seconds - 86_400).status.success());
    assert!(!check(seconds + 86_400).status.success());

    // The issuer may not speak for the second host; the root was asked above.
    let text = refused(&ca(path, &["issue", "--out", "two", HOST, "push.corp.example"]), 1);
    assert!(text.contains("push.corp.example") && text.contains("ca extend"), "{text}");
    assert!(!path.join("two").exists());
}

#[test]
fn a_request_can_be_signed_with_the_extensions_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let args = ["csr", "--host", HOST, "--algorithm", "p256"];
    let text = ok(&ca(path, &args));
    made(path, "req -in certs/issuer.csr -noout -verify");

    // The section that the message prints is the section that openssl gets.
    let section: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with("A request cannot"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
        .collect();
    fs::write(path.join("ext"), section.join("\n") + "\n").unwrap();
    made(
        path,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout r.key -subj /DC=example/DC=corp/CN=R -days 30 -addext keyUsage=critical,keyCertSign,cRLSign -out r.pem",
    );
    made(
        path,
        "x509 -req -in certs/issuer.csr -CA r.pem -CAkey r.key -extfile ext -days 20 -out certs/issuer.pem",
    );
    let certs = path.join("certs");
    let issuer = Issuer::load(&certs.join("issuer.pem"), &certs.join("issuer.key")).unwrap();
    assert!(!issuer.limits().permits(&name("www.bank.example")));
    write_leaf(path, &issuer, LeafKey::P256, "leaf.pem");
    verify(path, "r.pem", "certs/issuer.pem", "leaf.pem", HOST).unwrap();
}

#[test]
fn show_prints_what_openssl_prints_and_how_to_trust_it() {
    let folder = authority(&[HOST]);
    let text = ok(&ca(folder.path(), &["show"]));
    let shown = openssl(folder.path(), "x509 -in certs/root.pem -noout -fingerprint -sha256");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let (_label, fingerprint) = shown.trim().split_once('=').unwrap();
    assert!(text.contains(fingerprint), "{text}");
    assert!(text.contains("permitted: api.push.apple.com"), "{text}");
    assert!(text.contains("NODE_EXTRA_CA_CERTS=") && text.contains("keytool"), "{text}");
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(&ca(empty.path(), &["show"]), 64).contains("ca init"));
}

#[test]
fn hosts_come_from_relay_yaml_where_none_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/relay.yaml"), path.join("relay.yaml")).unwrap();
    let args = ["init", "--root-key", "root.key", "--algorithm", "p256"];
    let text = ok(&ca(path, &args));
    assert!(text.contains("  api.push.apple.com\n"), "{text}");
    assert!(text.contains("  api.sandbox.push.apple.com\n"), "{text}");

    fs::write(path.join("bad.yaml"), "version: [\n").unwrap();
    let args = ["init", "--root-key", "two.key", "--dir", "two", "--config", "bad.yaml"];
    let text = refused(&ca(path, &args), 78);
    assert!(text.contains("bad.yaml:1:"), "{text}");
    assert!(!path.join("two.key").exists());
}

#[test]
fn certificates_go_beside_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("etc")).unwrap();
    let live = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.yaml");
    fs::copy(live, path.join("etc/relay.yaml")).unwrap();
    let args = "init --root-key root.key --algorithm p256 --config etc/relay.yaml";
    ok(&ca(path, &args.split(' ').collect::<Vec<_>>()));
    assert!(path.join("etc/certs/issuer.key").exists());
    assert!(!path.join("certs").exists());
    let args = "extend --root-key root.key --config etc/relay.yaml --host push.corp.example";
    let text = ok(&ca(path, &args.split(' ').collect::<Vec<_>>()));
    assert!(text.contains("push.corp.example"), "{text}");
}

/// A route that comes after `ca init`: check says what run would say, and `ca extend` mends it.
#[test]
fn a_host_that_the_issuer_may_not_speak_for_is_found_by_check() {
    let folder = authority(&[HOST]);
    let yaml = "version: 1\nlisteners: [{ name: a, bind: ['127.0.0.1:0'] }]\nroutes:\n  - { name: own, hosts: [push.corp.example], origin: 'http://10.1.2.3:80', egress: direct }\n";
    fs::write(folder.path().join("relay.yaml"), yaml).unwrap();
    let run = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_pushrelay"))
            .current_dir(folder.path())
            .arg(command)
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&told).into_owned())
    };
    for command in ["check", "run"] {
        let (code, told) = run(command);
        assert_eq!(code, Some(78), "{command}: {told}");
        assert!(told.contains("4:5: routes[0]: the issuer may not speak for push.corp"), "{told}");
        assert!(told.contains("pushrelay ca extend --root-key FILE"), "{told}");
    }
    ok(&ca(folder.path(), &["extend", "--root-key", "root.key"]));
    assert_eq!(run("check").0, Some(0), "{}", run("check").1);
}

#[test]
fn an_issuer_that_has_ended_is_named_with_what_renews_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 366 * 86_400);
    let root = new_root(Algorithm::P256, "old root", long_ago).unwrap();
    let signer = Issuer::new(vec![root.certificate], &root.key, long_ago).unwrap();
    let hosts = std::collections::BTreeSet::from([name(HOST)]);
    let issuer = signer.new_issuer(Algorithm::P256, "old issuer", &hosts, long_ago).unwrap();
    fs::create_dir(path.join("certs")).unwrap();
    fs::write(path.join("certs/issuer.pem"), encode_certificates(&[issuer.certificate])).unwrap();
    let key = path.join("certs/issuer.key");
    fs::write(&key, encode_key(&issuer.key)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let yaml = "version: 1\nlisteners: [{ name: a, bind: ['127.0.0.1:0'] }]\nroutes:\n  - { name: own, hosts: [api.push.apple.com], origin: 'http://10.1.2.3:80', egress: direct }\n";
    fs::write(path.join("relay.yaml"), yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pushrelay"))
        .current_dir(path)
        .arg("check")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("certificate 1 of the chain has expired\n  hint: `pushrelay ca extend"),
        "{told}"
    );
}
