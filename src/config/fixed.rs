//! What a reload leaves as it was: the admin server, the log and the audit log are set up at the
//! start. A changed value is named, so that nobody believes that a withdrawn token is out of use.

use super::material::Material;
use super::secret::Secret;
use super::{Admin, Config};

/// The keys whose values differ and count only after a restart. What is served until then is put
/// back into `after` and `new`, so that the status and `check --diff` tell the truth.
pub fn until_restart(
    (before, old): (&Config, &Material),
    (after, new): (&mut Config, &mut Material),
) -> Vec<&'static str> {
    // Read afresh each time, so it counts at once.
    let admin = Admin { probe: after.admin.probe, ..before.admin.clone() };
    let differs = [
        ("admin", admin != after.admin || token(old) != token(new)),
        ("log", before.log != after.log),
        ("audit", before.audit != after.audit),
    ];
    after.admin = admin;
    after.log = before.log.clone();
    after.audit = before.audit.clone();
    new.admin_token.clone_from(&old.admin_token);
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

fn token(material: &Material) -> Option<&[u8]> {
    material.admin_token.as_ref().map(Secret::expose)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(rest: &str) -> Config {
        let head = "version: 1\nlisteners: [{ name: a, bind: ['127.0.0.1:0'] }]\n";
        let text = format!("{head}routes: [{{ provider: apns }}]\n{rest}");
        Config::from_text(&text, Path::new("/etc/pushrelay/relay.yaml")).unwrap()
    }

    fn with(token: &str) -> Material {
        let admin_token = Some(Secret::new(token.as_bytes().to_vec()));
        Material { admin_token, ..Material::default() }
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let served = (read(""), with("one"));
        let reloaded = |rest: &str, token: &str| {
            let mut fresh = (read(rest), with(token));
            let keys = until_restart((&served.0, &served.1), (&mut fresh.0, &mut fresh.1));
            assert_eq!(fresh.0.admin.bind, served.0.admin.bind);
            assert_eq!((&fresh.0.log, &fresh.0.audit), (&served.0.log, &served.0.audit));
            assert_eq!(token_of(&fresh.1), b"one");
            (keys, fresh.0.admin.probe)
        };
        assert_eq!(reloaded("drain: 9s\n", "one"), (vec![], true));
        assert_eq!(reloaded("admin: { bind: '127.0.0.1:1' }\n", "one"), (vec!["admin"], true));
        let logs = "log: { level: debug }\naudit: { path: a.log }\n";
        assert_eq!(reloaded(logs, "one"), (vec!["log", "audit"], true));
        assert_eq!(reloaded("", "other"), (vec!["admin"], true));
        assert_eq!(reloaded("admin: { probe: off }\n", "one"), (vec![], false));
    }

    fn token_of(material: &Material) -> &[u8] {
        token(material).unwrap()
    }
}
