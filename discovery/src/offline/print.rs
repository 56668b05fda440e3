//! Prints the trace of a call as text and as JSON.

use pilot_core::simulate::{Call, Client, Destination, Payload, Request, Share, Trace, Verdict};
use serde_json::{Value, json};

/// Returns the steps in order, each with the objects that decide it, and the result.
pub(super) fn text(caller: &Client, call: &Call, trace: &Trace) -> String {
    let payload = match &call.payload {
        Payload::Http(request) => request_text(request),
        Payload::Bytes => "bytes".to_owned(),
    };
    let mut lines = vec![format!("{} sends {payload} to {}", caller.proxy.id.id, to(caller, &call.to))];
    for step in &trace.steps {
        let name = if step.name.is_empty() { "-" } else { &step.name };
        lines.push(format!("{:<13} {name} {}", step.stage.as_str(), step.what));
        lines.extend(step.origins.iter().map(|origin| format!("{:<13}   by {origin}", "")));
    }
    for share in trace.shares() {
        if let (Payload::Http(sent), Some(request)) = (&call.payload, &share.request)
            && sent != request
        {
            lines.push(format!("{:<13} {} receives {}", "request", share.cluster, request_text(request)));
        }
    }
    let reached = if trace.reaches() { "reached" } else { "not reached" };
    lines.push(format!("{reached}: {trace}\n"));
    lines.join("\n")
}

fn to(caller: &Client, destination: &Destination) -> String {
    let declared = destination.ip().and_then(|ip| caller.host_at(ip));
    declared.map_or_else(|| destination.to_string(), |host| format!("{destination} ({host})"))
}

/// Returns `GET reviews:9080/x, end-user: jason`.
fn request_text(request: &Request) -> String {
    let headers = request.headers.iter().map(|(name, value)| format!(", {name}: {value}"));
    format!("{} {}{}{}", request.method, request.authority, request.path, headers.collect::<String>())
}

/// Returns the same as JSON, with the clusters and endpoints.
pub(super) fn json(caller: &Client, call: &Call, trace: &Trace) -> Value {
    let steps: Vec<Value> = trace
        .steps
        .iter()
        .map(|step| {
            json!({"stage": step.stage.as_str(), "name": step.name, "what": step.what, "origins": step.origins})
        })
        .collect();
    json!({
        "proxy": caller.proxy.id.id,
        "to": call.to.to_string(),
        "steps": steps,
        "listener": trace.listener,
        "filterChain": trace.chain,
        "virtualHost": trace.virtual_host,
        "route": trace.route.as_ref().map(|route| &route.name),
        "policy": trace.policy,
        "verdict": verdict(&trace.verdict),
        "clusters": trace.shares().iter().map(share).collect::<Vec<Value>>(),
        "reached": trace.reaches(),
        "summary": trace.to_string(),
    })
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Refused => json!({"kind": "refused"}),
        Verdict::Closed(why) => json!({"kind": "closed", "because": format!("{why:?}")}),
        Verdict::Forwarded(_) => json!({"kind": "forwarded"}),
        Verdict::Redirected { status, location } => {
            json!({"kind": "redirected", "status": status, "location": location})
        }
        Verdict::Answered { status, because } => {
            json!({"kind": "answered", "status": status, "because": format!("{because:?}")})
        }
        Verdict::Unknown(what) => json!({"kind": "unknown", "because": what}),
    }
}

fn share(share: &Share) -> Value {
    let endpoints: Vec<Value> = share
        .upstream
        .endpoints()
        .iter()
        .map(|endpoint| {
            json!({
                "address": endpoint.address,
                "priority": endpoint.priority,
                "locality": endpoint.locality,
                "weight": endpoint.weight,
                "localityWeight": endpoint.locality_weight,
                "health": format!("{:?}", endpoint.health),
                "security": endpoint.security.to_string(),
            })
        })
        .collect();
    let request = share.request.as_ref().map(|request| {
        let headers: Vec<Value> =
            request.headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({"method": request.method, "authority": request.authority, "path": request.path, "headers": headers})
    });
    json!({
        "cluster": share.cluster,
        "weight": share.weight,
        "leadsTo": share.upstream.to_string(),
        "settings": share.settings,
        "endpoints": endpoints,
        "request": request,
    })
}
