//! Asynchronous shell: waits for events and for the next scan, and runs each scan on a thread that lives as long as the scan.
//! A file on an unreachable server blocks that thread alone, and never the end of the program.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::pin::pin;
use std::sync::{Arc, mpsc};

use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::inotify::WatchError;
use crate::scanner::Scanner;
use crate::settings::Settings;
use crate::tree::Tree;

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    settings: Settings,
    /// `None` while a scan runs, and after one has panicked.
    scanner: Option<Box<Scanner>>,
    readiness: Option<AsyncFd<InotifyDescriptor>>,
    open: OpenInotify,
    mode: WatchMode,
}

/// Opens an inotify instance.
pub(crate) type OpenInotify = fn() -> Result<Inotify, WatchError>;

/// Source of changes, as last logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchMode {
    Events,
    Polling,
}

/// Keeps the descriptor open that the runtime waits for.
#[derive(Debug)]
struct InotifyDescriptor(Arc<Inotify>);

fn open_inotify() -> Result<Inotify, WatchError> {
    Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(WatchError::Init)
}

// === impl Watcher ===

impl Watcher {
    /// Watches a set of files, at first an empty one. Must be called in a runtime.
    pub fn of_files(settings: Settings) -> Self {
        Self::new(settings, Scanner::of_files(settings), open_inotify)
    }

    /// Watches a directory tree. Must be called in a runtime.
    pub fn of_tree(settings: Settings, tree: Tree) -> Self {
        Self::new(settings, Scanner::of_tree(settings, tree), open_inotify)
    }

    pub(crate) fn new(settings: Settings, scanner: Scanner, open: OpenInotify) -> Self {
        let mut watcher = Self {
            settings,
            scanner: Some(Box::new(scanner)),
            readiness: None,
            open,
            mode: WatchMode::Events,
        };
        watcher.ensure_inotify();
        watcher
    }

    /// Returns the scanner, for scans by the caller. `None` if a scan has panicked.
    pub fn scanner(&mut self) -> Option<&mut Scanner> {
        self.scanner.as_deref_mut()
    }

    /// Waits until a scan is due, and runs `job` with the scanner on a thread of its own. The first scan is due at once.
    ///
    /// Returns `None` if a job has panicked; then there are no more scans. If the future is dropped while the job runs,
    /// the watcher ends likewise; dropped earlier, no event is lost.
    pub async fn next<T, F>(&mut self, job: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Scanner) -> T + Send + 'static,
    {
        self.wait().await?;
        self.ensure_inotify();
        let mut scanner = self.scanner.take()?;
        let (result_sender, result) = oneshot::channel();
        let work = move || {
            let output = job(&mut scanner);
            // Nothing receives if the watcher was dropped.
            result_sender.send((scanner, output)).ok();
        };
        self.start_thread(work).await?;
        let (scanner, output) = self.wait_for_scan(result).await?;
        self.log_mode(scanner.watch_error());
        self.scanner = Some(scanner);
        Some(output)
    }

    /// Waits until a scan is due.
    async fn wait(&mut self) -> Option<()> {
        let scanner = self.scanner.as_deref_mut()?;
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
        let Some(scanner) = self.scanner.as_deref_mut() else { return };
        if self.readiness.is_none() {
            let opened = (self.open)().and_then(|inotify| {
                let inotify = Arc::new(inotify);
                Ok((register(inotify.clone())?, inotify))
            });
            let (readiness, inotify) =
                opened.map_or_else(|error| (None, Err(error)), |(fd, ino)| (Some(fd), Ok(ino)));
            self.readiness = readiness;
            scanner.set_inotify(inotify);
        }
    }

    /// Logs a change between events and polling.
    fn log_mode(&mut self, error: Option<&WatchError>) {
        match (self.mode, error) {
            (WatchMode::Events, Some(error)) => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                let interval = self.settings.poll_interval;
                warn!(error = format!("{error}: {cause}"), ?interval, "inotify unavailable; polling files");
                self.mode = WatchMode::Polling;
            }
            (WatchMode::Polling, None) => {
                info!("inotify available again; polling stopped");
                self.mode = WatchMode::Events;
            }
            (WatchMode::Events, None) | (WatchMode::Polling, Some(_)) => {}
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
