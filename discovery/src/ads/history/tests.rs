use pilot_core::model::{ChangeKind, ConfigKey};

use super::*;
use ResourceType::{Cluster, Endpoint, Listener};

const MS: Duration = Duration::from_millis(1);

fn change(name: &str, start: Instant) -> Arc<PushRequest> {
    let key = ConfigKey { kind: ChangeKind::Endpoints, namespace: "default".into(), name: name.into() };
    Arc::new(PushRequest { start: Some(start), ..PushRequest::of([key], Reason::Endpoint) })
}

const fn response(kind: ResourceType, nonce: &str) -> Response<'_> {
    Response { kind, nonce, resources: 2, removed: 1, bytes: 300, generated: MS }
}

#[test]
fn a_push_is_told_from_its_event_to_the_ack() {
    let (history, event) = (History::default(), Instant::now());
    history.begin(&change("web", event), [Cluster, Endpoint], event + 100 * MS);
    history.unchanged(Cluster);
    history.sent(&response(Endpoint, "a"), event + 110 * MS);
    assert_eq!(history.answered(Endpoint, "other", Answer::Ack, event + 120 * MS), None);
    assert_eq!(history.answered(Cluster, "a", Answer::Ack, event + 120 * MS), None);
    assert_eq!(history.answered(Endpoint, "a", Answer::Ack, event + 130 * MS), Some(130 * MS));
    assert_eq!(history.answered(Endpoint, "a", Answer::Ack, event + 140 * MS), None, "once");

    let pushes = history.pushes();
    let [push] = pushes.as_slice() else { panic!("{pushes:?}") };
    assert_eq!(push.request.updated.first().map(|key| &*key.name), Some("web"));
    let told = Told {
        kind: Endpoint,
        resources: 2,
        removed: 1,
        bytes: 300,
        generated: MS,
        sent: 10 * MS,
        answer: Answer::Ack,
        answered: 20 * MS,
    };
    assert_eq!(push.responses, [told]);
}

#[test]
fn what_could_not_be_told_at_once_counts_from_its_own_event() {
    let (history, event) = (History::default(), Instant::now());
    // The proxy has not answered the response before, so neither change goes out at once.
    history.begin(&change("a", event), [Endpoint], event + MS);
    history.begin(&change("b", event + 50 * MS), [Endpoint], event + 51 * MS);
    history.sent(&response(Endpoint, "n"), event + 60 * MS);
    assert_eq!(history.answered(Endpoint, "n", Answer::Ack, event + 70 * MS), Some(70 * MS));
    // What was no news leaves nothing to count from.
    history.begin(&change("c", event + 80 * MS), [Listener], event + 81 * MS);
    history.unchanged(Listener);
    history.asked(event + 90 * MS);
    history.sent(&response(Listener, "m"), event + 91 * MS);
    assert_eq!(history.answered(Listener, "m", Answer::Ack, event + 92 * MS), None);
}

#[test]
fn a_rejection_is_remembered_and_nothing_has_arrived() {
    let (history, event) = (History::default(), Instant::now());
    history.begin(&change("web", event), [Endpoint], event);
    history.sent(&response(Endpoint, "a"), event);
    assert_eq!(history.answered(Endpoint, "a", Answer::Nack, event + MS), None);
    assert_eq!(history.pushes()[0].responses[0].answer, Answer::Nack);
}

#[test]
fn a_hundred_pushes_are_remembered_and_requests_in_a_row_are_one() {
    let (history, now) = (History::default(), Instant::now());
    for number in 0..250 {
        history.begin(&change(&number.to_string(), now), [Endpoint], now);
        for nonce in ["a", "b", "c"] {
            history.sent(&response(Endpoint, &format!("{number}{nonce}")), now);
        }
    }
    let pushes = history.pushes();
    assert_eq!(pushes.len(), PUSHES);
    assert_eq!(pushes[0].request.updated.first().map(|key| &*key.name), Some("249"));
    assert!(pushes.iter().all(|push| push.responses.len() == 3));

    for number in 0..1_000 {
        history.asked(now);
        history.sent(&response(Endpoint, &number.to_string()), now);
    }
    let pushes = history.pushes();
    assert_eq!((pushes.len(), pushes[0].responses.len()), (1, RESPONSES));
    assert!(Arc::ptr_eq(&pushes[0].request, &ASKED));
}

#[test]
fn a_record_is_small() {
    assert!(size_of::<Push>() <= 32, "{}", size_of::<Push>());
    assert!(size_of::<Sent>() <= 48, "{}", size_of::<Sent>());
}
