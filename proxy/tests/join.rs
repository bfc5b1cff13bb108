//! Joining, over real QUIC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(dead_code, reason = "each test program uses its part of the support")]

mod support;

use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::enroll::{EnrollRefusal, EnrollResult, TokenLookup, WorkloadState, admit};
use plexus_mesh_proto::ticket::{JoinToken, Ticket};
use plexus_proxy::join::{JoinError, join};
use plexus_proxy::state::{Joined, State, StateError};
use tokio::task::JoinHandle;

use support::{Primary, key, mount_point, soon};

struct Joining {
    temp: tempfile::TempDir,
    task: JoinHandle<Result<Joined, JoinError>>,
}

impl Joining {
    fn start(ticket: Ticket) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let task = tokio::spawn(async move {
            let state = State::open(&path).unwrap();
            join(&state, &ticket).await.map(|outcome| outcome.joined)
        });
        Self { temp, task }
    }

    /// How it went, and what was kept.
    async fn end(self) -> (Result<Joined, JoinError>, Result<Joined, StateError>) {
        let result = soon(self.task).await.unwrap();
        (result, State::open(&self.temp.path().join("state")).unwrap().joined())
    }
}

#[tokio::test]
async fn a_ticket_makes_the_key_known_and_the_primary_is_kept() {
    let primary = Primary::listen();
    let joining = Joining::start(primary.ticket());
    let mut arrival = primary.arrival().await;
    let attempt = arrival.request().await;
    assert_eq!(attempt.token_hash(), JoinToken::from_bytes([9; 32]).hash());
    let lookup = TokenLookup::Live { mount_point: mount_point(), rotate: false };
    let admitted = admit(&attempt, lookup, WorkloadState::Free).unwrap();
    assert_eq!(admitted.key(), arrival.observed);
    arrival.answer(EnrollResult::Joined).await;
    let (result, kept) = joining.end().await;
    let expected =
        Joined { primary_key: primary.node.public(), addresses: vec![primary.address().into()] };
    assert_eq!(result.unwrap(), expected);
    assert_eq!(kept.unwrap(), expected);
}

#[tokio::test]
async fn a_refusal_is_told_and_nothing_is_kept() {
    let primary = Primary::listen();
    let joining = Joining::start(primary.ticket());
    let mut arrival = primary.arrival().await;
    arrival.request().await;
    arrival.answer(EnrollResult::Refused { code: EnrollRefusal::TokenConsumed }).await;
    let (result, kept) = joining.end().await;
    let error = result.unwrap_err();
    assert!(matches!(error, JoinError::Refused(EnrollRefusal::TokenConsumed)), "{error}");
    assert!(error.to_string().contains("plexus mesh invite"), "{error}");
    assert!(matches!(kept, Err(StateError::NotJoined)));
}

#[tokio::test]
async fn a_key_that_is_known_already_has_joined() {
    let primary = Primary::listen();
    let joining = Joining::start(primary.ticket());
    let _tunnel = primary.arrival().await.admit().await;
    let (result, kept) = joining.end().await;
    assert_eq!(result.unwrap(), kept.unwrap());
}

#[tokio::test]
async fn a_lost_answer_is_healed_by_the_key_alone() {
    let primary = Primary::listen();
    let joining = Joining::start(primary.ticket());
    let mut arrival = primary.arrival().await;
    arrival.request().await;
    arrival.close(CloseCode::ShuttingDown);
    let _tunnel = primary.arrival().await.admit().await;
    let (result, kept) = joining.end().await;
    assert_eq!(result.unwrap(), kept.unwrap());
}

#[tokio::test]
async fn a_revoked_key_is_told_what_to_do() {
    let primary = Primary::listen();
    let joining = Joining::start(primary.ticket());
    primary.arrival().await.close(CloseCode::Revoked);
    let (result, kept) = joining.end().await;
    let error = result.unwrap_err();
    assert!(matches!(error, JoinError::Closed(CloseCode::Revoked)), "{error}");
    assert!(error.to_string().contains("identity.key"), "{error}");
    assert!(kept.is_err());
}

#[tokio::test]
async fn whoever_answers_without_the_tickets_key_learns_nothing() {
    let impostor = Primary::listen();
    let ticket = Ticket { primary_key: key(7).public(), ..impostor.ticket() };
    let joining = Joining::start(ticket);
    impostor.failure().await;
    let (result, kept) = joining.end().await;
    let Err(JoinError::Unreachable(unreachable)) = result else { panic!("{result:?}") };
    assert!(unreachable.met_a_stranger(), "{unreachable}");
    assert!(kept.is_err());
}
