//! How lanes begin and end: nothing stays behind, nobody waits for a turn that nobody gives.

use super::*;

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
        let same = lanes.wiring.borrow().egress.clone();
        lanes.rewire(Wiring {
            dialer: Rc::new(Dialer(origin.clone())),
            egress: same,
            identities: Vec::new(),
        });
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
