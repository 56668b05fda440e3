//! The last 100 pushes of one proxy, with their reasons and responses.
//!
//! ```text
//!   begin / asked ──▶ push (context request, when) ──▶ sent ──▶ answered
//!                          │                             └─▶ how long from the event to the proxy's ACK
//!                          └─▶ unchanged: the proxy has all resources of this type
//! ```
//!
//! Every proxy has one: a push costs 32 bytes and a response 40, in rings that grow on demand. Requests are shared between
//! proxies.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use pilot_core::push::{PushRequest, Reason};
use pilot_proto::ResourceType;

use super::hub::lock;

/// Number of recorded pushes of a proxy.
const PUSHES: usize = 100;

/// Number of recorded responses of a proxy: four types for each push.
const RESPONSES: usize = 4 * PUSHES;

/// Recent pushes of one proxy.
#[derive(Debug, Default)]
pub(crate) struct History {
    log: Mutex<Log>,
}

/// Response to record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    /// Type of its resources.
    pub(crate) kind: ResourceType,
    /// Nonce that the ACK will carry.
    pub(crate) nonce: &'a str,
    /// Number of resources.
    pub(crate) resources: usize,
    /// Number of removed names.
    pub(crate) removed: usize,
    /// Size on the wire in bytes, without compression and HTTP/2.
    pub(crate) bytes: usize,
    /// Duration of the generation.
    pub(crate) generated: Duration,
}

/// Reaction of the proxy to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// None yet.
    None,
    /// Accepted.
    Ack,
    /// Rejected.
    Nack,
}

/// Recorded push.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// Changes and reasons.
    pub(crate) request: Arc<PushRequest>,
    /// Start of the proxy's turn.
    pub(crate) started: Instant,
    /// Responses in the order of sending.
    pub(crate) responses: Vec<Told>,
}

/// Recorded response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Type of its resources.
    pub(crate) kind: ResourceType,
    /// Number of resources.
    pub(crate) resources: u32,
    /// Number of removed names.
    pub(crate) removed: u32,
    /// Size in bytes; 4 GiB stands for all larger sizes.
    pub(crate) bytes: u32,
    /// Duration of the generation.
    pub(crate) generated: Duration,
    /// Time from the start of the push until it was sent.
    pub(crate) sent: Duration,
    /// Reaction of the proxy.
    pub(crate) answer: Answer,
    /// Time from then until the reaction; zero without one.
    pub(crate) answered: Duration,
}

#[derive(Debug, Default)]
struct Log {
    pushes: VecDeque<Push>,
    /// Responses of all pushes, in order.
    responses: VecDeque<Sent>,
    /// Time of the oldest change of each type that was not sent yet.
    since: [Option<Instant>; ResourceType::ALL.len()],
}

#[derive(Debug)]
struct Push {
    request: Arc<PushRequest>,
    started: Instant,
    /// Number of responses of the push.
    responses: u32,
}

#[derive(Debug)]
struct Sent {
    /// Hash of the nonce: it is compared, never shown.
    nonce: u64,
    resources: u32,
    removed: u32,
    bytes: u32,
    generated: Micros,
    /// Time from the start of the push until it was sent.
    delay: Micros,
    /// Age of the change when it was sent.
    age: Option<Micros>,
    /// Time from sending until the reaction.
    answered: Micros,
    kind: ResourceType,
    answer: Answer,
}

/// Duration of up to 71 minutes; longer ones are capped.
#[derive(Clone, Copy, Debug, Default)]
struct Micros(u32);

/// Request of a push that a request of the proxy caused. Shared by all proxies.
static ASKED: LazyLock<Arc<PushRequest>> =
    LazyLock::new(|| Arc::new(PushRequest::of([], Reason::ProxyRequest)));

// === impl History ===

impl History {
    /// Begins a push in which these types may have changed.
    pub(crate) fn begin(
        &self,
        request: &Arc<PushRequest>,
        kinds: impl IntoIterator<Item = ResourceType>,
        started: Instant,
    ) {
        let mut log = lock(&self.log);
        for kind in kinds {
            if let Some(since) = log.since_mut(kind) {
                *since = since.or(request.start);
            }
        }
        log.append(request.clone(), started);
    }

    /// Begins a push that a request of the proxy caused. Consecutive requests are one push.
    pub(crate) fn asked(&self, started: Instant) {
        let mut log = lock(&self.log);
        if !log.pushes.back().is_some_and(|last| Arc::ptr_eq(&last.request, &ASKED)) {
            log.append(ASKED.clone(), started);
        }
    }

    /// Notes that the proxy has all resources of this type.
    pub(crate) fn unchanged(&self, kind: ResourceType) {
        if let Some(since) = lock(&self.log).since_mut(kind) {
            *since = None;
        }
    }

    /// Records a response.
    pub(crate) fn sent(&self, response: &Response<'_>, now: Instant) {
        let mut log = lock(&self.log);
        let event = log.since_mut(response.kind).and_then(Option::take);
        if log.pushes.is_empty() {
            log.append(ASKED.clone(), now);
        }
        let Some(push) = log.pushes.back_mut() else { return };
        push.responses += 1;
        let delay = Micros::between(push.started, now);
        log.responses.push_back(Sent {
            nonce: hash(response.nonce),
            resources: clamp(response.resources),
            removed: clamp(response.removed),
            bytes: clamp(response.bytes),
            generated: response.generated.into(),
            delay,
            age: event.map(|event| Micros::between(event, now)),
            answered: Micros::default(),
            kind: response.kind,
            answer: Answer::None,
        });
        log.trim();
    }

    /// Records the reaction to a response. Returns the time since the change that it was sent for, if it was accepted and there
    /// was one.
    pub(crate) fn answered(
        &self,
        kind: ResourceType,
        nonce: &str,
        answer: Answer,
        now: Instant,
    ) -> Option<Duration> {
        let nonce = hash(nonce);
        let mut log = lock(&self.log);
        let Log { pushes, responses, .. } = &mut *log;
        let mut later = responses.iter_mut().rev();
        for push in pushes.iter().rev() {
            for sent in later.by_ref().take(push.responses as usize) {
                if sent.kind == kind && sent.nonce == nonce && sent.answer == Answer::None {
                    sent.answer = answer;
                    sent.answered = Micros::between(push.started + sent.delay.get(), now);
                    let age = sent.age.filter(|_| answer == Answer::Ack)?;
                    return Some(age.get() + sent.answered.get());
                }
            }
        }
        None
    }

    /// Returns the recorded pushes, the last one first.
    pub(crate) fn pushes(&self) -> Vec<Pushed> {
        let log = lock(&self.log);
        let mut responses = log.responses.iter();
        let read = |push: &Push| Pushed {
            request: push.request.clone(),
            started: push.started,
            responses: responses.by_ref().take(push.responses as usize).map(Sent::read).collect(),
        };
        let mut pushes: Vec<Pushed> = log.pushes.iter().map(read).collect();
        pushes.reverse();
        pushes
    }
}

// === impl Response ===

impl<'a> Response<'a> {
    /// Describes a response with its size on the wire and the duration of its generation.
    pub(crate) fn of(response: &'a pilot_xds::Response, bytes: usize, generated: Duration) -> Self {
        Self {
            kind: response.kind,
            nonce: response.nonce.as_str(),
            resources: response.resources().len(),
            removed: response.removed().len(),
            bytes,
            generated,
        }
    }
}

// === impl Log ===

impl Log {
    fn since_mut(&mut self, kind: ResourceType) -> Option<&mut Option<Instant>> {
        let place = ResourceType::ALL.iter().position(|known| *known == kind)?;
        self.since.get_mut(place)
    }

    fn append(&mut self, request: Arc<PushRequest>, started: Instant) {
        self.pushes.push_back(Push { request, started, responses: 0 });
        self.trim();
    }

    /// Removes the oldest records.
    fn trim(&mut self) {
        while self.pushes.len() > PUSHES || (self.responses.len() > RESPONSES && self.pushes.len() > 1) {
            if let Some(push) = self.pushes.pop_front() {
                self.responses.drain(..push.responses as usize);
            }
        }
        // All of them belong to one push, of a proxy that sends requests without end.
        if self.responses.len() > RESPONSES
            && let Some(only) = self.pushes.front_mut()
        {
            self.responses.pop_front();
            only.responses -= 1;
        }
    }
}

// === impl Sent ===

impl Sent {
    fn read(&self) -> Told {
        Told {
            kind: self.kind,
            resources: self.resources,
            removed: self.removed,
            bytes: self.bytes,
            generated: self.generated.get(),
            sent: self.delay.get(),
            answer: self.answer,
            answered: self.answered.get(),
        }
    }
}

// === impl Micros ===

impl Micros {
    fn between(earlier: Instant, later: Instant) -> Self {
        later.saturating_duration_since(earlier).into()
    }

    const fn get(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

impl From<Duration> for Micros {
    fn from(span: Duration) -> Self {
        Self(u32::try_from(span.as_micros()).unwrap_or(u32::MAX))
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn hash(nonce: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    nonce.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
