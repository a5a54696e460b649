//! pushrelay carries push notifications out of corporate networks.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod downstream;
pub mod hop;
pub mod io;
pub mod metrics;
pub mod names;
pub mod pki;
pub mod probe;
pub mod provider;
pub mod relay;
pub mod shutdown;
pub mod simulate;
pub mod telemetry;
pub mod upstream;
