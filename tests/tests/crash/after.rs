//! What must be so once a gateway that died is there again.

use std::collections::HashSet;
use std::path::PathBuf;

use plexus_shared::audit::{tail, verify};
use plexus_shared::transport::http::Method;
use plexus_tests::{Agent, Gateway, Stage};
use serde_json::{Value, json};

use super::story::{ALL, Fact, Turn, Who};

/// Looks at everything the story `turns` was answered, and tries what must not work any more.
pub(crate) async fn check(stage: &Stage, gateway: &Gateway, turns: &mut [Turn]) {
    whole(gateway, turns).await;
    for turn in turns.iter_mut() {
        let shared = listed(gateway, "sources", "sources", "id", &format!("notes{}", turn.n)).await;
        turn.must(Fact::Shared, shared);
        let other = listed(gateway, "sources", "sources", "id", &format!("other{}", turn.n)).await;
        if turn.is(Fact::Removed) == Some(false) {
            turn.must(Fact::Added, other);
        } else {
            assert!(!other || turn.is(Fact::Removed).is_none(), "what was removed is back");
        }
        codes(gateway, turn).await;
        grants(gateway, turn).await;
        uses(stage, gateway, turn).await;
        keys(stage, gateway, turn).await;
        ends(gateway, turn).await;
    }
    assert_eq!(gateway.get("audit/verify").await["ok"], true);
}

/// Every record that was told of is in the log, and the log is whole.
pub(crate) fn check_log(stage: &Stage, turns: &[Turn]) {
    let folder = stage.path("home/audit");
    let report = verify(&folder).unwrap();
    assert_eq!((report.first_bad, report.incomplete_bytes), (None, 0));
    let recorded = tail(&folder, None, usize::MAX, |_| true).unwrap();
    let recorded: HashSet<_> = recorded.iter().map(|event| event.id.as_str()).collect();
    for id in turns.iter().flat_map(|turn| &turn.records) {
        assert!(recorded.contains(id.as_str()), "{id} was answered and is not in the log");
    }
}

/// What lies in the state folder under a name that it has only until it is whole.
pub(crate) fn half_written(stage: &Stage) -> Vec<PathBuf> {
    let folders = ["home", "home/audit"].map(|folder| std::fs::read_dir(stage.path(folder)));
    let files = folders.into_iter().flatten().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

/// What there is one of: the key, the settings, the freeze.
async fn whole(gateway: &Gateway, turns: &[Turn]) {
    let latest = |fact| turns.iter().rev().find(|turn| turn.is(fact) != Some(false));
    if let Some(turn) = latest(Fact::Rotated) {
        turn.must(Fact::Rotated, gateway.key == turn.key);
    }
    let settings = gateway.get("settings").await["settings"]["maxTrustWindowMs"].clone();
    if let Some(turn) = latest(Fact::Configured) {
        turn.must(Fact::Configured, settings == turn.settings()["maxTrustWindowMs"]);
    }
    let frozen = gateway.get("status").await["frozen"] == true;
    let Some(last) = turns.last() else { return assert!(!frozen) };
    match last.is(Fact::Resumed) {
        Some(true) => assert!(!frozen, "it was resumed"),
        Some(false) => last.must(Fact::Frozen, frozen),
        None => {}
    }
    gateway.post("resume", &json!({})).await;
}

async fn listed(gateway: &Gateway, path: &str, list: &str, key: &str, value: &str) -> bool {
    let shown = gateway.get(path).await;
    shown[list].as_array().unwrap().iter().any(|one| one[key] == value)
}

/// A code is good once: what was redeemed is not redeemed again, and what was not still can be.
async fn codes(gateway: &Gateway, turn: &mut Turn) {
    for who in ALL {
        let known =
            listed(gateway, "agents/enrollments", "agents", "agentId", &turn.name(who)).await;
        turn.must(Fact::Connected(who), known);
        let Some(code) = turn.codes.get(&who) else { continue };
        let redeem = json!({ "code": code });
        let redeem = async || gateway.tell(Method::POST, "/agents/enroll", &[], &redeem).await;
        let (status, answer) = redeem().await;
        // To be redeemed now, it must not have been before.
        turn.must(Fact::Enrolled(who), status != 200);
        assert_ne!(redeem().await.0, 200, "{who:?}'s code was redeemed twice");
        if let Some(pat) = answer["pat"].as_str() {
            turn.pats.insert(who, pat.to_owned());
        }
    }
}

/// Grants and questions are as they were answered.
async fn grants(gateway: &Gateway, turn: &Turn) {
    let grants = gateway.get("grants").await["grants"].clone();
    let holds = |who, what: &str| {
        let pair = (json!(turn.name(who)), json!(turn.id(what)));
        let grants = grants.as_array().unwrap();
        grants.iter().any(|grant| (&grant["agentId"], &grant["capabilityId"]) == (&pair.0, &pair.1))
    };
    match turn.is(Fact::Revoked) {
        Some(true) => assert!(!holds(Who::Ada, "read"), "what was revoked is back"),
        Some(false) => turn.must(Fact::Connected(Who::Ada), holds(Who::Ada, "read")),
        None => {}
    }
    turn.must(Fact::Granted, holds(Who::Bob, "write"));
    assert!(!holds(Who::Ada, "write"), "a single use is nothing that stands");
    let waiting = gateway.get("pending").await["pending"].to_string();
    let approve = json!({"action": "approve"});
    if turn.is(Fact::Asked) == Some(true) {
        match turn.is(Fact::Approved) {
            Some(false) => assert!(waiting.contains(&turn.asked), "a question was lost"),
            Some(true) => assert!(!waiting.contains(&turn.asked), "an answer was lost"),
            None => {}
        }
    }
    for (fact, item) in [(Fact::Approved, &turn.asked), (Fact::Denied, &turn.denied)] {
        if turn.is(fact) == Some(true) {
            let again = gateway.try_post(&format!("pending/{item}"), &approve).await;
            assert_eq!(again.status, 409, "{fact:?} is answered again");
        }
    }
    let rules = gateway.get("exposure").await.to_string();
    turn.must(Fact::Hidden, rules.contains(&turn.id("list")));
}

/// How often `mark` was written.
fn written(stage: &Stage, turn: &Turn, mark: &str) -> usize {
    let log = std::fs::read_to_string(stage.path(&format!("notes/{}/log.txt", turn.n)));
    log.unwrap_or_default().matches(mark).count()
}

/// An agent with a session, when it still can have one.
async fn greet(gateway: &Gateway, turn: &Turn, who: Who) -> Option<Agent> {
    let agent = gateway.greet(turn.pats.get(&who)?).await;
    (!agent.session.is_empty()).then_some(agent)
}

fn wants(id: &str, verb: &str) -> Value {
    json!({id: {"decision": "allow", "verbs": [verb]}})
}

/// A single use was used at most once, and is not there again.
async fn uses(stage: &Stage, gateway: &Gateway, turn: &mut Turn) {
    let used = written(stage, turn, "1");
    assert!(used <= 1, "used {used} times");
    turn.must(Fact::Used, used == 1);
    let Some(ada) = greet(gateway, turn, Who::Ada).await else {
        assert_ne!(turn.is(Fact::Enrolled(Who::Ada)), Some(true), "a credential was lost");
        return;
    };
    if !turn.single.is_empty() {
        assert_eq!(ada.call(&turn.single, &turn.append("1")).await.0, 401);
    }
    let (_, asked) = ada.ask(&wants(&turn.id("write"), "write")).await;
    assert_eq!(asked["status"], "grant_pending_user", "a yes to one use gives another: {asked}");
    let (_, asked) = ada.ask(&json!({turn.id("read"): "allow"})).await;
    match turn.is(Fact::Revoked) {
        Some(true) => assert_eq!(asked["status"], "grant_pending_user", "a mark was lost"),
        Some(false) => {
            let token = asked["token"].as_str().unwrap();
            let (status, read) =
                ada.invoke(token, &turn.id("read"), &json!({"path": "a.txt"})).await;
            assert_eq!(status, 200, "{read}");
            turn.records.push(read["auditId"].as_str().unwrap().to_owned());
        }
        None => {}
    }
    assert_eq!(written(stage, turn, "1"), used);
}

/// A keyed call is made once, whenever it is repeated.
async fn keys(stage: &Stage, gateway: &Gateway, turn: &Turn) {
    let made = written(stage, turn, "2");
    assert!(made <= 1, "made {made} times");
    turn.must(Fact::Keyed, made == 1);
    if turn.is(Fact::Granted) != Some(true) {
        return;
    }
    let bob = greet(gateway, turn, Who::Bob).await.unwrap();
    let (_, asked) = bob.ask(&wants(&turn.id("write"), "write")).await;
    let token = asked["token"].as_str().unwrap();
    let (_, repeated) = bob.call(token, &turn.keyed()).await;
    match turn.is(Fact::Keyed) {
        Some(true) => assert_eq!(repeated["error"]["detail"]["outcome"], "ok", "{repeated}"),
        Some(false) => assert_eq!(repeated["ok"], true, "{repeated}"),
        None => {}
    }
    bob.call(token, &turn.keyed()).await;
    let now = written(stage, turn, "2");
    assert!(made <= now && now <= 1, "made {now} times");
    assert!(now == 1 || turn.is(Fact::Keyed).is_none());
}

/// Who was shown out stays out; a name that was given stays given.
async fn ends(gateway: &Gateway, turn: &Turn) {
    let here = greet(gateway, turn, Who::Eve).await.is_some();
    match turn.is(Fact::Ended) {
        Some(true) => assert!(!here, "a revoked agent is back"),
        Some(false) => assert!(here || turn.is(Fact::Enrolled(Who::Eve)) != Some(true)),
        None => {}
    }
}
