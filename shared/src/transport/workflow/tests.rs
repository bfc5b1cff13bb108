//! Workflows through the whole pipeline.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::admit::token::{Claims, TokenKeys, VerifiedToken};
use crate::admit::{Binding, Liveness};
use crate::audit::MemorySink;
use crate::clock::{ManualClock, Timestamp};
use crate::gate::members::Whole;
use crate::ids::{CorrelationId, SessionId, TokenId};
use crate::invoke::{DEFAULT_DEADLINE, Pipeline};
use crate::model::exposure::ExposureRules;
use crate::model::health::{Health, HealthStatus};
use crate::model::scope::TokenScope;
use crate::model::trust::Provenance;
use crate::model::verb::VerbSet;
use crate::source::extension::{Extension, Manifest, Ports};
use crate::source::health::HealthCell;
use crate::source::registry::{Group, Registry};
use crate::transport::cli::environment::Host;
use crate::transport::secrets::SecretFiles;

const NOW: Timestamp = Timestamp::from_millis(1_782_212_400_000);

/// Sessions that end after so many questions about them.
struct Until(AtomicUsize);

impl Liveness for Until {
    fn check(&self, _: &VerifiedToken, _: Timestamp) -> Result<(), Denial> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(|_| ()).map_err(|_| Denial::new(Code::TokenRevoked, "the token was revoked"))
    }
    fn binding(&self, _: &VerifiedToken, _: &str) -> Option<Binding> {
        None
    }
    fn claim(&self, _: &VerifiedToken, _: &str) -> Result<(), Denial> {
        Ok(())
    }
}

struct World {
    registry: Arc<Registry>,
    pipeline: Arc<Pipeline>,
    sink: Arc<MemorySink>,
}

impl World {
    /// A source `say` with commands that echo, and a workflow with this route; the token dies after
    /// `checks` checks.
    fn new(route: &Value, checks: usize) -> Self {
        let command = |name: &str, argv: Value| {
            json!({"name": name, "kind": "capability", "label": "x", "describe": "x",
                "grants": ["read"], "route": {"bin": "echo", "argv": argv, "output": "json"}})
        };
        let workflow = |name: &str, member: &str| {
            json!({"name": name, "kind": "workflow", "label": "x", "describe": "x",
                "grants": ["read"], "members": [{"id": member, "verbs": ["read"]}]})
        };
        let mut main = workflow("flow.run", "word.first");
        main["members"] = json!([{"id": "word.first", "verbs": ["read"]},
            {"id": "word.second", "verbs": ["read"]}]);
        main["route"] = route.clone();
        // Eight million bytes of numbers.
        let mut much = command("much.tell", json!([]));
        much["route"] = json!({"bin": "seq", "argv": ["1", "1200000"]});
        let mut flood = workflow("much.run", "much.tell");
        flood["members"] = json!([{"id": "much.tell", "verbs": ["read"]},
            {"id": "word.first", "verbs": ["read"]}]);
        let steps = ["much.tell", "much.tell", "word.first"].map(|id| json!({ "member": id }));
        flood["route"] = json!({ "steps": steps });
        let manifest = json!({"manifest": "plexus-extension/0.1", "source": "say", "label": "Say",
            "transport": "cli", "binaries": ["echo", "seq"], "capabilities": [much, flood,
                command("word.first", json!(["{text}"])), command("word.second", json!(["{text}"])),
                main, workflow("deep.one", "word.first"), workflow("deep.two", "deep.one"),
                workflow("deep.three", "deep.two"), workflow("deep.four", "deep.three"),
                workflow("deep.five", "deep.four")]});
        let manifest = Manifest::read(&manifest.to_string()).unwrap();
        let host = Host::new([("PATH".into(), "/usr/bin:/bin".into())]);
        let reentry = Reentry::default();
        let ports = Ports { host, secrets: SecretFiles::none(), reentry: reentry.clone() };
        let offers = Extension::prepare(manifest, &ports).unwrap().offers();
        let registry = Arc::new(Registry::new(1, ExposureRules::new(Vec::new())));
        let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Ok)));
        let class = Provenance::Managed;
        registry.put("say", Group { class, shown_by_default: true, health, offers });
        let clock = ManualClock::at(NOW);
        let sink = MemorySink::new(clock.clone());
        let liveness = Arc::new(Until(AtomicUsize::new(checks)));
        let pipeline = Pipeline::new(registry.clone(), liveness, sink.clone(), clock);
        let pipeline = Arc::new(pipeline);
        reentry.bind(&pipeline);
        Self { registry, pipeline, sink }
    }

    /// Calls `id` with a token for it and the members that granting it brings.
    async fn call(&self, id: &str, input: &Value) -> Outcome {
        let read = [crate::model::verb::Verb::Read].into_iter().collect();
        let scope = |id: &str, within: Option<&str>| TokenScope {
            id: id.parse().unwrap(),
            verbs: read,
            synthesized_for: within.map(|id| id.parse().unwrap()),
            constraint: None,
        };
        let whole = Whole::of(&self.registry.catalog(), id, read);
        let members =
            whole.known_members().iter().map(|member| scope(member.id.as_str(), Some(id)));
        let scopes = std::iter::once(scope(id, None)).chain(members).collect();
        let keys = TokenKeys::new(&[7; 32]);
        let (session, jti) = (SessionId::fresh(NOW), TokenId::fresh(NOW));
        let end = NOW.plus(Duration::from_secs(600));
        let claims = Claims::new("agent".parse().unwrap(), session, jti, scopes, NOW, end, None);
        let token = keys.verify(&keys.sign(&claims).unwrap()).unwrap();
        let call = Call {
            id: id.to_owned(),
            input: Input::new(to_raw_value(input).unwrap()),
            correlation: CorrelationId::fresh(NOW),
            idempotency_key: None,
            deadline: DEFAULT_DEADLINE,
        };
        self.pipeline.invoke(Authority::Agent(Arc::new(token)), call).await.outcome
    }
}

fn output(outcome: Outcome) -> Value {
    match outcome {
        Ok(Output::Json(raw) | Output::Mcp(raw)) => serde_json::from_str(raw.get()).unwrap(),
        Err(denial) => panic!("{denial} {:?}", denial.detail),
    }
}

fn chain() -> Value {
    json!({"steps": [{"member": "word.first", "input": {"text": {"$input": "/said"}}},
        {"member": "word.second", "input": {"text": {"$from": "0/word"}}}]})
}

#[tokio::test]
async fn a_step_is_fed_with_what_an_earlier_one_gave() {
    let world = World::new(&chain(), 9);
    let said = json!({"said": "{\"word\": \"42\"}"});
    let answer = output(world.call("say.flow.run", &said).await);
    let outputs: Vec<_> =
        answer["steps"].as_array().unwrap().iter().map(|s| &s["output"]).collect();
    assert_eq!(outputs, [&json!({"word": "42"}), &json!(42)]);
    let events = world.sink.events();
    assert_eq!(events.len(), 3, "a record for each member and for the run");
    assert!(events.windows(2).all(|pair| pair[0].correlation_id == pair[1].correlation_id));
    assert!(answer["steps"][0]["auditId"].as_str().unwrap().starts_with("evt_"));
}

#[tokio::test]
async fn a_token_revoked_between_members_halts_the_run() {
    let world = World::new(&chain(), 2);
    let denial = world.call("say.flow.run", &json!({"said": "{\"word\": 1}"})).await.unwrap_err();
    assert_eq!(denial.code, Code::TransportError);
    let detail = denial.detail.unwrap();
    assert_eq!(
        (&detail["failed"], &detail["code"]),
        (&json!("say.word.second"), &json!("token_revoked"))
    );
    let ok: Vec<_> = detail["steps"].as_array().unwrap().iter().map(|step| &step["ok"]).collect();
    assert_eq!(ok, [&json!(true), &json!(false)]);
}

#[tokio::test]
async fn a_failed_step_stops_the_run_and_the_answer_says_which_ran() {
    let world = World::new(&chain(), 9);
    let denial = world.call("say.flow.run", &json!({"said": "not json"})).await.unwrap_err();
    let detail = denial.detail.unwrap();
    assert_eq!(
        (&detail["failed"], &detail["code"]),
        (&json!("say.word.first"), &json!("transport_error"))
    );
    assert_eq!(detail["steps"].as_array().unwrap().len(), 1, "nothing ran after it");
    let denial = world.call("say.flow.run", &json!({"said": "{}"})).await.unwrap_err();
    assert_eq!(
        denial.detail.unwrap()["code"],
        "schema_validation_failed",
        "nothing to feed it with"
    );
}

#[tokio::test]
async fn steps_that_give_too_much_stop_the_run_and_the_answer_says_which_ran() {
    let world = World::new(&chain(), 9);
    let outcome = world.call("say.much.run", &json!({"text": "1"})).await;
    let denial = outcome.map(|_| "an answer").unwrap_err();
    let detail = denial.detail.unwrap();
    assert_eq!(detail["reason"], "output", "{detail}");
    assert_eq!(detail["steps"].as_array().unwrap().len(), 2, "nothing ran after them");
}

#[tokio::test]
async fn members_that_need_nothing_of_each_other_run_together_in_their_order() {
    let world = World::new(&json!({"parallel": true}), 9);
    let answer = output(world.call("say.flow.run", &json!({"text": "1"})).await);
    let ids: Vec<_> = answer["steps"].as_array().unwrap().iter().map(|s| &s["id"]).collect();
    assert_eq!(ids, [&json!("say.word.first"), &json!("say.word.second")]);
}

#[tokio::test]
async fn workflows_lie_four_deep_in_one_another_and_no_deeper() {
    let world = World::new(&chain(), 99);
    assert!(world.call("say.deep.four", &json!({"text": "1"})).await.is_ok());
    let whole = |id: &str| Whole::of(&world.registry.catalog(), id, VerbSet::READ);
    assert!(whole("say.deep.five").members.is_err());
    let denial = world.call("say.deep.five", &json!({"text": "1"})).await.unwrap_err();
    assert_eq!(denial.detail.unwrap()["code"], "grant_required");
}

#[tokio::test]
async fn a_workflow_does_not_keep_its_pipeline_alive() {
    let world = World::new(&chain(), 9);
    let whole = Whole::of(&world.registry.catalog(), "say.flow.run", VerbSet::READ);
    assert_eq!(whole.known_members().len(), 2);
    let weak = Arc::downgrade(&world.pipeline);
    drop(world);
    assert!(weak.upgrade().is_none(), "the pipeline is not held by its own workflows");
}

#[tokio::test]
async fn a_secret_reaches_its_command_and_neither_the_answer_nor_the_log() {
    let base = tempfile::tempdir().unwrap();
    let folder = crate::state_dir::StateDir::open(&base.path().join("state")).unwrap();
    let folder = folder.subdir("secrets").unwrap();
    folder.write("tok", b"hunter22-value\n").unwrap();
    let world = World::new(&chain(), 99);
    let command = |name: &str| {
        json!({"name": name, "kind": "capability", "label": "x", "describe": "x", "grants": ["read"],
            "route": {"bin": "printenv", "argv": ["TOKEN"]}})
    };
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "keys", "label": "Keys",
        "transport": "cli", "binaries": ["printenv"], "capabilities": [command("token.show")],
        "secrets": [{"name": "tok", "attach": "env", "as": "TOKEN"}]});
    let manifest = Manifest::read(&manifest.to_string()).unwrap();
    let host = Host::new([("PATH".into(), "/usr/bin:/bin".into())]);
    let secrets = SecretFiles::open(folder.clone()).unwrap();
    let ports = Ports { host, secrets, reentry: Reentry::default() };
    let offers = Extension::prepare(manifest, &ports).unwrap().offers();
    let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Ok)));
    let class = Provenance::Managed;
    world.registry.put("keys", Group { class, shown_by_default: true, health, offers });
    // One lies across the place where a long text is clipped.
    let clipped = format!("{}hunter22-value", "x".repeat(crate::redact::MAX_CHARS - 8));
    let input = json!({"note": "hunter22-value", "long": clipped});
    let answer = output(world.call("keys.token.show", &input).await);
    assert_eq!(answer["stdout"], "[redacted]\n", "it was there, and is hidden");
    let kept = serde_json::to_string(&world.sink.events()).unwrap();
    assert!(!kept.contains("hunter22"), "{kept}");
    std::fs::remove_file(base.path().join("state/secrets/tok")).unwrap();
    let denial = world.call("keys.token.show", &input).await.unwrap_err();
    assert_eq!(denial.code, Code::SourceUnavailable);
}
