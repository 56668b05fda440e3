//! Form of a case: a rule, a call, and its expected result; and the count of checked cases.

use std::cell::RefCell;
use std::fmt::Write as _;

use pilot_core::simulate::{Request, Stage, Trace};

use crate::fixture::{Client, short};

/// Rule, call, expected result. In [`check_each`] all cases make the same call, and the second part is the configuration.
pub(crate) type Case<'a> = (&'a str, &'a str, &'a str);

/// Part of a trace that a table checks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// Destination of the call, from its listener on.
    End,
    /// Destination without the listener; clusters of namespace `default` are written `<port>|<subset>|<name>`.
    Verdict,
    /// Upstream request for each destination: `GET host /path name=value`.
    Request,
    /// Upstream of the first cluster.
    Upstream,
    /// Settings of the route or filter chain that begin with this.
    Policy(&'static str),
    /// Settings of the first cluster that begin with this.
    Settings(&'static str),
    /// Decision at a stage.
    Said(Stage),
    /// Name of the route.
    Route,
    /// Objects behind the decision at a stage.
    Origins(Stage),
}

thread_local! {
    static CHECKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Checks calls of one client.
pub(crate) fn check(client: &Client, look: Look, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, look.at(&client.ask(case.1)))));
}

/// Checks one call of clients with different configuration.
pub(crate) fn check_each(look: Look, call: &str, client: impl Fn(&str) -> Client, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, look.at(&client(case.1).ask(call)))));
}

/// Checks rules that no call shows: configuration and a computed result.
pub(crate) fn check_found(found: impl Fn(&str) -> String, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, found(case.1))));
}

/// Returns the rules that this thread has checked since the last call.
pub(crate) fn checked() -> Vec<String> {
    CHECKED.take()
}

/// Checks all cases, including those after a failed one.
fn judge<'a>(cases: impl Iterator<Item = (Case<'a>, String)>) {
    let mut wrong = String::new();
    for ((rule, said, expected), found) in cases {
        if found != expected {
            writeln!(wrong, "{rule}\n   said {said}\n   want {expected}\n   have {found}").unwrap();
        }
        CHECKED.with_borrow_mut(|checked| checked.push(rule.to_owned()));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

// === impl Look ===

impl Look {
    fn at(self, trace: &Trace) -> String {
        let first = trace.shares().first();
        match self {
            Self::End => trace.to_string(),
            Self::Verdict => short(&trace.verdict.to_string()),
            Self::Request => {
                let requests = trace.shares().iter().filter_map(|share| share.request.as_ref());
                requests.map(request).collect::<Vec<_>>().join(" + ")
            }
            Self::Upstream => first.map_or_else(|| trace.to_string(), |share| share.upstream.to_string()),
            Self::Policy(word) => beginning(&trace.policy, word),
            Self::Settings(word) => {
                first.map_or_else(|| trace.to_string(), |share| beginning(&share.settings, word))
            }
            Self::Said(stage) => short(&trace.said(stage).join(" > ")),
            Self::Route => trace.route.as_ref().map_or_else(String::new, |route| route.name.clone()),
            Self::Origins(stage) => {
                let steps = trace.steps.iter().filter(|step| step.stage == stage);
                steps.flat_map(|step| step.origins.clone()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn request(request: &Request) -> String {
    let Request { method, authority, path, .. } = request;
    let headers = request.headers.iter().filter(|(name, _)| !name.starts_with("x-envoy"));
    let headers = headers.map(|(name, value)| format!("{name}={value}"));
    let parts = [method, authority, path].into_iter().cloned();
    parts.chain(headers).collect::<Vec<_>>().join(" ")
}

fn beginning(said: &[String], word: &str) -> String {
    let said = said.iter().filter(|said| said.starts_with(word));
    said.map(|said| short(said)).collect::<Vec<_>>().join("; ")
}
