//! `plexus demo`: it works, it cleans up, it says when it does not.

#![allow(clippy::unwrap_used, reason = "tests")]

use plexus_shared::transport::child::Program;
use plexus_tests::{PATIENCE, Stage};

fn demo(stage: &Stage, args: &[&str]) -> Program {
    std::fs::create_dir_all(stage.path("tmp")).unwrap();
    let mut program = stage.program("plexus", args);
    program.env.push(("TMPDIR".into(), stage.path("tmp").into()));
    program
}

fn left_behind(stage: &Stage) -> usize {
    std::fs::read_dir(stage.path("tmp")).unwrap().count()
}

#[tokio::test]
async fn it_sees_every_step_work_and_leaves_nothing() {
    let stage = Stage::new();
    let (status, said) = demo(&stage, &["demo"]).start().unwrap().finish(PATIENCE).await.unwrap();
    assert!(status.success(), "{said}");
    for step in 1..=10 {
        assert!(
            said.lines().any(|line| line.trim_start().starts_with(&format!("{step} "))),
            "{said}"
        );
    }
    assert!(said.contains("grant_required") && said.contains("both logs verify"), "{said}");
    assert_eq!(left_behind(&stage), 0);
}

#[tokio::test]
async fn it_shares_a_folder_of_yours_without_writing_there() {
    let stage = Stage::new();
    let notes = stage.path("notes").display().to_string();
    let running = demo(&stage, &["demo", "--folder", &notes]).start().unwrap();
    let (status, said) = running.finish(PATIENCE).await.unwrap();
    assert!(status.success() && said.contains("hello"), "{said}");
    assert_eq!(std::fs::read_dir(stage.path("notes")).unwrap().count(), 1);
    let missing = stage.path("missing").display().to_string();
    let running = demo(&stage, &["demo", "--folder", &missing]).start().unwrap();
    assert!(!running.finish(PATIENCE).await.unwrap().0.success());
    assert!(stage.log("plexus").contains("missing"));
    assert_eq!(left_behind(&stage), 0);
}

#[tokio::test]
async fn told_to_stop_half_way_it_takes_everything_with_it() {
    let stage = Stage::new();
    let mut running = demo(&stage, &["demo"]).start().unwrap();
    running.line(" 1  primary", PATIENCE).await.unwrap();
    // It ends in failure, for it was not seen to work; what matters is that nothing is left.
    let _ = running.stop(PATIENCE).await;
    assert_eq!(left_behind(&stage), 0);
}
