//! The schedule by virtual time: moments are added, nobody waits.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn seen(origin: &str, route: &str, first: bool) -> Seen {
    let path = Path { origin: origin.parse().unwrap(), egress: EgressName("out".into()) };
    Seen { path, route: route.to_owned(), first, success: None, failure: None, failing: None }
}

fn failing(mut one: Seen, since: Instant, latest: Instant) -> Seen {
    one.failing = Some(since);
    one.failure = Some(latest);
    one
}

fn origin(due: Option<&Path>) -> Option<String> {
    due.map(|path| path.origin.to_string())
}

#[test]
fn a_path_that_works_is_never_probed() {
    let start = Instant::now();
    let schedule = Schedule::new(start);
    let mut one = seen("a.example:443", "r", true);
    for hours in 0..48 {
        let now = start + 3600 * SECOND * hours;
        one.success = Some(now);
        // It failed once, and pushes got through since.
        one.failure = Some(now - SECOND.min(now - start));
        assert_eq!(schedule.due(now, std::slice::from_ref(&one)), None);
    }
}

#[test]
fn a_failing_path_is_climbed_soon_and_then_every_quarter_of_an_hour() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start);
    let mut climbs = Vec::new();
    for second in 0..7200 {
        let now = start + SECOND * second;
        let one = failing(seen("a.example:443", "r", true), start, now);
        if let Some(path) = schedule.due(now, &[one]) {
            schedule.begun(now, &path.origin);
            schedule.ended(now + 14 * SECOND, &path.origin, false);
            climbs.push(second);
        }
    }
    assert_eq!(climbs, [30, 930, 1830, 2730, 3630, 4530, 5430, 6330]);
}

#[test]
fn old_failures_and_short_ones_are_no_reason() {
    let start = Instant::now();
    let schedule = Schedule::new(start);
    let mut one = failing(seen("a.example:443", "r", true), start, start);
    assert_eq!(schedule.due(start + 29 * SECOND, std::slice::from_ref(&one)), None);
    assert!(schedule.due(start + 30 * SECOND, std::slice::from_ref(&one)).is_some());
    // Nobody has tried for a quarter of an hour.
    assert_eq!(schedule.due(start + EVERY, std::slice::from_ref(&one)), None);
    one.failing = None;
    assert_eq!(schedule.due(start + 30 * SECOND, &[one]), None);
}

#[test]
fn one_ladder_at_a_time_and_each_origin_in_turn_whatever_its_egress() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start);
    let mut climbs = Vec::new();
    for second in 0..900 {
        let now = start + SECOND * second;
        let mut all: Vec<_> = ["a.example:443", "b.example:443", "c.example:443"]
            .map(|name| failing(seen(name, "r", true), start, now))
            .into();
        // The same origin by another egress gives it no second ladder.
        let mut twice = all[0].clone();
        twice.path.egress = EgressName("other".into());
        all.push(twice);
        if let Some(path) = schedule.due(now, &all) {
            climbs.push((second, path.origin.host.to_string()));
            schedule.begun(now, &path.origin);
        }
    }
    let expected = [(30, "a.example"), (40, "b.example"), (50, "c.example")];
    assert_eq!(climbs, expected.map(|(at, name)| (at, name.to_owned())));
}

#[test]
fn an_unused_route_is_climbed_by_its_first_host_once_while_it_is_well() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start);
    let all = [
        seen("a.example:443", "apns", true),
        seen("b.example:443", "apns", false),
        Seen { success: Some(start), ..seen("c.example:443", "fcm", false) },
        seen("d.example:443", "fcm", true),
    ];
    assert_eq!(schedule.due(start + 299 * SECOND, &all), None);
    let now = start + UNUSED_AFTER;
    let path = schedule.due(now, &all).unwrap().clone();
    assert_eq!(path.origin.to_string(), "a.example:443");
    schedule.begun(now, &path.origin);
    schedule.ended(now, &path.origin, true);
    assert_eq!(schedule.due(now + EVERY, &all), None);
    assert_eq!(origin(schedule.due(now + UNUSED_AGAIN, &all)).as_deref(), Some("a.example:443"));
    // Where it was not well, somebody may be mending it.
    schedule.ended(now, &path.origin, false);
    assert_eq!(schedule.due(now + EVERY - SECOND, &all), None);
    assert!(schedule.due(now + EVERY, &all).is_some());
    schedule.keep(&all[1..]);
    assert!(schedule.climbed.is_empty());
}

#[test]
fn a_push_that_got_through_overtakes_a_bad_verdict() {
    let start = Instant::now();
    let verdicts = Verdicts::default();
    let mut one = seen("a.example:443", "r", true);
    let known = |severity| Known {
        verdict: Verdict {
            severity,
            code: "proxy_hung",
            hop: "proxy",
            sentence: "It hangs.".to_owned(),
            action: "Ask.".to_owned(),
        },
        since: start + SECOND,
        at: String::new(),
    };
    assert!(verdicts.set(&one.path, known(Severity::Fail)).is_none());
    one.success = Some(start);
    assert!(verdicts.overtaken(std::slice::from_ref(&one)).is_empty());
    assert_eq!(verdicts.report()[0]["code"], "proxy_hung");
    one.success = Some(start + 2 * SECOND);
    assert_eq!(verdicts.overtaken(std::slice::from_ref(&one)).len(), 1);
    assert!(verdicts.report().is_empty());
    verdicts.set(&one.path, known(Severity::Ok));
    assert!(verdicts.overtaken(std::slice::from_ref(&one)).is_empty());
    assert_eq!(verdicts.overtaken(&[]).len(), 1, "routed no more");
}
