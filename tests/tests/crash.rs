//! Killed without a word: what was answered is recorded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::audit::{tail, verify};
use plexus_tests::Stage;
use serde_json::json;

/// How often the primary is killed.
const ROUNDS: usize = 100;

#[tokio::test]
async fn a_kill_after_an_answer_never_loses_that_answers_record() {
    let stage = Stage::new();
    let mut answered = Vec::new();
    let mut known = None;
    for round in 0..ROUNDS {
        let primary = stage.primary().await;
        let agent = match known.take() {
            None => {
                primary.share(&stage).await;
                primary.agent("ada", &["notes.file.read"]).await
            }
            Some(agent) => {
                let plexus_tests::Agent { pat, .. } = agent;
                let (session, _) = primary.handshake(&pat).await;
                plexus_tests::Agent { url: primary.url.clone(), pat, session }
            }
        };
        let token = agent.token("notes.file.read").await;
        // A few at once, so that the kill falls between one write and the next.
        let path = json!({"path": "a.txt"});
        let calls = (0..=round % 4).map(|_| agent.invoke(&token, "notes.file.read", &path));
        for (status, answer) in plexus_tests::all(calls).await {
            assert_eq!(status, 200, "{answer}");
            answered.push(answer["auditId"].as_str().unwrap().to_owned());
        }
        primary.running.kill().await;
        known = Some(agent);
    }
    let folder = stage.path("home/audit");
    let report = verify(&folder).unwrap();
    assert_eq!((report.first_bad, report.incomplete_bytes), (None, 0));
    let recorded = tail(&folder, None, usize::MAX, |_| true).unwrap();
    let recorded: std::collections::HashSet<_> =
        recorded.iter().map(|event| event.id.as_str()).collect();
    assert!(answered.len() > ROUNDS);
    for id in &answered {
        assert!(recorded.contains(id.as_str()), "{id} was answered and is not in the log");
    }
}
