//! Every gate at every door: what a call is refused with, and which of two faults is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod gates;
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use gates::{Cell, DOORS, Door, Gate, TABLE, both, meet};
use plexus_shared::model::denial::Code;
use plexus_tests::all;
use plexus_tests::raw::RawAnswer;
use serde_json::Value;
use world::{Shot, World};

/// The codes that no call is answered with, and why.
const NEVER_OF_A_CALL: [(Code, &str); 2] = [
    (Code::GrantPendingUser, "a status of PUT /grants; a call hears approval_required"),
    (Code::McpToolError, "no source gives it yet"),
];

#[test]
fn the_gates_are_those_of_the_protocol_page_in_its_order_and_every_code_has_its_place() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("The checks, in this order").unwrap();
    let lines = rest.lines().skip_while(|line| !line.starts_with("|---"));
    let lines = lines.skip(1).take_while(|line| line.starts_with('|'));
    let told: Vec<Vec<&str>> = lines.map(|line| line.split('|').map(str::trim).collect()).collect();
    let page: Vec<&str> = told.iter().map(|cells| cells[1]).collect();
    let mut here: Vec<&str> = TABLE.iter().map(|row| row.told).collect();
    here.dedup();
    assert_eq!(here, page);
    for row in &TABLE {
        let Cell::Told(status, code) = row.at[0] else { panic!("{:?}", row.gate) };
        let words = told.iter().find(|cells| cells[1] == row.told).unwrap()[2];
        let said = words.contains(code) && words.contains(&status.to_string());
        assert!(said || row.gate == Gate::Key, "{:?}: {words}", row.gate);
    }
    assert!(TABLE.iter().is_sorted_by_key(|row| row.gate));

    let codes = TABLE.iter().flat_map(|row| row.at).filter_map(|cell| match cell {
        Cell::Told(_, code) => Some(code),
        Cell::Inside(_) => Some("transport_error"),
        Cell::Never(_) => None,
    });
    let mut codes: BTreeSet<&str> = codes.collect();
    for (code, why) in NEVER_OF_A_CALL {
        assert!(codes.insert(code.as_str()), "{code:?} does come: {why}");
    }
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str()).collect());
}

/// Whether `answer` is what `cell` says, of a call whose first fault is `first`.
fn is(answer: &RawAnswer, cell: Cell) -> bool {
    let body = &answer.body;
    if body["ok"] != false {
        return false;
    }
    match cell {
        Cell::Told(status, code) => (answer.status, answer.code()) == (status, code),
        Cell::Inside(code) => {
            (answer.status, answer.code()) == (200, "transport_error")
                && body["error"]["detail"]["code"] == code
        }
        Cell::Never(why) => panic!("it can't be: {why}"),
    }
}

fn expected(shot: &Shot) -> Cell {
    match shot.faults[..] {
        [one] => one.at(shot.door),
        [first, second] => both(shot.door, first, second),
        _ => panic!("one fault or two"),
    }
}

/// A refusal has its record, but for one that came before there was anyone to record it of.
fn recorded_or_not(shot: &Shot, answer: &RawAnswer) {
    let at_the_edge = shot.faults.iter().any(|gate| gate.at_the_edge(shot.door));
    let lost = shot.faults.contains(&Gate::Audit);
    let id = answer.body["auditId"].as_str().unwrap();
    assert_eq!(id.is_empty(), at_the_edge || lost, "{:?} {:?}: {answer:?}", shot.door, shot.faults);
    assert!(id.is_empty() || id.starts_with("evt_"), "{answer:?}");
}

async fn judge(world: &World, shot: &Shot) {
    let cell = expected(shot);
    if !shot.faults.contains(&Gate::Rate) {
        let answer = world.send(shot).await;
        assert!(is(&answer, cell), "{:?} {:?}: {cell:?}, not {answer:?}", shot.door, shot.faults);
        recorded_or_not(shot, &answer);
        return;
    }
    // One request a second passes: of many at once, most are one too many.
    let answers = all((0..20).map(|_| world.send(shot))).await;
    let right = answers.iter().filter(|answer| is(answer, cell)).count();
    assert!(right > 10, "{:?} {:?}: {cell:?}, not {answers:?}", shot.door, shot.faults);
}

/// Sends what is to be sent in one state of the gateway.
async fn judge_all<'a>(world: &World, shots: impl Iterator<Item = &'a Shot>) {
    for shot in shots {
        judge(world, shot).await;
    }
}

/// Sends all of `shots`, each in the state of the gateway that it is meant for.
async fn in_every_state(world: &mut World, shots: &[Shot]) {
    let has = |shot: &&Shot, gate: Gate| shot.faults.contains(&gate);
    world.go_wrong().await;
    let away = |shot: &&Shot| shot.door == Door::Mounted && has(shot, Gate::Down);
    for (frozen, disconnected) in [(false, false), (false, true), (true, true)] {
        if disconnected {
            world.disconnect().await;
        }
        if frozen {
            world.primary.post("panic", &Value::Null).await;
        }
        let mine = |shot: &&Shot| {
            has(shot, Gate::Frozen) == frozen && (frozen || away(shot) == disconnected)
        };
        for limited in [false, true] {
            world.limit(limited).await;
            let mine = |shot: &&Shot| mine(shot) && has(shot, Gate::Rate) == limited;
            judge_all(world, shots.iter().filter(mine).filter(|s| !has(s, Gate::Audit))).await;
            let log = world.break_log();
            judge_all(world, shots.iter().filter(mine).filter(|s| has(s, Gate::Audit))).await;
            world.mend_log(log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gate_refuses_at_each_door_as_its_row_says() {
    let mut world = World::new().await;
    let mut wanted = Vec::new();
    for row in &TABLE {
        for door in DOORS {
            if !matches!(row.gate.at(door), Cell::Never(_)) {
                wanted.push((door, vec![row.gate]));
            }
        }
    }
    let shots = world.prepared(&wanted).await;
    in_every_state(&mut world, &shots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_faults_the_earlier_gate_is_told() {
    let mut world = World::new().await;
    let mut wanted = Vec::new();
    let there = |gate: Gate, door| !matches!(gate.at(door), Cell::Never(_));
    for door in [Door::Token, Door::Session, Door::Mounted] {
        for first in TABLE.iter().filter(|row| there(row.gate, door)) {
            let later = TABLE.iter().filter(|row| row.gate > first.gate && there(row.gate, door));
            // One after the other, where every pair was tried at the first door.
            let most = if door == Door::Token { TABLE.len() } else { 1 };
            let later = later.filter(|second| meet(first.gate, second.gate));
            for second in later.take(most) {
                wanted.push((door, vec![first.gate, second.gate]));
            }
        }
    }
    assert!(wanted.len() > 130, "{}", wanted.len());
    let shots = world.prepared(&wanted).await;
    in_every_state(&mut world, &shots).await;
}
