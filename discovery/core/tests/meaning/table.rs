//! The one form of a case: a rule, a call, and where the call ends; and the count of those that were checked.

use std::cell::RefCell;
use std::fmt::Write as _;

use pilot_core::simulate::{Request, Stage, Trace};

use crate::fixture::{Client, short};

/// A rule, a call, and where the call ends. In [`check_each`] all make the same call, and what is written stands in its
/// place.
pub(crate) type Case<'a> = (&'a str, &'a str, &'a str);

/// What of a trace a table is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// Where the call ends, from its listener on.
    End,
    /// Where it ends, be it whatever listener; clusters of namespace `default` are written `<port>|<subset>|<name>`.
    Verdict,
    /// The request as it leaves the proxy, for each of its destinations: `GET host /path name=value`.
    Request,
    /// What stands behind the first of the clusters.
    Upstream,
    /// What the route, or the chain, asks for besides, of what begins with this.
    Policy(&'static str),
    /// How the first of the clusters deals with its endpoints, of what begins with this.
    Settings(&'static str),
    /// What was decided at a stage.
    Said(Stage),
    /// The name of the route.
    Route,
    /// The objects that decided at a stage.
    Origins(Stage),
}

thread_local! {
    static CHECKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Calls of one client.
pub(crate) fn check(client: &Client, look: Look, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, look.at(&client.ask(case.1)))));
}

/// One call, of clients that what is written makes.
pub(crate) fn check_each(look: Look, call: &str, client: impl Fn(&str) -> Client, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, look.at(&client(case.1).ask(call)))));
}

/// Rules that a call cannot show: what was written, and what was found instead of where it ends.
pub(crate) fn check_found(found: impl Fn(&str) -> String, cases: &[Case<'_>]) {
    judge(cases.iter().map(|case| (*case, found(case.1))));
}

/// The rules that this thread has checked since it was last asked.
pub(crate) fn checked() -> Vec<String> {
    CHECKED.take()
}

/// Every case, whatever became of those before it.
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
