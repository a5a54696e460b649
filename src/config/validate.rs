//! From what is written to what is meant: [`Config::load`] and [`Config::from_text`].
//!
//! Every problem is collected, none hides another. Nothing here opens a file but relay.yaml.

use std::path::Path;
use std::sync::Arc;

use super::problem::{Findings, Invalid, Places, Position, Problem};
use super::raw;
use super::{Config, Placement, folder_of};

mod check;
mod egress;
mod listeners;
mod overlap;
mod paths;
mod process;
mod routes;
mod urls;

use check::Check;

/// Keys that are known but whose capability is not built: path pattern and what is missing.
/// In a pattern `*` is any one key, `[]` any one element.
const CAPABILITIES: &[(&str, &str)] = &[];

impl Config {
    /// Reads and validates a relay.yaml.
    ///
    /// # Errors
    /// Every problem of the file, the unreadable file being one.
    pub fn load(file: &Path) -> Result<Self, Invalid> {
        let unreadable = |message: String| Invalid {
            file: file.to_owned(),
            problems: vec![Problem {
                line: Position::START.line,
                column: Position::START.column,
                path: String::new(),
                message,
                hint: Some(
                    "name another file with --config, or write one with `pushrelay init`"
                        .to_owned(),
                ),
            }],
        };
        let size = std::fs::metadata(file)
            .map_err(|error| unreadable(format!("the file cannot be read: {error}")))?
            .len();
        if size > raw::LARGEST_FILE as u64 {
            return Err(unreadable(format!(
                "the file is larger than {} octets",
                raw::LARGEST_FILE
            )));
        }
        let bytes = std::fs::read(file)
            .map_err(|error| unreadable(format!("the file cannot be read: {error}")))?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::from_text(&text, file),
            Err(error) => Err(Invalid {
                file: file.to_owned(),
                problems: vec![raw::not_utf8(error.as_bytes(), error.utf8_error().valid_up_to())],
            }),
        }
    }

    /// Validates the text of a relay.yaml that stands, or would stand, at `file`.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn from_text(text: &str, file: &Path) -> Result<Self, Invalid> {
        let document = raw::read(text);
        let places = Arc::new(document.places);
        let mut check = Check::new(Findings::new(&places), folder_of(file));
        check.findings.problems = document.problems;
        not_yet(&mut check, &places, CAPABILITIES);
        let config = whole(&mut check, &document.file, file, &places);
        match Invalid::from_problems(file, check.findings.problems) {
            Some(invalid) => Err(invalid),
            None => Ok(config),
        }
    }
}

/// Validates block after block; the result means something only when no problem was found.
fn whole(check: &mut Check<'_>, file: &raw::File, path: &Path, places: &Arc<Places>) -> Config {
    match file.version {
        Some(1) => {}
        Some(_) => check.findings.add(
            "version",
            "this pushrelay reads version 1 of relay.yaml",
            "write `version: 1`",
        ),
        None => check.findings.missing("version", "`version` is missing", "add `version: 1`"),
    }
    let limits = process::limits(check, file.limits.as_ref());
    let egress = egress::all(check, file.egress.as_ref());
    let ways_out = routes::WaysOut::new(file.egress.as_ref());
    let routes = routes::all(check, file.routes.as_deref(), &ways_out, &limits);
    let admin = process::admin(check, file.admin.as_ref());
    let listeners = listeners::all(check, file.listeners.as_deref(), &routes, admin.bind);
    Config {
        path: path.to_owned(),
        placement: file.placement.map(|placement| match placement {
            raw::Placement::Pre => Placement::Pre,
            raw::Placement::Post => Placement::Post,
        }),
        drain: process::drain(check, file.drain),
        listeners: listeners.into_iter().map(Arc::new).collect(),
        routes: routes.into_iter().map(Arc::new).collect(),
        egress,
        issuer: file.issuer.as_ref().map(|pair| check.key_pair("issuer", pair)),
        leaves: process::leaves(check, file.leaves.as_deref()),
        limits,
        admin,
        log: process::log(check, file.log.as_ref()),
        audit: process::audit(check, file.audit.as_ref()),
        places: Arc::clone(places),
    }
}

/// Refuses keys whose capability is not built.
fn not_yet(check: &mut Check<'_>, places: &Places, capabilities: &[(&str, &str)]) {
    for path in places.paths() {
        for (pattern, what) in capabilities {
            if matches_pattern(path, pattern) {
                check.findings.add(
                    path,
                    format!("not yet: {what}"),
                    "leave the key out; a later version will know it",
                );
            }
        }
    }
}

/// `listeners[3].tunnel` matches `listeners[].tunnel`; `egress.a.dns` matches `egress.*.dns`.
fn matches_pattern(path: &str, pattern: &str) -> bool {
    let (mut path, mut pattern) = (path.split('.'), pattern.split('.'));
    loop {
        match (path.next(), pattern.next()) {
            (None, None) => return true,
            (Some(_), Some("*")) => {}
            (Some(have), Some(want)) => {
                let bare = |text: &str| text.split('[').next().unwrap_or_default().to_owned();
                if bare(have) != bare(want) || have.contains('[') != want.contains('[') {
                    return false;
                }
            }
            (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests;
