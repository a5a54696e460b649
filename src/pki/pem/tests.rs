use super::*;
use crate::pki::ca::{Throwaway, throwaway};

const HOST: &str = "api.push.apple.com";

fn authority() -> Throwaway {
    throwaway(&[HOST]).unwrap()
}

/// A folder with chain.pem and leaf.key of one leaf.
fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let identity = authority().identity(HOST).unwrap();
    let chain = folder.path().join("chain.pem");
    let key = folder.path().join("leaf.key");
    write_public(&chain, &encode_certificates(&identity.chain)).unwrap();
    write_key(&key, &encode_key(&identity.key)).unwrap();
    (folder, chain, key)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_written_is_read_back() {
    let (_folder, chain, key) = files();
    let identity = read_identity(&chain, &key).unwrap();
    assert_eq!(identity.chain.len(), 2);
    assert!(identity.covers(&HOST.parse().unwrap()));
    let now = std::time::SystemTime::now();
    assert!(!identity.is_expired(now));
    assert!(identity.is_expired(now + std::time::Duration::from_secs(91 * 86_400)));
}

#[test]
fn each_fault_of_a_file_has_its_name() {
    let (folder, chain, key) = files();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fill_file(&path, text);
        path
    };
    let gone = folder.path().join("gone.pem");
    assert!(matches!(read_identity(&gone, &key), Err(PemError::Missing(path)) if path == gone));
    assert!(matches!(read_identity(&chain, &gone), Err(PemError::Missing(_))));
    assert!(matches!(read_identity(&key, &key), Err(PemError::NoCertificate(_))));
    assert!(matches!(read_key(&file("no.key", b"text\n")), Err(PemError::NoKey(_))));
    assert!(matches!(read_certificates(&file("a.der", b"\x30\x82\xff")), Err(PemError::Der(_))));
    let bad = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let bad = read_certificates(&file("bad.pem", bad));
    assert!(matches!(bad, Err(PemError::BadCertificate { number: 1, .. })), "{bad:?}");
    let cut = b"-----BEGIN PRIVATE KEY-----\nAAAA\n";
    assert!(matches!(read_key(&file("cut.key", cut)), Err(PemError::Damaged { .. })));
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        let path = folder.path().join("locked.key");
        let _ = std::fs::remove_file(&path);
        fill_file(&path, text.as_bytes());
        assert!(matches!(read_key(&path), Err(PemError::Encrypted(_))));
    }
    let (_other, _chain, stranger) = files();
    assert!(matches!(read_identity(&chain, &stranger), Err(PemError::Mismatch { .. })));
    let large = file("large.pem", &vec![b'a'; (1 << 20) + 1]);
    assert!(matches!(read_certificates(&large), Err(PemError::TooLarge(_))));
}

/// Made by `openssl x509 -req -signkey` without extensions; ends in 2126.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBFjCBvQIUayzYw1fvCzJzMlj3AAZuJAPwOKgwCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCdjEwIBcNMjYxMTIxMTc0OTAxWhgPMjEyNjEwMjgxNzQ5MDFaMA0xCzAJ\n\
BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEc16KT71Sez4m4Bbx\n\
EPOnYK/d7KzC0+dyyULmEPcCOEOXDFexf3AR6vVJkIZ6w834eA4r8RMEJwEFtwLU\n\
y1YuhTAKBggqhkjOPQQDAgNIADBFAiBhwIEt0srmM/KleAeZ3Wc8xT89XapQBe7V\n\
8F8elxKzRQIhAIz32PmKBuynWLiaeizl8ApX4gFjj+JQ86aGJAkAe1Qb\n\
-----END CERTIFICATE-----\n";

#[test]
fn a_certificate_of_version_1_is_not_blamed_on_its_key() {
    let (folder, _chain, key) = files();
    let old = folder.path().join("v1.pem");
    fill_file(&old, VERSION_1.as_bytes());
    let error = read_identity(&old, &key).unwrap_err();
    assert!(matches!(&error, PemError::UnsupportedLeaf { path, .. } if *path == old), "{error}");
}

fn fill_file(path: &Path, text: &[u8]) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    set_mode(path, 0o600);
}

#[test]
fn a_damaged_key_never_shows_its_text() {
    let (folder, _chain, _key) = files();
    let path = folder.path().join("damaged.key");
    fill_file(&path, b"-----BEGIN PRIVATE KEY-----\nSECRET~~\n-----END PRIVATE KEY-----\n");
    let error = format!("{:?}", read_key(&path).unwrap_err());
    assert!(!error.contains("SECRET") && !error.contains("126"), "{error}");
}

#[cfg(unix)]
#[test]
fn only_owner_and_group_may_reach_a_key() {
    let (_folder, chain, key) = files();
    for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
        set_mode(&key, mode);
        match read_identity(&chain, &key) {
            Ok(_identity) => assert!(fine, "{mode:o}"),
            Err(PemError::Exposed { mode: told, .. }) => assert!(!fine && told == mode),
            Err(other) => panic!("{mode:o}: {other}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn keys_are_written_for_the_owner_and_never_over_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _chain, key) = files();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    assert!(matches!(write_key(&key, "other"), Err(PemError::Exists(_))));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a draft was left behind");
}

#[test]
fn a_public_file_is_replaced_whole() {
    let (folder, chain, _key) = files();
    replace_public(&chain, "new\n").unwrap();
    assert_eq!(std::fs::read_to_string(&chain).unwrap(), "new\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn credentials_are_told_by_where_they_really_lie() {
    let (folder, chain, _key) = files();
    assert!(is_inside(&chain, folder.path()));
    let other = tempfile::tempdir().unwrap();
    assert!(!is_inside(&chain, other.path()));
    let around = other.path().join("..").join(chain.strip_prefix("/tmp").unwrap_or(&chain));
    assert!(!is_inside(&around, other.path()));
}
