//! What is served, against what the file says: `check --diff` and the admin server.

use std::process::Command;

use pushrelay::simulate::proxy::Manner;

use crate::support::{corporate, origin, relay, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_compared_with_what_runs_and_no_secret_is_told() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let relay = relay().via_basic(&proxy, &apns, ("mpns", "canary-password")).start().await;
    let diff = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushrelay"));
        command.args(["check", "--diff", "--admin", &format!("http://{}", relay.admin)]);
        command.arg("--config").arg(relay.path("relay.yaml"));
        let ended = within(tokio::task::spawn_blocking(move || command.output().unwrap())).await;
        let output = ended.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("canary-password"), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = diff().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("serves what the file says"), "{text}");
    let file = relay.path("relay.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, yaml.replace("placement: post", "placement: pre")).unwrap();
    let (code, text) = diff().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("- placement: post\n+ placement: pre\n"), "{text}");
    std::fs::write(&file, "version: 1\n").unwrap();
    assert_eq!(diff().await.0, Some(78), "an invalid file is not compared");
}
