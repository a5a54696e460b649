//! What a reload leaves as it was: the admin server, the log and the audit log are set up at the
//! start. A changed value is named, so that nobody believes that a withdrawn token is out of use.

use super::Config;
use super::material::Material;
use super::secret::Secret;

/// The keys whose values differ and count only after a restart.
pub fn until_restart(
    (before, old): (&Config, &Material),
    (after, new): (&Config, &Material),
) -> Vec<&'static str> {
    [
        ("admin", before.admin != after.admin || token(old) != token(new)),
        ("log", before.log != after.log),
        ("audit", before.audit != after.audit),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
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
        let (same, one, other) = (read(""), with("one"), with("other"));
        let differs = |rest: &str| until_restart((&same, &one), (&read(rest), &one));
        assert_eq!(differs("drain: 9s\n"), [""; 0]);
        assert_eq!(differs("admin: { bind: '127.0.0.1:1' }\n"), ["admin"]);
        assert_eq!(differs("log: { level: debug }\naudit: { path: a.log }\n"), ["log", "audit"]);
        assert_eq!(until_restart((&same, &one), (&same, &other)), ["admin"]);
    }
}
