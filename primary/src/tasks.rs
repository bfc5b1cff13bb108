//! Work that goes on when whoever asked for it has gone, and ends before the gateway does.

use std::fmt;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The one owner of such work: nothing else may be left running by itself.
#[derive(Default)]
pub struct Tasks {
    running: watch::Sender<usize>,
}

/// A place among what runs, given back however it ends.
struct Place(watch::Sender<usize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Tasks {
    /// Begins `work`, which is carried through whether or not its end is waited for.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.running.send_modify(|running| *running += 1);
        let place = Place(self.running.clone());
        tokio::spawn(async move {
            let _place = place;
            work.await
        })
    }

    /// Waits until none is left.
    pub async fn ended(&self) {
        // It ends with its sender, which is here.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &*self.running.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_ends_before_its_owner_whoever_waits_for_it_and_however() {
        let tasks = Tasks::default();
        let (go, wait) = oneshot::channel::<()>();
        let (done, mut is_done) = oneshot::channel();
        drop(tasks.spawn(async move {
            wait.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(tasks.spawn(async { panic!("as told") }).await.is_err());
        let ended = tasks.ended();
        tokio::pin!(ended);
        let early = tokio::time::timeout(std::time::Duration::ZERO, &mut ended).await;
        assert!(early.is_err(), "one still waits");
        go.send(()).unwrap();
        ended.await;
        is_done.try_recv().unwrap();
    }
}
