//! Observations that are reported, and those that are dropped as known.

use super::*;
use crate::envoy_admin::read_listeners;

const LAUNCH: Launch = Launch::FIRST;

/// Answers (`true`) and lost ones at the given milliseconds; the news among them.
fn check(answers: &[(u64, bool)], expected: &[(u64, Event)]) {
    let start = Instant::now();
    let mut state = ObserverState::new(start);
    let mut lifecycle_publisher = Vec::new();
    for &(millis, answered) in answers {
        let answer = answered.then_some(()).ok_or(());
        let noted = state.note(LAUNCH, &answer, start + Duration::from_millis(millis));
        lifecycle_publisher.extend(noted.map(|event| (millis, event)));
    }
    assert_eq!(lifecycle_publisher, expected, "{answers:?}");
}

#[test]
fn an_admin_that_never_answered_is_not_silent() {
    check(&[(0, false), (10_000, false), (20_000, false)], &[]);
}

#[test]
fn silence_and_return_are_told_once_each() {
    let looks = [
        (0, true),
        (2_000, false),
        (3_250, false),
        (4_500, false),
        (5_750, false),
        (6_000, true),
        (7_000, true),
    ];
    check(&looks, &[(4_500, Event::AdminUnresponsive(LAUNCH)), (6_000, Event::AdminRecovered(LAUNCH))]);
}

#[test]
fn refusals_in_quick_succession_and_a_single_late_one_are_no_silence() {
    check(&[(0, true), (10, false), (20, false), (30, false), (40, true)], &[]);
    check(&[(0, true), (90_000, false), (90_250, true)], &[]);
}

#[test]
fn an_old_envoy_is_empty_without_connections_or_without_requests_for_a_while() {
    let start = Instant::now();
    let check = |looks: &[(u64, u64, u64, u64)], expected: bool| {
        let mut state = ObserverState::new(start);
        let mut empty = false;
        for &(millis, active, begun, connections) in looks {
            let activity = Some(Activity { active, begun });
            empty = state.is_empty(activity, connections, start + Duration::from_millis(millis));
        }
        assert_eq!(empty, expected, "{looks:?}");
    };
    check(&[(0, 0, 7, 0)], true);
    check(&[(0, 1, 7, 1)], false);
    check(&[(0, 0, 7, 3), (499, 0, 7, 3)], false);
    check(&[(0, 0, 7, 3), (500, 0, 7, 3)], true);
    check(&[(0, 0, 7, 3), (400, 0, 8, 3), (500, 0, 8, 3)], false);
    check(&[(0, 0, 7, 3), (400, 1, 8, 3), (500, 0, 8, 3)], false);
}

#[test]
fn a_large_envoy_is_asked_less_often() {
    let check = |cost, expected| {
        assert_eq!(drain_interval(Duration::from_millis(cost)), Duration::from_millis(expected));
    };
    check(0, 50);
    check(2, 50);
    check(10, 200);
    check(128, 1_000);
}

#[test]
fn listeners_name_their_addresses() {
    let check = |json: &str, expected: &[&str]| {
        let listening = addresses(&read_listeners(json.as_bytes()).unwrap());
        assert_eq!(listening.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{json}");
    };
    check("{}", &[]);
    check(r#"{"listener_statuses": []}"#, &[]);
    check(
        r#"{"listener_statuses": [{"name": "v4", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}}}]}"#,
        &["tcp://127.0.0.1:80", "udp://127.0.0.1:80"],
    );
    check(
        r#"{"listener_statuses": [
            {"local_address": {"socket_address": {"address": "::", "port_value": 80}},
             "additional_local_addresses": [{"pipe": {"path": "/run/a"}}, {"pipe": {"path": "@b"}}]},
            {"local_address": {"socket_address": {"address": "::", "port_value": 80}}}]}"#,
        &["tcp://[::]:80", "udp://[::]:80", "unix:///run/a", "unix://@b"],
    );
    // Nothing of these can be held, and nothing of them is in the way.
    check(
        r#"{"listener_statuses": [
            {"name": "internal", "local_address": {"envoy_internal_address": {"server_listener_name": "i"}}},
            {"name": "elsewhere", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 80, "network_namespace_filepath": "/run/netns/a"}}},
            {"name": "named", "local_address": {"socket_address": {"address": "example.org", "port_value": 80}}}]}"#,
        &[],
    );
    assert!(read_listeners(b"no JSON").is_err());
}
