//! One look at every source: watched first, then asked whether it is still as it was, then, if not, everything
//! is read again. Blocks, and therefore is sent to a thread of its own, which lives as long as the look: a file on
//! a server that is away, or a name server that does not answer, must not keep the agent from anything else, least
//! of all from ending.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::eyes::{Blindness, Gaze};
use super::{Desired, Given, Reading};
use crate::config::sources::Sources;

/// More than any chain of files that name each other; who is never done meanwhile is looked at later.
const ROUNDS: usize = 4;

/// What is known between two looks.
#[derive(Debug)]
pub(super) struct Observer {
    given: Given,
    /// What was last believed.
    pub(super) good: Arc<Desired>,
    /// The files as they were seen last.
    sources: Sources,
    /// `None`: the kernel gives no notices.
    pub(super) gaze: Option<Gaze>,
}

/// What a look gave.
#[derive(Debug)]
pub(super) struct Look {
    /// `None`: nothing has changed.
    pub(super) reading: Option<Reading>,
    /// Whether the kernel will tell of the next change.
    pub(super) sight: Result<(), Blindness>,
    /// Whether the files were the same after as before.
    pub(super) calm: Calm,
}

/// Whether files changed while they were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calm {
    /// They did not.
    Calm,
    /// They still do.
    Restless,
}

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Something was noticed, or is in doubt.
    Notice,
    /// There is time: for what was put off at the start, too.
    Idle,
}

// === impl Observer ===

impl Observer {
    /// Knows what was read at the start.
    pub(super) fn new(given: Given, first: Arc<Desired>, gaze: Option<Gaze>) -> Self {
        Self { given, sources: first.sources.clone(), good: first, gaze }
    }

    /// Looks, on a thread that nobody waits for at the end. `None`: the thread has not come back.
    pub(super) async fn look_aside(self, occasion: Occasion) -> Option<(Self, Look)> {
        let (sender, receiver) = oneshot::channel();
        // Handed over when there is somebody to take it: a thread that cannot be had must not take it away.
        let (hand, take) = mpsc::sync_channel::<Self>(1);
        let thread = std::thread::Builder::new().name("look".into()).spawn(move || {
            let Ok(mut observer) = take.recv() else { return };
            let look = observer.look(occasion);
            // Not taken: nobody wants to know any more.
            sender.send((observer, look)).ok();
        });
        if let Err(error) = thread {
            let sight = Err(Blindness::Thread(Arc::new(error)));
            return Some((self, Look { reading: None, sight, calm: Calm::Calm }));
        }
        hand.send(self).ok()?;
        receiver.await.ok()
    }

    fn look(&mut self, occasion: Occasion) -> Look {
        if occasion == Occasion::Idle {
            let good = Arc::make_mut(&mut self.good);
            good.program.learn(&good.config.envoy.binary);
        }
        let mut look = Look { reading: None, sight: Ok(()), calm: Calm::Restless };
        for _ in 0..ROUNDS {
            if let Some(gaze) = &mut self.gaze {
                look.sight = gaze.turn_to(self.sources.paths());
            }
            if self.sources.are_still_so() {
                look.calm = Calm::Calm;
                break;
            }
            let reading = self.given.read(Some(&self.good));
            self.sources.clone_from(&reading.sources);
            look.reading = Some(reading);
        }
        look
    }
}
