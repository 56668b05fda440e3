use pilot_core::push::PushContext;

use super::*;
use crate::config::debug::DebugConfig;
use crate::debug::testing::{Said, join, tell};

fn state() -> std::sync::Arc<RunningState> {
    RunningState::with(PushContext::default(), DebugConfig::default())
}

fn page(state: &RunningState) -> String {
    state.ads.metrics.page(state)
}

fn check(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "{line} is not on\n{page}");
    }
}

#[test]
fn counters_carry_istios_names() {
    let state = state();
    let metrics = &state.ads.metrics;
    metrics.pushes.get_or_create(&by_type("cds")).inc();
    metrics.send_error(ResourceType::Listener);
    metrics.connected("1.30.0", 1);
    metrics.received(700);
    metrics.received(300);
    metrics.propagated(ResourceType::Endpoint, Duration::from_millis(200));
    let page = page(&state);
    check(
        &page,
        &[
            "# TYPE pilot_xds_pushes counter",
            "pilot_xds_pushes{type=\"cds\"} 1",
            "pilot_xds_pushes{type=\"lds_senderr\"} 1",
            "pilot_xds{version=\"1.30.0\"} 1",
            "pilot_xds_recv_max 700",
            "pilot_propagation_time_seconds_bucket{le=\"0.1\",type=\"eds\"} 0",
            "pilot_propagation_time_seconds_bucket{le=\"0.5\",type=\"eds\"} 1",
            "xds_cache_reads{type=\"hit\"} 0",
            "xds_cache_size 0",
            "pilot_push_queue_length 0",
            "pilot_generations_running 0",
        ],
    );
    assert!(!page.contains("_total{") && !page.contains("# EOF"), "{page}");
}

#[test]
fn who_has_left_or_accepted_has_no_line() {
    let state = state();
    let clients = ["a", "b"].map(|pod| join(&state, pod, "default"));
    let line = |pod: &str, count: u32| {
        let node = format!("sidecar~10.0.0.1~{pod}.default~default.svc.cluster.local");
        format!("pilot_xds_cds_reject{{node=\"{node}\",err=\"13\"}} {count}")
    };
    tell(&clients[0], &[Said::Response, Said::Nack, Said::Response, Said::Nack]);
    tell(&clients[1], &[Said::Response, Said::Nack]);
    check(&page(&state), &[&line("a", 2), &line("b", 1)]);

    tell(&clients[0], &[Said::Response, Said::Nack, Said::Response, Said::Ack]);
    state.ads.hub.leave(clients[1].number);
    let page = page(&state);
    assert!(!page.contains("pilot_xds_cds_reject{"), "{page}");
}

#[test]
fn whoever_waits_for_a_turn_is_counted() {
    let state = state();
    let _client = join(&state, "a", "default");
    let request = pilot_core::push::PushRequest::forced(pilot_core::push::Reason::Debug);
    let mesh = state.ads.snapshot();
    let urgency = pilot_core::push::Urgency::Normal;
    state.ads.hub.push(&std::sync::Arc::new(request), urgency, (&mesh, &mesh), Instant::now());
    check(&page(&state), &["pilot_push_queue_length 1"]);
}
