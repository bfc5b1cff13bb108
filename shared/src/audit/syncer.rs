//! Takes written lines to the disk in the background, so that a power loss costs a moment at most.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long lines gather before they are taken along together; with the sync itself this stays
/// under the 100 ms that are promised.
const GATHER: Duration = Duration::from_millis(50);

/// Owns the thread; the last lines are synced before a drop returns.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    behind: Option<Arc<File>>,
    stop: bool,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("audit-sync".to_owned()).spawn(move || {
            while let Some(file) = theirs.next() {
                if let Err(error) = file.sync_data() {
                    tracing::error!(%error, "the audit log could not be synced");
                    theirs.failed.store(true, Ordering::Release);
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// There is something new in `file`.
    pub(super) fn wake(&self, file: &Arc<File>) {
        let mut state = self.shared.lock();
        if state.behind.is_none() {
            state.behind = Some(Arc::clone(file));
            self.shared.changed.notify_one();
        }
    }

    /// `file` is synced and will not be written again.
    pub(super) fn forget(&self, file: &Arc<File>) {
        let mut state = self.shared.lock();
        if state.behind.as_ref().is_some_and(|behind| Arc::ptr_eq(behind, file)) {
            state.behind = None;
        }
    }

    /// Whether a sync failed: what the system then still holds of the file is not to be trusted.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// As [`Syncer::has_failed`], and forgets it.
    pub(super) fn take_failure(&self) -> bool {
        self.shared.failed.swap(false, Ordering::AcqRel)
    }

    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.shared.failed.store(true, Ordering::Release);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something is behind, lets more gather, and gives it; `None` when it is over.
    fn next(&self) -> Option<Arc<File>> {
        let mut state = self.lock();
        loop {
            state = self
                .changed
                .wait_while(state, |state| state.behind.is_none() && !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            (state, _) = self
                .changed
                .wait_timeout_while(state, GATHER, |state| !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            if state.behind.is_some() || state.stop {
                return state.behind.take();
            }
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends by itself once nothing is behind; a panic there has been reported already.
            let _ = thread.join();
        }
    }
}
