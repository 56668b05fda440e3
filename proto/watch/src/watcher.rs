//! Asynchronous shell: waits for events and for the next scan, and runs each scan on a thread that lives as long as the scan.
//! A file on an unreachable server blocks that thread alone, and never the end of the program.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::pin::pin;
use std::sync::{Arc, mpsc};

use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::warn;

use crate::inotify::WatchError;
use crate::scanner::{Scanner, Target};
use crate::settings::Settings;
use crate::tree::Tree;

/// Watches files until it is dropped. `S` is the caller's state between two scans.
#[derive(Debug)]
pub struct Watcher<S> {
    settings: Settings,
    /// `None` while a scan runs, and after one has panicked.
    parts: Option<Box<(S, Scanner)>>,
    readiness: Option<AsyncFd<InotifyDescriptor>>,
    open: OpenInotify,
}

/// Opens an inotify instance.
pub(crate) type OpenInotify = fn() -> Result<Inotify, WatchError>;

/// Keeps the descriptor open that the runtime waits for.
#[derive(Debug)]
struct InotifyDescriptor(Arc<Inotify>);

fn open_inotify() -> Result<Inotify, WatchError> {
    Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(WatchError::Init)
}

// === impl Watcher ===

impl<S: Send + 'static> Watcher<S> {
    /// Watches a set of files, at first an empty one. Must be called in a runtime.
    pub fn of_files(state: S, settings: Settings) -> Self {
        Self::new(state, settings, Target::Files(BTreeSet::new()), open_inotify)
    }

    /// Watches a directory tree. Must be called in a runtime.
    pub fn of_tree(state: S, settings: Settings, tree: Tree) -> Self {
        Self::new(state, settings, Target::Tree(tree), open_inotify)
    }

    pub(crate) fn new(state: S, settings: Settings, target: Target, open: OpenInotify) -> Self {
        let parts = Some(Box::new((state, Scanner::new(settings, target))));
        let mut watcher = Self { settings, parts, readiness: None, open };
        watcher.ensure_inotify();
        watcher
    }

    /// Returns the state and the scanner, for scans by the caller. `None` if a scan has panicked.
    pub fn parts(&mut self) -> Option<(&mut S, &mut Scanner)> {
        self.parts.as_deref_mut().map(|(state, scanner)| (state, scanner))
    }

    /// Waits until a scan is due, and runs `job` on a thread of its own. The first scan is due at once.
    ///
    /// Returns `None` if a job has panicked; then there are no more scans. If the future is dropped while the job runs,
    /// the watcher ends likewise; dropped earlier, no event is lost.
    pub async fn next<T: Send + 'static>(&mut self, job: fn(&mut S, &mut Scanner) -> T) -> Option<T> {
        self.due().await?;
        self.ensure_inotify();
        let mut parts = self.parts.take()?;
        let (sender, result) = oneshot::channel();
        let work = move || {
            let output = job(&mut parts.0, &mut parts.1);
            // Nothing receives if the watcher was dropped.
            sender.send((parts, output)).ok();
        };
        self.start_thread(work).await?;
        let (parts, output) = self.wait_for_scan(result).await?;
        self.parts = Some(parts);
        Some(output)
    }

    /// Waits until a scan is due. Returns `None` if a job has panicked. No event is lost if the future is dropped.
    pub async fn due(&mut self) -> Option<()> {
        let (_, scanner) = self.parts.as_deref_mut()?;
        loop {
            let due = scanner.due();
            tokio::select! {
                () = read_events(self.readiness.as_ref(), scanner) => {}
                () = sleep_until(due.into()) => return Some(()),
            }
        }
    }

    /// Starts a thread. Retries while none can be started: the process may be at a limit for a moment.
    async fn start_thread(&self, work: impl FnOnce() + Send + 'static) -> Option<()> {
        let mut has_failed = false;
        loop {
            // The work is handed over once the thread runs, so that it is not lost if the thread cannot be started.
            let (sender, receiver) = mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name("file-scan".into()).spawn(move || {
                if let Ok(work) = receiver.recv() {
                    let work: Box<dyn FnOnce() + Send> = work;
                    work();
                }
            });
            match thread {
                Ok(_) => return sender.send(Box::new(work)).ok(),
                Err(error) if !has_failed => warn!(%error, "start a thread to scan files; retrying"),
                Err(_) => {}
            }
            has_failed = true;
            sleep(self.settings.poll_interval).await;
        }
    }

    /// Waits for the end of a scan, however long it takes: a blocked thread cannot be ended.
    async fn wait_for_scan<T>(
        &self,
        scan: impl Future<Output = Result<T, oneshot::error::RecvError>>,
    ) -> Option<T> {
        let mut scan = pin!(scan);
        match timeout(self.settings.write_timeout, &mut scan).await {
            Ok(result) => result.ok(),
            Err(_) => {
                warn!("file scan takes long; is a file on an unreachable server?");
                scan.await.ok()
            }
        }
    }

    /// Opens inotify if it is not open. An earlier failure may have been temporary.
    fn ensure_inotify(&mut self) {
        let Some((_, scanner)) = self.parts.as_deref_mut() else { return };
        if self.readiness.is_some() {
            return;
        }
        let inotify = (self.open)().map(Arc::new);
        let registered = inotify.and_then(|inotify| Ok((register(inotify.clone())?, inotify)));
        match registered {
            Ok((readiness, inotify)) => {
                self.readiness = Some(readiness);
                scanner.set_inotify(inotify);
            }
            Err(error) => scanner.set_watch_error(Some(error)),
        }
    }
}

#[expect(unsafe_code, reason = "the safe constructors of `AsyncFd` are deprecated")]
fn register(inotify: Arc<Inotify>) -> Result<AsyncFd<InotifyDescriptor>, WatchError> {
    // SAFETY: the descriptor belongs to the `Inotify`, which the value keeps open and never replaces.
    let descriptor =
        unsafe { AsyncFd::register_with_interest(InotifyDescriptor(inotify), Interest::READABLE) };
    descriptor.map_err(|error| WatchError::Register(Arc::new(error.into())))
}

/// Waits for events and takes them in. Never returns without inotify.
async fn read_events(readiness: Option<&AsyncFd<InotifyDescriptor>>, scanner: &mut Scanner) {
    let Some(readiness) = readiness else { return std::future::pending().await };
    // Fails only when the runtime ends.
    let Ok(mut ready) = readiness.readable().await else { return std::future::pending().await };
    let read: Result<io::Result<usize>, _> = ready.try_io(|_| scanner.read_events());
    // Neither the number nor a spurious wake-up matters.
    drop(read);
}

// === impl InotifyDescriptor ===

impl AsRawFd for InotifyDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
