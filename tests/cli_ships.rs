//! What ships works: relay.yaml, the files in deploy/, README's demo.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn pushrelay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushrelay"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn good(arguments: &[&str]) -> String {
    let output = pushrelay(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{complaint}");
    text
}

#[test]
fn every_relay_yaml_in_the_repository_is_valid() {
    for file in ["relay.yaml", "deploy/relay.pre.yaml", "deploy/relay.post.yaml"] {
        good(&["check", "--syntax", "--config", file]);
    }
}

#[test]
fn the_charts_default_relay_yaml_is_valid() {
    let values = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/pushrelay/values.yaml");
    let values = fs::read_to_string(values).unwrap();
    let (_, block) = values.split_once("\nconfig: |\n").expect("the chart has a relay.yaml");
    let text: Vec<&str> = block.lines().map_while(|line| line.strip_prefix("  ")).collect();
    assert!(text.contains(&"version: 1"), "{text:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.yaml");
    fs::write(&file, text.join("\n") + "\n").unwrap();
    good(&["check", "--syntax", "--config", file.to_str().unwrap()]);
}

/// The examples serve once their certificates and the password are there, as README says.
#[test]
fn the_examples_pass_the_whole_check_after_ca_init() {
    for side in ["pre", "post"] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let example = format!("{}/deploy/relay.{side}.yaml", env!("CARGO_MANIFEST_DIR"));
        fs::create_dir(folder.path().join("relay")).unwrap();
        fs::copy(example, path("relay/relay.yaml")).unwrap();
        write_secret(&folder.path().join("relay/proxy.pw"));
        let (config, key) = (path("relay/relay.yaml"), path("root.key"));
        good(&["ca", "init", "--root-key", &key, "--algorithm", "p256", "--config", &config]);
        good(&["check", "--config", &config]);
    }
}

fn write_secret(path: &Path) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    file.write_all(b"s3cret\n").expect("room for a line");
}

#[test]
fn the_demo_does_what_it_claims() {
    let text = good(&["demo"]);
    let lines =
        |word: &str| text.lines().filter(|line| line.trim_start().starts_with(word)).count();
    assert_eq!((lines("lost "), lines("ok "), lines("WRONG")), (1, 8, 0), "{text}");
    assert_eq!(text.matches("4 pushes, 1 HTTP/2 connection, 0 broken rules").count(), 2, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "wider than a terminal:\n{text}");
}
