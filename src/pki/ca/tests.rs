use super::*;
use crate::pki::parse;

const DAY: Duration = Duration::from_secs(86_400);

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

#[test]
fn a_leaf_says_what_senders_want_to_read() {
    let authority = throwaway(&["api.push.apple.com"]).unwrap();
    let now = SystemTime::now();
    let host = name("api.push.apple.com");
    let one = authority.issuer.mint(&host, LeafKey::P256, LEAF_LIFETIME, now).unwrap();
    let two = authority.issuer.mint(&host, LeafKey::P256, LEAF_LIFETIME, now).unwrap();
    assert_eq!(one.chain.len(), 2, "leaf and issuer, no root");
    let leaf = parse(&one.chain[0]).unwrap();
    let issuer = parse(&one.chain[1]).unwrap();
    assert_ne!(leaf.raw_serial(), parse(&two.chain[0]).unwrap().raw_serial());
    assert_eq!(leaf.issuer().as_raw(), issuer.subject().as_raw());
    assert!(!leaf.is_ca());
    assert_eq!(one.dns_names(), ["api.push.apple.com"]);
    let at = crate::pki::unix(now);
    assert_eq!(leaf.validity().not_before.timestamp(), at - 3_600);
    assert_eq!(leaf.validity().not_after.timestamp(), at + 90 * 86_400);
    let purposes = leaf.extended_key_usage().unwrap().unwrap();
    assert!(purposes.value.server_auth && !purposes.value.client_auth);
    assert!(issuer.name_constraints().unwrap().unwrap().critical);
    assert_eq!(authority.issuer.path_length(), Some(0));
}

#[test]
fn hosts_outside_the_constraints_get_no_leaf() {
    let authority = throwaway(&["api.push.apple.com"]).unwrap();
    let error = authority.identity("www.apple.com").unwrap_err();
    assert!(matches!(error, CaError::Mint(MintError::NotPermitted { .. })), "{error}");
    assert!(error.to_string().contains("ca extend"));
    throwaway_unconstrained().unwrap().identity("www.apple.com").unwrap();
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let authority = throwaway(&["a.example"]).unwrap();
    let end = authority.issuer.not_after();
    let host = name("a.example");
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(end.unsigned_abs()) - 10 * DAY;
    let leaf = authority.issuer.mint(&host, LeafKey::P256, LEAF_LIFETIME, late).unwrap();
    assert_eq!(leaf.not_after(), Some(end));
    let after = late + 10 * DAY;
    let error = authority.issuer.mint(&host, LeafKey::P256, LEAF_LIFETIME, after).unwrap_err();
    assert!(matches!(error, MintError::NotValidNow { .. }), "{error}");
}

#[test]
fn what_cannot_issue_is_refused_with_its_reason() {
    let now = SystemTime::now();
    let authority = throwaway(&["a.example"]).unwrap();
    let leaf = authority.identity("a.example").unwrap();
    let error = Issuer::new(leaf.chain.clone(), &leaf.key, now).unwrap_err();
    assert!(matches!(error, CaError::NotACa { number: 1 }), "{error}");

    let chain = authority.issuer.chain().to_vec();
    let error = Issuer::new(chain.clone(), &leaf.key, now).unwrap_err();
    assert!(matches!(error, CaError::Mismatch), "{error}");
    let key = private_key(&authority.issuer.key);
    let error = Issuer::new(chain.clone(), &key, now + 731 * DAY).unwrap_err();
    assert!(matches!(error, CaError::Expired { number: 1 }), "{error}");
    let error = Issuer::new(chain.clone(), &key, now - DAY).unwrap_err();
    assert!(matches!(error, CaError::NotYetValid { number: 1 }), "{error}");
    let stranger = throwaway(&["a.example"]).unwrap().issuer.chain()[0].clone();
    let error = Issuer::new(vec![chain[0].clone(), stranger], &key, now).unwrap_err();
    assert!(matches!(error, CaError::PathLength { number: 2 }), "{error}");
    let other = new_root(Algorithm::P256, "another root", now).unwrap().certificate;
    let error = Issuer::new(vec![chain[0].clone(), other], &key, now).unwrap_err();
    assert!(matches!(error, CaError::Order { number: 2 }), "{error}");

    let whole = Issuer::new(vec![chain[0].clone(), authority.root], &key, now).unwrap();
    let identity = whole.mint(&name("a.example"), LeafKey::P256, DAY, now).unwrap();
    assert_eq!(identity.chain.len(), 2, "the root is not sent");
}

#[test]
fn extending_keeps_name_and_key_and_changes_hosts() {
    let now = SystemTime::now();
    let new = new_root(Algorithm::P256, "a root", now).unwrap();
    let root = Issuer::new(vec![new.certificate], &new.key, now).unwrap();
    let one = host_names(["a.example"]).unwrap();
    let old = root.new_issuer(Algorithm::P256, "an issuer", &one, now).unwrap();
    let two = host_names(["a.example", "b.example"]).unwrap();
    let fresh = root.extend(&old.certificate, &two, now).unwrap();
    let (before, after) = (parse(&old.certificate).unwrap(), parse(&fresh).unwrap());
    assert_eq!(before.subject().as_raw(), after.subject().as_raw());
    assert_eq!(before.public_key().raw, after.public_key().raw);
    assert_ne!(before.raw_serial(), after.raw_serial());
    let issuer = Issuer::new(vec![fresh], &old.key, now).unwrap();
    issuer.mint(&name("b.example"), LeafKey::P256, DAY, now).unwrap();
    assert!(matches!(root.extend(&old.certificate, &BTreeSet::new(), now), Err(CaError::NoHosts)));
}

#[test]
fn debug_output_shows_no_key() {
    let authority = throwaway(&["a.example"]).unwrap();
    let text = format!("{:?}", authority.issuer);
    assert!(text.len() < 400, "{text}");
}
