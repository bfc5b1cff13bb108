//! Watching the sources: every one by itself, so that one that hangs holds up no other.
//!
//! A source is asked anew only after it has answered: one on a disk that no longer answers costs one
//! waiting thread, however long it lasts.

use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::bounded::List;
use plexus_mesh_proto::health::{Health as Report, HealthState, SourceHealth};
use plexus_shared::clock::Clock;
use plexus_shared::model::health::{Health, HealthStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::catalog::{Source, Sources};

/// Between two looks at a source.
const EVERY: Duration = Duration::from_secs(5);

/// How long a source may take to say how it is.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How every source is, as it changes.
pub type Watched = watch::Receiver<Vec<SourceHealth>>;

/// The tasks that watch the sources; they end when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    _tasks: JoinSet<()>,
    seen: Watched,
}

impl Monitor {
    /// Begins to watch `sources`.
    pub fn start(sources: &Sources, clock: &Arc<dyn Clock>) -> Self {
        let unknown =
            |source: &Arc<Source>| source.note(Health::of(HealthStatus::Unknown), clock.now());
        let (report, seen) = watch::channel(sources.iter().map(unknown).collect());
        let report = Arc::new(report);
        let mut tasks = JoinSet::new();
        for (index, source) in sources.iter().enumerate() {
            tasks.spawn(watch_one(index, source.clone(), clock.clone(), report.clone()));
        }
        Self { _tasks: tasks, seen }
    }

    /// How every source is, as it changes.
    pub fn watched(&self) -> Watched {
        self.seen.clone()
    }
}

async fn watch_one(
    index: usize,
    source: Arc<Source>,
    clock: Arc<dyn Clock>,
    report: Arc<watch::Sender<Vec<SourceHealth>>>,
) {
    let tell = |found: Health| {
        let note = source.note(found, clock.now());
        report.send_if_modified(|all| match all.get_mut(index) {
            Some(known) if *known != note => {
                tracing::info!(source = %note.source, state = %note.state, "a source's health");
                *known = note;
                true
            }
            _ => false,
        });
    };
    loop {
        let mut answer = Box::pin(source.ask());
        let found = match timeout(ANSWER_TIME, &mut answer).await {
            Ok(found) => found,
            Err(_) => {
                tell(Health {
                    detail: Some("the source does not answer".to_owned()),
                    ..Health::of(HealthStatus::Unavailable)
                });
                answer.await
            }
        };
        tell(found);
        sleep(EVERY).await;
    }
}

/// The report number `seq` of a connection. The node is as its worst source is; one that has none
/// is well.
pub fn report(seq: u64, sources: &[SourceHealth]) -> Report {
    let severity = |state: &HealthState| match state {
        HealthState::Ok => 0,
        HealthState::Unknown => 1,
        HealthState::Degraded => 2,
        HealthState::Unavailable => 3,
    };
    let worst = sources.iter().map(|source| source.state).max_by_key(severity);
    // A node with one source down still serves the others.
    let overall = match worst.unwrap_or(HealthState::Ok) {
        HealthState::Unavailable
            if sources.iter().any(|source| source.state != HealthState::Unavailable) =>
        {
            HealthState::Degraded
        }
        state => state,
    };
    Report { seq, overall, sources: List::truncated(sources.to_vec()) }
}

#[cfg(test)]
mod tests {
    use plexus_mesh_proto::bounded::Text;

    use super::*;

    fn overall(states: &[HealthState]) -> HealthState {
        let source = |state: &HealthState| SourceHealth {
            source: Text::truncated("notes"),
            state: *state,
            detail: None,
        };
        report(1, &states.iter().map(source).collect::<Vec<_>>()).overall
    }

    #[test]
    fn a_node_is_down_only_when_all_of_it_is() {
        use HealthState::{Degraded, Ok, Unavailable, Unknown};
        assert_eq!(overall(&[]), Ok);
        assert_eq!(overall(&[Ok, Unknown]), Unknown);
        assert_eq!(overall(&[Ok, Unavailable]), Degraded);
        assert_eq!(overall(&[Unavailable, Unavailable]), Unavailable);
        assert_eq!(overall(&[Degraded, Unknown]), Degraded);
    }
}
