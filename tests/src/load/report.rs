//! Report of a load: every answer, every failure, every end of a connection without a request in flight.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

/// The response header with the revision of a proxy's configuration, a number.
pub const REVISION: &str = "x-revision";

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Time of the last byte.
    pub at: Instant,
    /// Endpoint that sent the answer.
    pub endpoint: String,
    /// Revision of the proxy's configuration, or `None` if there is no such header.
    pub revision: Option<u32>,
    /// Duration of the request.
    pub took: Duration,
}

/// One request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Time of the failure.
    pub at: Instant,
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Error message with its causes.
    pub reason: String,
}

/// Kinds of failure that can be distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No listener at the address.
    Refused,
    /// The peer sent RST, or rejected a write.
    Reset,
    /// The peer closed the connection before the answer was complete.
    Closed,
    /// No answer in time.
    Timeout,
    /// An answer, but not 200.
    Status,
    /// Any other error.
    Other,
}

/// The end of a connection that its server closed.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEnd {
    /// Time of the end.
    pub at: Instant,
    /// Lifetime of the connection.
    pub lasted: Duration,
    /// [`FailureKind::Closed`] by a FIN, [`FailureKind::Reset`] by a RST.
    pub how: FailureKind,
    /// State of the client at that time.
    pub client: ClientState,
}

/// State of a client when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// No request in flight.
    Idle,
    /// Waiting for an answer.
    Waiting,
}

/// The outcome of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every answer, in order.
    pub answers: Vec<Answer>,
    /// Every failure, in order.
    pub failures: Vec<Failure>,
    /// Every end of a tunnel or an idle connection, in order.
    pub ends: Vec<ConnectionEnd>,
}

/// An answer with a status other than 200.
#[derive(Debug)]
pub(super) struct NotOk(pub(super) String);

// === impl Report ===

impl Report {
    /// Merges several reports, ordered by time.
    pub fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for report in reports {
            all.answers.extend(report.answers);
            all.failures.extend(report.failures);
            all.ends.extend(report.ends);
        }
        all.answers.sort_by_key(|answer| answer.at);
        all.failures.sort_by_key(|failure| failure.at);
        all.ends.sort_by_key(|end| end.at);
        all
    }

    /// Counts answers by endpoint.
    pub fn by_endpoint(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.endpoint.as_str()).or_default() += 1;
        }
        counts
    }

    /// Counts answers by revision; answers without a revision are left out.
    pub fn by_revision(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for revision in self.answers.iter().filter_map(|answer| answer.revision) {
            *counts.entry(revision).or_default() += 1;
        }
        counts
    }

    /// Returns the time of the endpoint's first answer later than `after`.
    pub fn first(&self, endpoint: &str, after: Instant) -> Option<Instant> {
        self.answers
            .iter()
            .find(|answer| answer.at > after && answer.endpoint == endpoint)
            .map(|answer| answer.at)
    }

    /// Returns the time of the endpoint's last answer.
    pub fn last(&self, endpoint: &str) -> Option<Instant> {
        self.answers.iter().rfind(|answer| answer.endpoint == endpoint).map(|answer| answer.at)
    }

    /// Returns the time of the revision's first answer.
    pub fn first_of_revision(&self, revision: u32) -> Option<Instant> {
        self.answers.iter().find(|answer| answer.revision == Some(revision)).map(|answer| answer.at)
    }

    /// Returns the time of the revision's last answer.
    pub fn last_of_revision(&self, revision: u32) -> Option<Instant> {
        self.answers.iter().rfind(|answer| answer.revision == Some(revision)).map(|answer| answer.at)
    }

    /// Returns the longest duration of an answer.
    pub fn longest(&self) -> Option<Duration> {
        self.answers.iter().map(|answer| answer.took).max()
    }

    /// Counts failures by kind.
    pub fn failures_by_kind(&self) -> BTreeMap<FailureKind, usize> {
        let mut counts = BTreeMap::new();
        for failure in &self.failures {
            *counts.entry(failure.kind).or_default() += 1;
        }
        counts
    }

    /// Returns an error with the reasons if any request failed, or if there was no request at all.
    pub fn ensure_no_failures(&self) -> Result<()> {
        ensure!(!self.answers.is_empty() || !self.failures.is_empty(), "no requests were sent");
        let Some(first) = self.failures.first() else { return Ok(()) };
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for failure in &self.failures {
            *reasons.entry(&failure.reason).or_default() += 1;
        }
        let (failed, all) = (self.failures.len(), self.failures.len() + self.answers.len());
        bail!("{failed} of {all} requests failed, first {:?} ago: {reasons:?}", first.at.elapsed())
    }
}

// === impl Failure ===

impl Failure {
    pub(super) fn now(error: &anyhow::Error) -> Self {
        Self { at: Instant::now(), kind: FailureKind::of(error), reason: format!("{error:#}") }
    }
}

// === impl FailureKind ===

impl FailureKind {
    /// Returns the kind of the first cause that has one.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Other)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<NotOk>() {
            return Some(Self::Status);
        }
        if cause.is::<tokio::time::error::Elapsed>() {
            return Some(Self::Timeout);
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return Some(Self::Closed);
        }
        match cause.downcast_ref::<io::Error>()?.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Some(Self::Reset)
            }
            io::ErrorKind::UnexpectedEof => Some(Self::Closed),
            io::ErrorKind::TimedOut => Some(Self::Timeout),
            _ => None,
        }
    }
}

// === impl NotOk ===

impl fmt::Display for NotOk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotOk {}
