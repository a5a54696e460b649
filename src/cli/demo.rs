//! `pushrelay demo`: the main job on this machine, without network and without root.
//!
//! Simulated peers stand around a real relay, the running executable itself. What is printed is
//! taken from the record of the origin and of the proxy, not from what was planned.

use std::process::ExitCode;

use crate::simulate::SimulateError;
use crate::simulate::sender::SendError;

use super::out::{complain, say};
use super::send::chain;

mod post;
mod pre;
mod relay;
mod stage;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// A file or a process.
    #[error("cannot start the relay")]
    Io(#[from] std::io::Error),
    /// The relay did not become ready.
    #[error("the relay did not start: {0}")]
    Relay(String),
    /// A simulated peer.
    #[error("a simulated peer")]
    Simulate(#[from] SimulateError),
    /// A push without an answer.
    #[error("a push")]
    Send(#[from] SendError),
}

/// Runs `demo`; success only if every push did what it claims.
pub fn run(_args: Args) -> ExitCode {
    say!(
        "Everything here runs on this machine: senders, proxies and APNs are simulated, the relay is real.\n\
         200 is a delivered push; 410 is one that APNs refuses, as the sender must hear it."
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = runtime.map_err(DemoError::Io).and_then(|runtime| {
        runtime.block_on(async {
            let post = post::show().await?;
            let pre = pre::show().await?;
            Ok(post && pre)
        })
    });
    match shown {
        Ok(true) => {
            say!("\nEvery push did what it claims.");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            say!("\nNot every push did what it claims: see the lines marked WRONG.");
            ExitCode::FAILURE
        }
        Err(error) => {
            complain!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
