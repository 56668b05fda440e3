//! Follows what should be running, and tells what is new about it.
//!
//! One task on the agent's runtime waits; each look is [`Observer`]'s, on a thread of its own. What is told is a
//! state, not a queue: who listens slowly hears the last word only.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{error, info, warn};

use super::belief::{Belief, Sense, Verdict};
use super::eyes::{self, Blindness, Eyes, Gaze, Watched};
use super::observer::{Calm, Observer, Occasion};
use super::patience::{Notice, Pace, Patience};
use super::{ConfigHash, Desired, Given, Reading};
use crate::config::fault::Faults;
use crate::config::sources::Sources;

/// Follows the desired state until it is dropped.
#[derive(Debug)]
pub struct Follower {
    standing: watch::Receiver<Standing>,
    looks: Arc<Looks>,
    told: Told,
}

/// How often was looked.
#[derive(Debug, Default)]
struct Looks {
    /// At the files.
    all: AtomicU64,
    /// With something new to be read.
    read: AtomicU64,
}

/// Opens the eyes.
pub(super) type Open = fn() -> Result<(Eyes, Gaze), Blindness>;

/// What is new.
#[derive(Clone, Debug)]
pub enum News {
    /// Another Envoy should be running. What was refused before, if anything was, no longer matters.
    Changed(Arc<Desired>),
    /// The configuration cannot be used as it is now; the last desired state stays.
    Refused(Faults),
    /// It can be used again, and asks for the last desired state.
    Mended,
}

/// How things stand.
#[derive(Clone, Debug)]
struct Standing {
    desired: Arc<Desired>,
    refused: Option<Faults>,
}

/// What the listener knows.
#[derive(Debug)]
struct Told {
    hash: ConfigHash,
    refused: Option<Faults>,
}

/// The task.
struct Task {
    pace: Pace,
    open: Open,
    looks: Arc<Looks>,
    standing: watch::Sender<Standing>,
    eyes: Option<Eyes>,
    watched: Arc<Watched>,
    sense: Sense,
    patience: Patience,
    belief: Belief,
    /// The files of the last reading that was believed.
    believed: Sources,
    next: Instant,
}

// === impl Follower ===

impl Follower {
    /// Follows from `first` on, which `given` has made: also what has changed since then is news. Needs a runtime.
    pub fn start(given: Given, first: Arc<Desired>) -> Self {
        Self::with(given, first, (Pace::USUAL, eyes::open))
    }

    pub(super) fn with(given: Given, first: Arc<Desired>, (pace, open): (Pace, Open)) -> Self {
        let told = Told { hash: first.hash, refused: None };
        let (sender, standing) = watch::channel(Standing { desired: first.clone(), refused: None });
        let looks = Arc::<Looks>::default();
        let task = Task {
            pace,
            open,
            looks: looks.clone(),
            standing: sender,
            eyes: None,
            watched: Arc::default(),
            sense: Sense::Seeing,
            patience: Patience::default(),
            belief: Belief::default(),
            believed: first.sources.clone(),
            next: Instant::now(),
        };
        tokio::spawn(task.run(Observer::new(given, first, None)));
        Self { standing, looks, told }
    }

    /// Waits for news. Nothing is lost when the wait is given up. `None`: there will be no more, because a look
    /// has failed in a way that nothing should.
    pub async fn news(&mut self) -> Option<News> {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if let Some(news) = self.told.update(standing) {
                return Some(news);
            }
            self.standing.changed().await.ok()?;
        }
    }

    /// How often was looked at the files, and how often everything was read again because of it.
    pub fn looks(&self) -> (u64, u64) {
        (self.looks.all.load(Ordering::Relaxed), self.looks.read.load(Ordering::Relaxed))
    }
}

// === impl Told ===

impl Told {
    fn update(&mut self, now: Standing) -> Option<News> {
        if self.hash != now.desired.hash {
            *self = Self { hash: now.desired.hash, refused: None };
            return Some(News::Changed(now.desired));
        }
        if self.refused == now.refused {
            return None;
        }
        self.refused.clone_from(&now.refused);
        Some(now.refused.map_or(News::Mended, News::Refused))
    }
}

// === impl Standing ===

impl Standing {
    /// How things stand after a reading; whether that is anything new.
    fn after(&mut self, outcome: Result<Arc<Desired>, Faults>) -> bool {
        let before = (self.desired.hash, self.refused.clone());
        match outcome {
            Ok(desired) => *self = Self { desired, refused: None },
            Err(faults) => self.refused = Some(faults),
        }
        before != (self.desired.hash, self.refused.clone())
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self, mut observer: Observer) {
        loop {
            // While somebody is writing, no other reason to look counts.
            let due = self.patience.due(&self.pace);
            let due = due.unwrap_or_else(|| self.belief.due().map_or(self.next, |due| due.min(self.next)));
            tokio::select! {
                () = self.standing.closed() => return,
                notices = see(self.eyes.as_ref(), &self.watched) => {
                    let now = Instant::now();
                    for notice in notices {
                        self.patience.notice(notice, now);
                    }
                    continue;
                }
                () = sleep_until(due.into()) => {}
            }
            let idle = self.next <= Instant::now() && observer.gaze.is_some();
            let occasion = if idle { Occasion::Idle } else { Occasion::Notice };
            self.patience.look();
            let opened = self.open_eyes(&mut observer);
            let Some((back, look)) = self.wait_for(observer.look_aside(occasion)).await else {
                return error!("nobody looks for changes of the configuration any more");
            };
            observer = back;
            self.looks.read.fetch_add(u64::from(look.reading.is_some()), Ordering::Relaxed);
            self.watched = observer.gaze.as_ref().map(Gaze::watched).unwrap_or_default();
            self.feel(opened.and(look.sight));
            let now = Instant::now();
            if look.calm == Calm::Restless {
                self.patience.notice(Notice::Changed, now);
            }
            let rest = if self.sense == Sense::Seeing { self.pace.idle } else { self.pace.blind };
            self.next = now + rest;
            match self.belief.weigh(look.reading, &self.believed, (self.sense, &self.pace), now) {
                Verdict::Believe(reading) => self.tell(reading, &mut observer),
                Verdict::Doubt | Verdict::Nothing => {}
            }
            self.looks.all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for a look however long it takes: there is no way to end it.
    async fn wait_for<T>(&self, look: impl Future<Output = T>) -> T {
        let mut look = pin!(look);
        match timeout(self.pace.writer, &mut look).await {
            Ok(looked) => looked,
            Err(_) => {
                warn!("a look at the configuration's files takes long; is one on a server that is away?");
                look.await
            }
        }
    }

    fn tell(&mut self, reading: Reading, observer: &mut Observer) {
        self.believed = reading.sources;
        if let Ok(desired) = &reading.outcome {
            observer.good = desired.clone();
        }
        self.standing.send_if_modified(|standing| standing.after(reading.outcome));
    }

    /// The kernel may have had a bad moment.
    fn open_eyes(&mut self, observer: &mut Observer) -> Result<(), Blindness> {
        if observer.gaze.is_none() {
            let (eyes, gaze) = (self.open)()?;
            (self.eyes, observer.gaze) = (Some(eyes), Some(gaze));
        }
        Ok(())
    }

    /// Says once that the kernel has stopped to tell, and once that it tells again.
    fn feel(&mut self, sight: Result<(), Blindness>) {
        match (self.sense, sight) {
            (Sense::Seeing, Err(why)) => {
                let why = anyhow::Error::new(why);
                warn!(why = format!("{why:#}"), every = ?self.pace.blind, "looking for changed files now and then");
                self.sense = Sense::Blind;
            }
            (Sense::Blind, Ok(())) => {
                info!("the kernel tells of changed files again");
                self.sense = Sense::Seeing;
            }
            (Sense::Seeing, Ok(())) | (Sense::Blind, Err(_)) => {}
        }
    }
}

/// What is noticed; without eyes, nothing ever.
async fn see(eyes: Option<&Eyes>, watched: &Watched) -> Vec<Notice> {
    match eyes {
        Some(eyes) => eyes.notices(watched).await,
        None => std::future::pending().await,
    }
}
