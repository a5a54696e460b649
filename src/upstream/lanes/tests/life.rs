//! How lanes begin and end: nothing stays behind, nobody waits for a turn that nobody gives.

use super::*;

fn rewired(lanes: &Lanes<Dialer>, limits: LaneLimits, identities: &[(&str, &Arc<Identity>)]) {
    let before = lanes.wiring.borrow().clone();
    let lane = |egress: &Arc<Egress>| Arc::new(Egress { lane: limits, ..(**egress).clone() });
    let egress = before.egress.iter().map(|(name, one)| (name.clone(), lane(one))).collect();
    let identities =
        identities.iter().map(|(route, one)| ((*route).to_owned(), (*one).clone())).collect();
    lanes.rewire(Wiring { dialer: before.dialer.clone(), egress, identities });
}

/// A push that comes back between two tries is on no connection; meanwhile a reload ends its lane.
#[test]
fn a_lane_that_was_given_up_under_a_push_leaves_no_connection_behind() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        origin.refuses.set(2);
        let lanes = lanes(&origin, LIMITS);
        let sending = {
            let lanes = lanes.clone();
            tokio::task::spawn_local(async move { lanes.send(&push(1, "KEY")).await })
        };
        sleep(Duration::from_millis(50)).await;
        assert_eq!((origin.dials.get(), origin.refuses.get()), (1, 0));
        rewired(&lanes, LIMITS, &[]);
        assert!(sending.await.unwrap().is_ok());
        sleep(Duration::from_secs(5)).await;
        assert_eq!((origin.dials.get(), origin.alive.get()), (2, 0));
    });
}

/// Eight credentials of one sender take all its lanes, and none of them ever dials again.
#[test]
fn who_waits_for_a_lane_is_called_when_those_before_it_have_left() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        origin.dial_fails.set(1000);
        let lanes = lanes(&origin, LIMITS);
        let soon = Instant::now() + Duration::from_secs(1);
        let before: Vec<_> = (0..UNPROVEN_OF_A_SENDER)
            .map(|number| Push { deadline: soon, ..push(number, &format!("KEY{number}")) })
            .collect();
        let waiting = {
            let lanes = lanes.clone();
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                lanes.send(&push(9, "LAST")).await
            })
        };
        assert!(send_all(&lanes, before).await.iter().all(Result::is_err));
        origin.dial_fails.set(0);
        let answered = waiting.await.unwrap();
        assert!(answered.is_ok(), "{answered:?}");
    });
}

#[test]
fn a_reload_changes_the_dial_budget() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        let narrow = LaneLimits { lanes: 1, ..LIMITS };
        let lanes = lanes(&origin, narrow);
        assert!(send_all(&lanes, pushes(1)).await[0].is_ok());
        rewired(&lanes, LaneLimits { lanes: 1, dials_per_second: 100, ..LIMITS }, &[]);
        for _reload in 0..3 {
            let begun = Instant::now();
            assert!(send_all(&lanes, pushes(1)).await[0].is_ok());
            assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
            rewired(&lanes, LaneLimits { lanes: 1, dials_per_second: 100, ..LIMITS }, &[]);
        }
        rewired(&lanes, narrow, &[]);
        assert!(send_all(&lanes, pushes(1)).await[0].is_ok());
        rewired(&lanes, narrow, &[]);
        let begun = Instant::now();
        assert!(send_all(&lanes, pushes(1)).await[0].is_ok());
        assert!(begun.elapsed() > Duration::from_millis(500), "a reload fills no bucket");
    });
}

/// The head of its request came before the reload, and the lane is opened after it.
#[test]
fn an_exchange_older_than_a_reload_shows_the_certificate_of_its_own_route() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        let lanes = lanes(&origin, LIMITS);
        let identity = || {
            let made = crate::pki::ca::throwaway(&["x.example"]).unwrap();
            Arc::new(made.identity("x.example").unwrap())
        };
        let (another, own) = (identity(), identity());
        rewired(&lanes, LIMITS, &[("another", &another), ("apns", &own)]);
        assert!(lanes.send(&push(1, "KEY")).await.is_ok());
        let shown = origin.shown.borrow().clone();
        assert!(shown.is_some_and(|shown| Arc::ptr_eq(&shown, &own)));
    });
}

#[test]
fn an_origin_that_refuses_and_ends_at_once_is_not_dialled_in_a_rush() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::RefuseAndEnd);
        let lanes = lanes(&origin, LIMITS);
        let Err(unanswered) = lanes.send(&push(1, "KEY")).await else { panic!("no answer came") };
        assert_eq!(unanswered.delivery, Delivery::NotSent);
        assert_eq!((unanswered.replays, origin.dials.get()), (4, 5));
    });
}
