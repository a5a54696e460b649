//! From the command line to what is climbed: with relay.yaml or without.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use url::Url;

use super::{Args, Problem};
use crate::cli::CONFIG_VARIABLE;
use crate::config::{Config, RootSource, Route, RouteHost, Scheme};
use crate::names::{Authority, Host};
use crate::pki::roots;
use crate::probe::ask::Ask;
use crate::probe::ground::{Ground, GroundError, Parts, apart};
use crate::probe::ladder::Aim;
use crate::probe::through::Sender;
use crate::probe::unit::{Environment, Trust};
use crate::provider::{PresetHost, Provider};

/// What stands behind `--proxy` without a password file.
const PASSWORD: &str = "PUSHRELAY_PROXY_PASSWORD";
/// The device hosts of APNs, what sends and what gives tokens at Google, and Mattermost's usual
/// push proxy: enough to judge a path.
const WORDS: &[(&str, &[&str])] = &[
    ("apns", &["api.push.apple.com", "api.sandbox.push.apple.com"]),
    ("fcm", &["fcm.googleapis.com", "oauth2.googleapis.com"]),
    ("mattermost", &["push.mattermost.com"]),
];

pub(super) fn plan(args: &Args) -> Result<(Ground, Vec<Aim>), Problem> {
    let usual = || std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    let file = args.config.clone().or_else(usual).unwrap_or_else(|| PathBuf::from("relay.yaml"));
    let without = args.direct || !args.proxy.is_empty();
    let config = if without { made(args)? } else { loaded(args, &file)? };
    let mut config = config;
    trust(args, &mut config);
    let (config, parts) = apart(config);
    let public: Vec<_> = args.roots.iter().cloned().map(RootSource::File).collect();
    let mut ground = Ground::new(&config, &public)?;
    let mut aims = if without { named(args, &ground)? } else { routed(args, &config, &parts)? };
    ground.declared = !args.inspection_roots.is_empty();
    ground.references = references(args, &ground, &aims);
    aims.dedup_by(|a, b| (&a.origin, &a.egress, a.scheme) == (&b.origin, &b.egress, b.scheme));
    Ok((ground, aims))
}

/// relay.yaml; who has none yet is told that none is needed.
fn loaded(args: &Args, file: &Path) -> Result<Config, Problem> {
    if args.config.is_none() && !file.exists() {
        return Err(Problem::NoFile(file.to_owned()));
    }
    Ok(Config::load(file).map_err(GroundError::from)?)
}

/// How a sender goes through a relay: the first target's name, else APNs' production host.
pub(super) fn sender(args: &Args, relay: &Authority) -> Result<Sender, Problem> {
    let word = args.targets.first().map_or("apns", String::as_str);
    let known = WORDS.iter().find(|(known, _)| *known == word);
    let name = known.and_then(|(_, hosts)| hosts.first().copied()).unwrap_or(word);
    let host = name.parse().map_err(|error| Problem::Usage(format!("{name:?}: {error}")))?;
    let environment = match (&args.unit, &args.root) {
        (None, _) => Environment::ours(),
        (Some(unit), None) => Environment::of_unit(unit)?,
        (Some(unit), Some(root)) => Environment::of_files(unit, root)?,
    };
    let Trust { files, system, mut notes } = environment.trust(args.root.as_deref());
    let given = args.roots.iter().chain(&args.inspection_roots).cloned();
    let mut sources: Vec<_> = given.map(RootSource::File).collect();
    for file in files {
        let one = RootSource::File(file.clone());
        match roots::load(std::slice::from_ref(&one)) {
            Ok(_) => sources.push(one),
            Err(error) => notes.push(format!(
                "{} cannot be read, so the sender trusts nothing in it: {error}.",
                file.display()
            )),
        }
    }
    // A sender trusts what its system trusts; a system without certificates has the bundled ones.
    let loaded = if system {
        sources.push(RootSource::System);
        roots::load(&sources).or_else(|_without_system| {
            sources.pop();
            sources.push(RootSource::Bundled);
            roots::load(&sources)
        })
    } else {
        roots::load(&sources)
    };
    let roots = loaded.map_err(GroundError::from)?;
    Ok(Sender { relay: relay.clone(), host, roots, environment, notes })
}

/// A configuration for what the command line names; the same checks as relay.yaml's apply.
fn made(args: &Args) -> Result<Config, Problem> {
    let mut egress = serde_json::Map::new();
    for (number, url) in args.proxy.iter().enumerate() {
        let proxy = proxy(args, url)?;
        egress.insert(way(number), json!({ "proxies": [proxy] }));
    }
    if args.direct {
        egress.insert(way(0), json!({}));
    }
    let document = json!({
        "version": 1,
        "listeners": [{ "name": "none", "bind": ["127.0.0.1:0"], "accept": ["plain"] }],
        "routes": [{ "provider": "apns", "egress": way(0) }],
        "egress": egress,
    });
    let here = Path::new("command-line");
    Config::from_text(&document.to_string(), here).map_err(|invalid| {
        let told: Vec<_> = invalid.problems.iter().map(|problem| problem.message.clone()).collect();
        Problem::Usage(told.join("; "))
    })
}

fn way(number: usize) -> String {
    if number == 0 { "probe".to_owned() } else { format!("probe-{}", number + 1) }
}

fn proxy(args: &Args, url: &str) -> Result<Value, Problem> {
    // Never quoted back: it may hold a password.
    let wrong = |what: &str| Problem::Usage(format!("--proxy: {what}"));
    if !url.contains("://") {
        return Err(wrong("the scheme is missing: want http[s]://[USER@]HOST:PORT"));
    }
    let mut url = Url::parse(url).map_err(|error| {
        wrong(&format!("want http[s]://[USER@]HOST:PORT, and this is no URL: {error}"))
    })?;
    if url.password().is_some() {
        return Err(wrong(
            "a password on the command line is seen by every user of this machine; put it into \
             PUSHRELAY_PROXY_PASSWORD or --proxy-password-file",
        ));
    }
    let user = url.username().to_owned();
    let user = percent_decoded(&user).ok_or_else(|| wrong("the user name is not UTF-8"))?;
    // `HOST:PORT` alone is a URL too: HOST is its scheme.
    url.set_username("").map_err(|()| wrong("want http[s]://[USER@]HOST:PORT"))?;
    let mut proxy = json!({ "url": url.as_str().trim_end_matches('/') });
    if !user.is_empty() {
        let password = match &args.proxy_password_file {
            Some(file) => {
                let file = std::path::absolute(file).unwrap_or_else(|_as_it_is| file.clone());
                json!({ "file": file.to_string_lossy() })
            }
            None if std::env::var_os(PASSWORD).is_some() => json!({ "env": PASSWORD }),
            None => {
                return Err(wrong(
                    "a user needs PUSHRELAY_PROXY_PASSWORD or --proxy-password-file",
                ));
            }
        };
        proxy["credentials"] = json!({ "basic": { "username": user, "password": password } });
    }
    Ok(proxy)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            let hex = std::str::from_utf8(&hex).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Adds the roots of the command line to every egress.
fn trust(args: &Args, config: &mut Config) {
    let more = args.roots.iter().chain(&args.inspection_roots);
    let more: Vec<_> = more.cloned().map(RootSource::File).collect();
    for egress in config.egress.values_mut() {
        let egress = Arc::make_mut(egress);
        egress.roots.extend(more.iter().cloned());
        for proxy in egress.proxies.iter_mut().filter(|proxy| proxy.tls) {
            proxy.roots.extend(more.iter().cloned());
        }
    }
}

fn preset(host: &str) -> Option<(Provider, &'static PresetHost)> {
    let all = [Provider::Apns, Provider::Fcm, Provider::Mattermost];
    let mut hosts = all.into_iter().flat_map(|one| one.hosts().iter().map(move |host| (one, host)));
    hosts.find(|(_, preset)| preset.host == host)
}

/// Every target by every way of the command line.
fn named(args: &Args, ground: &Ground) -> Result<Vec<Aim>, Problem> {
    let words: Vec<&str> = if args.targets.is_empty() {
        vec!["apns", "fcm"]
    } else {
        args.targets.iter().map(String::as_str).collect()
    };
    let mut aims = Vec::new();
    for egress in ground.egress.keys().filter(|name| name.0.starts_with("probe")) {
        for word in &words {
            let hosts = WORDS.iter().find(|(known, _)| known == word).map(|(_, hosts)| *hosts);
            for host in hosts.unwrap_or(&[*word]) {
                let (host, port) = Authority::parse_optional_port(host)
                    .map_err(|error| Problem::Usage(format!("{host:?}: {error}")))?;
                let known = preset(&host.to_string());
                let (provider, dialect) = known.map_or(
                    (Provider::Own, crate::provider::Dialect::Plain),
                    |(provider, preset)| (provider, preset.dialect),
                );
                let ports = known.map_or(&[443][..], |(_, preset)| preset.ports);
                let port = port.or_else(|| ports.first().copied()).unwrap_or(443);
                aims.push(Aim {
                    origin: Authority::new(host, port),
                    scheme: Scheme::Https,
                    ask: Ask::of(provider, dialect),
                    egress: egress.clone(),
                    h2_only: provider == Provider::Apns,
                    http1_only: false,
                    relay_next_hop: false,
                    without_identity: false,
                    other_ports: ports.to_vec(),
                });
            }
        }
    }
    Ok(aims)
}

/// Every host of every route by every proxy of its egress; the positional targets choose.
fn routed(args: &Args, config: &Config, parts: &Parts) -> Result<Vec<Aim>, Problem> {
    let mut aims: Vec<Aim> = Vec::new();
    for route in &config.routes {
        for host in &route.hosts {
            if !args.targets.is_empty()
                && !args.targets.iter().any(|word| chosen(word, route, host))
            {
                continue;
            }
            for egress in parts.get(&route.egress).into_iter().flatten() {
                let aim = Aim::of(route, host, egress.clone());
                let same = |one: &Aim| {
                    (&one.origin, &one.egress, one.scheme) == (&aim.origin, &aim.egress, aim.scheme)
                };
                if !aims.iter().any(same) {
                    aims.push(aim);
                }
            }
        }
    }
    let hosts =
        || config.routes.iter().flat_map(|route| route.hosts.iter().map(move |host| (route, host)));
    let strange = |word: &&String| !hosts().any(|(route, host)| chosen(word, route, host));
    if let Some(word) = args.targets.iter().find(strange) {
        let routes: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
        return Err(Problem::Usage(format!(
            "{word:?} is neither a route of {} ({}) nor one of their hosts; `--proxy` and \
             `--direct` climb to any host",
            config.path.display(),
            routes.join(", "),
        )));
    }
    Ok(aims)
}

fn chosen(word: &str, route: &Route, host: &RouteHost) -> bool {
    let named = || {
        let (name, port) = Authority::parse_optional_port(word).ok()?;
        let same = name == Host::Name(host.host.clone()) || name == host.origin;
        Some(same && port.is_none_or(|port| host.ports.contains(&port)))
    };
    word == route.name || word == route.provider.word() || named().unwrap_or(false)
}

/// Whom control rungs may ask for: what the operator names, else what the ground knows.
fn references(args: &Args, ground: &Ground, aims: &[Aim]) -> Vec<Authority> {
    if !args.control.is_empty() {
        return args.control.clone();
    }
    ground.controls(aims.iter().map(|aim| aim.origin.clone()))
}
