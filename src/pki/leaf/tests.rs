use super::*;
use crate::pki::ca::{Algorithm, Throwaway, host_names, new_root, throwaway};

const DAY: Duration = Duration::from_secs(86_400);

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

fn store(authority: &Throwaway, hosts: &[&str]) -> LeafStore {
    let hosts = host_names(hosts.iter().copied()).unwrap();
    LeafStore::new(Some(authority.issuer.clone()), Vec::new(), hosts).unwrap()
}

const fn shared<T: Send + Sync>(_store: &T) {}

#[test]
fn only_routed_hosts_have_a_leaf() {
    let authority = throwaway(&["a.example", "b.example"]).unwrap();
    let store = store(&authority, &["a.example"]);
    shared(&store);
    assert!(store.leaf(&name("a.example"), true).is_some());
    assert!(store.leaf(&name("b.example"), true).is_none());
    assert!(store.leaf(&name("a.example"), false).is_none(), "a P-256 issuer has no RSA leaf");
    assert_eq!(store.issuer_key(), Some(authority.issuer.key_fingerprint()));
    let leaf = store.leaf(&name("a.example"), true).unwrap();
    let key = crate::pki::fingerprint_of(&leaf.cert[0]).unwrap();
    assert!(store.own_keys().contains(&key));
    assert!(store.own_keys().contains(&authority.issuer.key_fingerprint()));
}

#[test]
fn an_rsa_issuer_serves_peers_without_ecdsa() {
    let now = SystemTime::now();
    let new = new_root(Algorithm::Rsa3072, "an RSA root", now).unwrap();
    let issuer = Arc::new(Issuer::new(vec![new.certificate], &new.key, now).unwrap());
    let hosts = host_names(["a.example", "b.example"]).unwrap();
    let store = LeafStore::new(Some(issuer), Vec::new(), hosts).unwrap();
    for host in ["a.example", "b.example"] {
        let ecdsa = store.leaf(&name(host), true).unwrap();
        let rsa = store.leaf(&name(host), false).unwrap();
        assert_eq!(ecdsa.key.algorithm(), SignatureAlgorithm::ECDSA);
        assert_eq!(rsa.key.algorithm(), SignatureAlgorithm::RSA);
        for leaf in [ecdsa, rsa] {
            let key = crate::pki::fingerprint_of(&leaf.cert[0]).unwrap();
            assert!(store.own_keys().contains(&key));
        }
    }
    assert_eq!(store.own_keys().len(), 4, "two P-256 keys, one RSA key, the issuer");
}

#[test]
fn leaves_are_renewed_at_two_thirds_of_their_life() {
    let authority = throwaway(&["a.example"]).unwrap();
    let store = store(&authority, &["a.example"]);
    let now = SystemTime::now();
    let first = store.leaf(&name("a.example"), true).unwrap();
    assert!(store.renew(now + 59 * DAY).renewed.is_empty());
    assert_eq!(store.renew(now + 61 * DAY).renewed, [name("a.example")]);
    let second = store.leaf(&name("a.example"), true).unwrap();
    assert_ne!(first.cert[0], second.cert[0]);
    let (_name, end) = &store.expiries()[0];
    assert!(*end > crate::pki::unix(now + 150 * DAY));
}

#[test]
fn a_leaf_made_while_the_clock_was_ahead_is_made_again() {
    let now = SystemTime::now();
    let begun = now - 30 * DAY;
    let new = new_root(Algorithm::P256, "a root", begun).unwrap();
    let issuer = Arc::new(Issuer::new(vec![new.certificate], &new.key, now).unwrap());
    let hosts = host_names(["a.example"]).unwrap();
    let store = LeafStore::new(Some(issuer), Vec::new(), hosts).unwrap();
    let minutes = Duration::from_secs(60);
    assert!(store.renew(now - 50 * minutes).renewed.is_empty(), "leaves begin an hour early");
    assert_eq!(store.renew(now - 3 * DAY).renewed, [name("a.example")]);
    assert!(store.renew(now - 3 * DAY).renewed.is_empty());
}

#[test]
fn a_leaf_that_cannot_be_renewed_stays() {
    let authority = throwaway(&["a.example"]).unwrap();
    let store = store(&authority, &["a.example"]);
    let later = SystemTime::now() + 800 * DAY;
    let renewal = store.renew(later);
    assert_eq!(renewal.failed.len(), 1);
    assert!(store.leaf(&name("a.example"), true).is_some());
}

#[test]
fn near_the_issuers_end_nothing_is_minted_in_vain() {
    let authority = throwaway(&["a.example"]).unwrap();
    let store = store(&authority, &["a.example"]);
    let end =
        SystemTime::UNIX_EPOCH + Duration::from_secs(authority.issuer.not_after().unsigned_abs());
    assert_eq!(store.renew(end - 10 * DAY).renewed.len(), 1);
    assert!(store.renew(end - DAY).renewed.is_empty());
}

#[test]
fn brought_leaves_win_and_wildcards_hold_one_label() {
    let minting = throwaway(&["a.corp.example", "b.corp.example"]).unwrap();
    let corporate = throwaway(&["a.corp.example"]).unwrap();
    let brought = Arc::new(corporate.identity("a.corp.example").unwrap());
    let key = brought.key_fingerprint();
    let hosts = host_names(["a.corp.example", "b.corp.example"]).unwrap();
    let store = LeafStore::new(Some(minting.issuer), vec![brought.clone()], hosts.clone()).unwrap();
    let served = |store: &LeafStore, host: &str| {
        crate::pki::fingerprint_of(&store.leaf(&name(host), true).unwrap().cert[0])
    };
    assert_eq!(served(&store, "a.corp.example"), key);
    assert_ne!(served(&store, "b.corp.example"), key);
    assert!(store.expiries().iter().any(|(name, _end)| name == "issuer"));

    // One that ends before the next look makes room for a minted one.
    store.renew(SystemTime::now() + 90 * DAY - 2 * RENEW_EVERY);
    assert_eq!(served(&store, "a.corp.example"), key);
    store.renew(SystemTime::now() + 90 * DAY - RENEW_EVERY / 2);
    assert_ne!(served(&store, "a.corp.example"), key);

    let alone = LeafStore::new(None, vec![brought], hosts).unwrap();
    assert_eq!(alone.uncovered(), [name("b.corp.example")]);
    assert_eq!(alone.issuer_key(), None);
}

#[test]
fn hosts_that_the_issuer_may_not_speak_for_are_all_named() {
    let authority = throwaway(&["a.example"]).unwrap();
    let hosts = host_names(["a.example", "b.example", "c.example"]).unwrap();
    let error = LeafStore::new(Some(authority.issuer), Vec::new(), hosts).unwrap_err();
    assert_eq!(error.to_string(), "no leaf can be minted for: b.example, c.example");
}

#[test]
fn only_what_is_shown_has_to_be_valid() {
    let (minting, corporate) =
        (throwaway(&["a.example", "b.example"]).unwrap(), throwaway(&["a.example", "c.example"]));
    let corporate = corporate.unwrap();
    let brought = ["a.example", "c.example"].map(|host| corporate.identity(host).unwrap().into());
    let hosts = host_names(["a.example", "b.example"]).unwrap();
    let store = LeafStore::new(Some(minting.issuer), brought.to_vec(), hosts.clone()).unwrap();
    let now = SystemTime::now();
    store.renew(now + 70 * DAY);
    assert!(store.are_valid(now + 89 * DAY));
    assert!(!store.are_valid(now + 91 * DAY), "a.example shows a leaf that has ended");
    store.renew(now + 91 * DAY);
    assert!(store.are_valid(now + 91 * DAY), "the issuer's stands in for it");
    let alone = LeafStore::new(None, brought.to_vec(), hosts).unwrap();
    assert!(alone.are_valid(now), "b.example is not served");
    assert!(!alone.are_valid(now + 91 * DAY));
}

/// Else one forgotten certificate would keep the relay from starting for all other hosts.
#[test]
fn a_brought_leaf_that_has_ended_is_shown_where_the_issuer_may_not_stand_in() {
    let (minting, corporate) =
        (throwaway(&["a.example"]).unwrap(), throwaway(&["own.example"]).unwrap());
    let brought = Arc::new(corporate.identity("own.example").unwrap());
    let hosts = host_names(["a.example", "own.example"]).unwrap();
    let later = SystemTime::now() + 91 * DAY;
    let store = LeafStore::at(Some(minting.issuer), vec![brought], hosts, later).unwrap();
    assert!(store.leaf(&name("own.example"), true).is_some() && !store.are_valid(later));
}
