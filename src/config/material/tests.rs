use super::*;

fn load(folder: &Path, text: &str) -> Result<Material, Invalid> {
    let config = Config::from_text(text, &folder.join("relay.yaml")).unwrap();
    Material::load(&config)
}

const HEAD: &str = "version: 1\nlisteners: [{ bind: ['127.0.0.1:0'] }]\n";

#[test]
fn without_issuer_and_leaves_the_way_to_an_issuer_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let invalid =
        load(folder.path(), &format!("{HEAD}routes: [{{ provider: apns }}]\n")).unwrap_err();
    let text = invalid.to_string();
    assert!(text.contains("neither an issuer") && text.contains("pushrelay ca init"), "{text}");
}

#[test]
fn an_audit_log_needs_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let plain = "version: 1\nlisteners: [{ name: a, bind: ['127.0.0.1:0'], accept: [plain] }]\nroutes: [{ provider: mattermost }]\n";
    load(folder.path(), &format!("{plain}audit: {{ path: audit.log }}\n")).unwrap();
    let text = format!("{plain}audit: {{ path: none/audit.log }}\n");
    let told = load(folder.path(), &text).unwrap_err().to_string();
    assert!(told.contains("audit.path: the folder ") && told.contains("none does not"), "{told}");
}

#[test]
fn cleartext_needs_no_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let plain = "version: 1\nlisteners: [{ bind: ['127.0.0.1:0'], accept: [plain] }]\nroutes: [{ provider: mattermost }]\n";
    load(folder.path(), plain).unwrap();
}

#[test]
fn passthrough_needs_no_leaf_and_a_route_beside_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let carried = format!("{HEAD}routes:\n  - {{ provider: apns, tls: passthrough }}\n");
    load(folder.path(), &carried).unwrap();
    let ended = format!("{carried}  - {{ provider: mattermost }}\n");
    assert!(load(folder.path(), &ended).unwrap_err().to_string().contains("neither an issuer"));
}

#[test]
fn every_file_at_fault_is_named_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{HEAD}routes: [{{ provider: fcm, egress: a }}]\negress:\n  a:\n    proxies:\n      - url: http://p.example:1\n        credentials: {{ basic: {{ username: u, password: {{ file: gone.pw }} }} }}\n    roots: [bundled, gone.pem]\nissuer: {{ chain: gone-ca.pem, key: gone-ca.key }}\nadmin: {{ token: {{ env: PUSHRELAY_TEST_NOT_SET }} }}\n"
    );
    let invalid = load(folder.path(), &text).unwrap_err();
    let paths: Vec<(u32, &str)> =
        invalid.problems.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    assert_eq!(
        paths,
        [
            (8, "egress.a.proxies[0].credentials.basic.password"),
            (9, "egress.a.roots[1]"),
            (10, "issuer"),
            (11, "admin.token"),
        ]
    );
    let text = invalid.to_string();
    for name in ["gone.pw", "gone.pem", "gone-ca.pem", "PUSHRELAY_TEST_NOT_SET"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn half_of_the_default_issuer_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    std::fs::write(folder.path().join("certs/issuer.pem"), "").unwrap();
    let invalid =
        load(folder.path(), &format!("{HEAD}routes: [{{ provider: fcm }}]\n")).unwrap_err();
    assert!(invalid.to_string().contains("issuer.key"), "{invalid}");
}
