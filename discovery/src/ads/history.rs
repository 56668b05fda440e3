//! Why one proxy was pushed, and what came of it: its last 100 pushes.
//!
//! ```text
//!   begin / asked ──▶ push (context request, when) ──▶ sent ──▶ answered
//!                          │                             └─▶ how long from the event to the proxy's ACK
//!                          └─▶ unchanged: nothing of this type was news to the proxy
//! ```
//!
//! Every proxy has one, so a push costs 32 bytes and a response 40, in rings that grow on demand; the request is
//! shared with all proxies it concerns. Decides nothing; knows neither the protocol nor the page that shows it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use pilot_core::push::{PushRequest, Reason};
use pilot_proto::ResourceType;

use super::hub::lock;

/// Pushes that are remembered of a proxy.
const PUSHES: usize = 100;

/// Responses that are remembered of a proxy: four types for each push.
const RESPONSES: usize = 4 * PUSHES;

/// The last pushes of one proxy.
#[derive(Debug, Default)]
pub(crate) struct History {
    log: Mutex<Log>,
}

/// One response, as its sender knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    /// Type of its resources.
    pub(crate) kind: ResourceType,
    /// What the proxy's answer will carry.
    pub(crate) nonce: &'a str,
    /// How many resources it has.
    pub(crate) resources: usize,
    /// How many names it takes away.
    pub(crate) removed: usize,
    /// Its size on the wire, without compression and HTTP/2.
    pub(crate) bytes: usize,
    /// How long it took to generate.
    pub(crate) generated: Duration,
}

/// How the proxy took a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has not said yet.
    None,
    /// It has it.
    Ack,
    /// It rejected it.
    Nack,
}

/// One push, for reading.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// What changed, and why.
    pub(crate) request: Arc<PushRequest>,
    /// When the proxy had its turn.
    pub(crate) started: Instant,
    /// What it was sent, in this order.
    pub(crate) responses: Vec<Told>,
}

/// One response, for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Type of its resources.
    pub(crate) kind: ResourceType,
    /// How many resources it had.
    pub(crate) resources: u32,
    /// How many names it took away.
    pub(crate) removed: u32,
    /// Its size; 4 GiB stands for everything above.
    pub(crate) bytes: u32,
    /// How long it took to generate.
    pub(crate) generated: Duration,
    /// From the start of the push until it was sent.
    pub(crate) sent: Duration,
    /// How the proxy took it.
    pub(crate) answer: Answer,
    /// From then until the proxy answered; zero without an answer.
    pub(crate) answered: Duration,
}

#[derive(Debug, Default)]
struct Log {
    pushes: VecDeque<Push>,
    /// Of all pushes, in their order.
    responses: VecDeque<Sent>,
    /// When the oldest change of each type happened that the proxy was not told of yet.
    since: [Option<Instant>; ResourceType::ALL.len()],
}

#[derive(Debug)]
struct Push {
    request: Arc<PushRequest>,
    started: Instant,
    /// How many of the responses are its own.
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
    /// From the start of the push until it was sent.
    delay: Micros,
    /// After the event.
    age: Option<Micros>,
    /// After it was sent.
    answered: Micros,
    kind: ResourceType,
    answer: Answer,
}

/// Up to 71 minutes; longer is as long.
#[derive(Clone, Copy, Debug, Default)]
struct Micros(u32);

/// What a push is about that nobody but the proxy asked for. Shared by all proxies.
static ASKED: LazyLock<Arc<PushRequest>> =
    LazyLock::new(|| Arc::new(PushRequest::of([], Reason::ProxyRequest)));

// === impl History ===

impl History {
    /// A push begins in which these types may have news.
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

    /// The proxy asked for something. Requests in a row are one push.
    pub(crate) fn asked(&self, started: Instant) {
        let mut log = lock(&self.log);
        if !log.pushes.back().is_some_and(|last| Arc::ptr_eq(&last.request, &ASKED)) {
            log.append(ASKED.clone(), started);
        }
    }

    /// Nothing of this type was news to the proxy.
    pub(crate) fn unchanged(&self, kind: ResourceType) {
        if let Some(since) = lock(&self.log).since_mut(kind) {
            *since = None;
        }
    }

    /// A response was sent.
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

    /// The proxy answered a response. How long after the event that it was sent for, if it has the response and
    /// there was one.
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

    /// What is remembered, the last push first.
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
    /// A response that takes so many bytes on the wire and took so long to generate.
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

    /// Forgets the oldest.
    fn trim(&mut self) {
        while self.pushes.len() > PUSHES || (self.responses.len() > RESPONSES && self.pushes.len() > 1) {
            if let Some(push) = self.pushes.pop_front() {
                self.responses.drain(..push.responses as usize);
            }
        }
        // All of them are of one proxy that asks and asks.
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
