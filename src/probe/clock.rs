//! What time it is elsewhere: the Date fields of whatever answered, against this machine's clock.
//!
//! A wrong clock makes good certificates look expired and provider tokens look stale. Where a
//! certificate's dates are refused and nobody has told the time yet, somebody near is asked.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, header};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::findings::{Failure, Findings};
use super::ground::Ground;
use super::ladder::Aim;
use super::rung::{Outcome, Recorder, millis};
use crate::config::Scheme;
use crate::hop::{CertificateFault, Fact, HopErrorKind, Unobserved};
use crate::names::Authority;
use crate::upstream::dial::{Offer, Target};
use crate::upstream::http1;

/// Clocks that differ by less are well: tokens and certificates tolerate it.
pub const TOLERATED: i64 = 120;
/// Somebody near answers at once or not at all.
const ASKING: Duration = Duration::from_secs(2);
/// An answer's head is read no further, octets.
const HEAD_CAP: u64 = 8192;
/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
const DATE: usize = 29;
/// Where the clock stands on the ladder.
pub const STAGE: &str = "clock";

/// What somebody's clock says of ours.
#[derive(Debug)]
struct Skew {
    /// Our clock minus theirs, seconds.
    seconds: i64,
    by: String,
}

/// Looks for a Date in what was seen, asks for one where a certificate's dates are in doubt, and
/// adds the rung.
pub async fn look(
    ground: &Ground,
    aim: &Aim,
    until: Instant,
    findings: &mut Findings,
    recorder: &Recorder,
) {
    let began = Instant::now();
    let doubt = findings.failure.as_ref().is_some_and(in_doubt);
    if findings.skew.is_none() {
        let told = match heard(findings, recorder) {
            None if doubt => asked(ground, aim, until.min(began + ASKING)).await,
            heard => heard,
        };
        findings.skew = told.as_ref().map(|skew| skew.seconds);
        findings.timed_by = told.map(|skew| skew.by);
    }
    if let (Some(skew), by) = (findings.skew, &findings.timed_by) {
        let result = if skew.abs() > TOLERATED { Outcome::Warn } else { Outcome::Pass };
        let evidence = json!({ "skew_seconds": skew, "told_by": by });
        recorder.add(STAGE, result, Some(millis(began.elapsed())), evidence);
    } else if doubt {
        let evidence = json!({ "what": "nobody near tells the time" });
        recorder.add(STAGE, Outcome::Skip, None, evidence);
    }
}

/// A certificate was refused for its dates: the clock decides.
fn in_doubt(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        HopErrorKind::Certificate {
            reason: CertificateFault::Expired | CertificateFault::NotYetValid,
            ..
        }
    )
}

/// In the proxy's answer to CONNECT, or in a page that stands where TLS should.
fn heard(findings: &Findings, recorder: &Recorder) -> Option<Skew> {
    let proxy = findings.proxy.as_ref().map(ToString::to_string);
    let of = |marks: &[(String, String)]| {
        let date = marks.iter().find(|(name, _)| name == "date")?;
        skew(&date.1)
    };
    let tunnel = recorder.latest(|fact| match fact {
        Fact::Tunnel { marks, .. } => of(marks),
        Fact::Addresses { .. }
        | Fact::Tcp { .. }
        | Fact::Tls(_)
        | Fact::Alpn(_)
        | Fact::Settings(_)
        | Fact::Ping => None,
    });
    let kind = findings.failure.as_ref().map(|failure| &failure.kind);
    let refusal = kind.and_then(super::evidence::refusal).and_then(|refusal| of(&refusal.marks));
    if let Some(seconds) = tunnel.or(refusal) {
        return Some(Skew { seconds, by: proxy? });
    }
    let Some(HopErrorKind::NotTheProtocol { seen, .. }) = kind else { return None };
    let date = seen.to_ascii_lowercase().find("date: ")? + "date: ".len();
    let seconds = skew(seen.get(date..date + DATE)?)?;
    Some(Skew { seconds, by: "the page that stands in the way".to_owned() })
}

/// The proxy itself where there is one; else the origin in clear text, and port 80 of another
/// routed host: most servers refuse such a request with a Date.
async fn asked(ground: &Ground, aim: &Aim, until: Instant) -> Option<Skew> {
    if let Some(proxy) = ground.proxy(&aim.egress) {
        if proxy.tls {
            return None;
        }
        let date = timeout_at(until, date_of_proxy(&proxy.authority)).await.ok().flatten()?;
        return Some(Skew { seconds: skew(&date)?, by: proxy.authority.to_string() });
    }
    let other = ground.references.iter().find(|it| it.host != aim.origin.host);
    let other = other.map(|other| Authority::new(other.host.clone(), 80));
    let (near, far) = tokio::join!(
        date_of(ground, aim, Some(&aim.origin), until),
        date_of(ground, aim, other.as_ref(), until)
    );
    near.or(far)
}

/// A request to the proxy itself, which leads nowhere.
async fn date_of_proxy(proxy: &Authority) -> Option<String> {
    let mut tcp = super::control::connected(proxy).await?;
    let head = format!("GET / HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let mut tcp = tcp.take(HEAD_CAP);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if tcp.read_buf(&mut answer).await.ok()? == 0 {
            break;
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(&answer).ok()?;
    let date = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("date"))?;
    std::str::from_utf8(date.value).ok().map(str::to_owned)
}

/// The Date of a plain HTTP answer by the relay's own dialer.
async fn date_of(
    ground: &Ground,
    aim: &Aim,
    at: Option<&Authority>,
    until: Instant,
) -> Option<Skew> {
    let at = at?;
    let target = Target {
        scheme: Scheme::Http,
        identity: None,
        ..aim.target(at, Offer::NoAlpn, false, until)
    };
    let dialed = ground.dialer.dial(&target, &Unobserved).await.ok()?;
    let open = http1::Connection::open(3, (dialed.io, dialed.facts), std::rc::Rc::new(|| {}));
    let open = open.await.ok()?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = format!("http://{at}/").parse().ok()?;
    let response = open.exchange(&request, until).await.ok()?;
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    Some(Skew { seconds: skew(date)?, by: at.to_string() })
}

/// Our clock minus theirs, seconds.
pub fn skew(date: &str) -> Option<i64> {
    let theirs = OffsetDateTime::parse(&date.trim().replace("GMT", "+0000"), &Rfc2822).ok()?;
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(i64::try_from(ours.as_secs()).ok()? - theirs.unix_timestamp())
}

/// What the kernel says of its own clock (adjtimex(2), by way of systemd's `timedatectl`): a note
/// and no verdict, because many containers and well-kept machines say no. `None` where nobody can
/// be asked. Blocks for a second at most.
pub fn synchronised() -> Option<bool> {
    use std::process::{Command, Stdio};
    let mut asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = std::time::Instant::now() + Duration::from_secs(1);
    while asked.try_wait().ok()?.is_none() {
        if std::time::Instant::now() > until {
            // Without an answer by now there is none; the process is ours to end.
            let _ = asked.kill();
            let _ = asked.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = asked.wait_with_output().ok()?.stdout;
    match said.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_nonsense_is_not() {
        let hour_ago = OffsetDateTime::now_utc() - time::Duration::hours(1);
        let text = hour_ago.format(&Rfc2822).unwrap().replace("+0000", "GMT");
        assert!((3599..=3602).contains(&skew(&text).unwrap()), "{text}");
        assert_eq!(skew("yesterday"), None);
    }
}
