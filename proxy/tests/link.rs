//! One tunnel and its calls, over real QUIC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(dead_code, reason = "each test program uses its part of the support")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::audit::AuditAck;
use plexus_mesh_proto::bounded::List;
use plexus_mesh_proto::catalog::{Mount, MountAck, MountMode};
use plexus_mesh_proto::close::{CloseCode, GoodbyeReason, ResetCode};
use plexus_mesh_proto::frame::FrameKind;
use plexus_mesh_proto::health::HealthState;
use plexus_mesh_proto::io::ToPrimary;
use plexus_mesh_proto::limits;
use plexus_proxy::audit_mirror::Mirrored;
use plexus_proxy::control::Cause;
use plexus_proxy::dial::Dialer;
use plexus_proxy::link::{self, Ended, Node};
use plexus_proxy::serve::Service;
use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::admit::{Binding, Liveness};
use plexus_shared::audit::{AuditLog, LogReader, Tier};
use plexus_shared::clock::{Clock, SystemClock, Timestamp};
use plexus_shared::invoke::Pipeline;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::exposure::ExposureRules;
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::health::HealthCell;
use plexus_shared::source::registry::{Group, Offer, Registry};
use plexus_shared::state_dir::StateDir;
use plexus_shared::transport::Transport;
use plexus_shared::transport::mesh::{Forward, Forwarded, Forwarding, Mesh};
use quinn::{ReadError, VarInt};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use support::{Primary, Tunnel, answer, invoke, key, soon};

#[derive(Debug)]
struct NoAgents;

impl Liveness for NoAgents {
    fn check(&self, _: &VerifiedToken, _: Timestamp) -> Result<(), Denial> {
        Err(Denial::new(Code::TokenRevoked, "no agents here"))
    }
    fn binding(&self, _: &VerifiedToken, _: &str) -> Option<Binding> {
        None
    }

    fn claim(&self, _: &VerifiedToken, _: &str) -> Result<(), Denial> {
        Err(Denial::new(Code::TokenRevoked, "no agents here"))
    }
}

/// Software that answers when the test lets it.
#[derive(Debug)]
struct Slow {
    begun: Semaphore,
    may_end: Semaphore,
}

impl Forward for Slow {
    fn forward<'a>(&'a self, _: Forwarded<'a>) -> Forwarding<'a> {
        Box::pin(async {
            self.begun.add_permits(1);
            self.may_end.acquire().await.unwrap().forget();
            Ok(RawValue::from_string(r#"{"ok":true,"output":"done"}"#.to_owned()).unwrap())
        })
    }
}

/// A proxy whose one capability, `slow.thing.do`, answers when it may.
struct Proxy {
    slow: Arc<Slow>,
    registry: Arc<Registry>,
    audit_dir: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<Ended>,
    _temp: tempfile::TempDir,
}

impl Proxy {
    fn start(primary: &Primary) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("audit")).unwrap();
        let audit_dir = dir.path().to_owned();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = Arc::new(AuditLog::open(dir, clock.clone(), Tier::Proxy).unwrap());
        let slow = Arc::new(Slow { begun: Semaphore::new(0), may_end: Semaphore::new(0) });
        let registry = Arc::new(Registry::new(0, ExposureRules::default()));
        registry.put("slow", group(&slow));
        let pipeline =
            Pipeline::new(registry.clone(), Arc::new(NoAgents), log.clone(), clock.clone());
        let node = Node {
            registry: registry.clone(),
            service: Service::new(Arc::new(pipeline), clock),
            audit: Mirrored { log, dir: audit_dir.clone() },
            health: watch::channel(Vec::new()).1,
            health_interval: Duration::from_secs(1),
        };
        let (stop, stopped) = watch::channel(false);
        let (pinned, address) = (primary.node.public(), primary.address());
        let task = tokio::spawn(async move {
            let mut dialer = Dialer::new(&key(1), pinned, vec![address.into()]).unwrap();
            let dialed = dialer.dial().await.unwrap();
            let ended = link::run(&node, dialed, stopped).await;
            dialer.close(CloseCode::ShuttingDown).await;
            ended
        });
        Self { slow, registry, audit_dir, stop, task, _temp: temp }
    }

    async fn ended(self) -> Ended {
        soon(self.task).await.unwrap()
    }

    async fn until_begun(&self) {
        soon(self.slow.begun.acquire()).await.unwrap().forget();
    }

    /// The rows of calls in the log.
    fn calls(&self) -> Vec<Value> {
        let lines = LogReader::from_seq(&self.audit_dir, 1).next_batch(1000, 1 << 20).unwrap();
        let rows = lines.iter().map(|line| serde_json::from_str(&line.text).unwrap());
        rows.filter(|row: &Value| row["type"] == "invoke").collect()
    }
}

fn group(slow: &Arc<Slow>) -> Group {
    let definition = json!({
        "id": "slow.thing.do", "source": "slow", "kind": "capability", "label": "Do",
        "describe": "Does a thing.", "grants": ["execute"], "transport": "ipc",
    });
    Group {
        class: Provenance::Managed,
        shown_by_default: true,
        health: Arc::new(HealthCell::new(Health::of(HealthStatus::Ok))),
        offers: vec![Offer {
            definition: serde_json::from_value(definition).unwrap(),
            transport: Transport::Mesh(Mesh::new(slow.clone(), "slow.thing.do".parse().unwrap())),
        }],
    }
}

async fn up() -> (Primary, Proxy, Tunnel) {
    let primary = Primary::listen();
    let proxy = Proxy::start(&primary);
    let tunnel = primary.admit(0).await;
    (primary, proxy, tunnel)
}

#[tokio::test]
async fn the_catalog_goes_up_with_bare_ids_then_its_changes() {
    let (_primary, proxy, mut tunnel) = up().await;
    let all = tunnel.catalog().await;
    assert_eq!((all.mode, all.entries.len()), (MountMode::Full, 1));
    assert!(all.entries[0].get().contains(r#""id":"slow.thing.do""#));
    tunnel.say(&MountAck { revision: 1, mounted: 1, refused: List::default() }).await;
    proxy.registry.remove("slow");
    let gone = tunnel.catalog().await;
    assert_eq!((gone.mode, gone.withdrawn[0].as_str()), (MountMode::Delta, "slow.thing.do"));
}

#[tokio::test]
async fn health_and_audit_go_up() {
    let (_primary, _proxy, mut tunnel) = up().await;
    let lines = tunnel.audit().await;
    assert_eq!((lines[0]["seq"].as_u64(), &lines[0]["type"]), (Some(1), &json!("mesh.connect")));
    tunnel.say(&AuditAck { through: 1 }).await;
    let report = loop {
        if let ToPrimary::Health(report) = tunnel.hear().await {
            break report;
        }
    };
    assert_eq!(report.overall, HealthState::Ok);
}

#[tokio::test]
async fn a_call_is_answered_and_its_record_is_mirrored() {
    let (_primary, proxy, mut tunnel) = up().await;
    proxy.slow.may_end.add_permits(1);
    let reply = tunnel.call("slow.thing.do", "{}").await;
    assert_eq!((&reply["ok"], &reply["output"]), (&json!(true), &json!("done")));
    assert!(reply["auditId"].as_str().unwrap().starts_with("evt_"));
    let mut rows = Vec::new();
    while rows.len() < 3 {
        rows.extend(tunnel.audit().await);
        let through = rows.len() as u64;
        tunnel.say(&AuditAck { through }).await;
    }
    assert_eq!(rows[1]["detail"]["phase"], "started");
    assert_eq!((&rows[2]["outcome"], &rows[2]["id"]), (&json!("ok"), &reply["auditId"]));
    assert_eq!(rows[2]["correlationId"], invoke("a.b.c", "{}").correlation_id.as_str());
    assert_eq!(rows[2]["agentId"], "claude");
}

#[tokio::test]
async fn what_is_not_there_is_refused_here_too() {
    let (_primary, proxy, tunnel) = up().await;
    let reply = tunnel.call("other.thing.do", "{}").await;
    assert_eq!(reply["error"]["code"], "unknown_capability");
    assert_eq!(proxy.calls()[0]["outcome"], "denied");
}

#[tokio::test]
async fn taking_a_call_back_cancels_it_here_and_says_so_in_its_record() {
    let (_primary, proxy, tunnel) = up().await;
    let (mut send, mut recv) = tunnel.send_call("slow.thing.do", "{}").await;
    proxy.until_begun().await;
    send.finish().unwrap();
    recv.stop(VarInt::from_u32(ResetCode::Cancelled.number())).unwrap();
    let rows = soon(async {
        loop {
            // The row is written by a task that the stop wakes; there is nothing else to wait on.
            let rows = proxy.calls();
            if rows.len() == 2 {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let rows = rows.await;
    assert_eq!(
        (&rows[0]["detail"]["phase"], &rows[1]["outcome"]),
        (&json!("started"), &json!("error"))
    );
    assert_eq!(rows[0]["correlationId"], rows[1]["correlationId"]);
}

#[tokio::test]
async fn half_a_frame_that_is_taken_back_or_nonsense_resets_its_stream_only() {
    let (_primary, proxy, tunnel) = up().await;
    let (mut send, mut recv) = soon(tunnel.connection.open_bi()).await.unwrap();
    soon(send.write_all(&[0, 0, 1, 0, FrameKind::Health.number()])).await.unwrap();
    let error = soon(recv.read(&mut [0])).await.unwrap_err();
    assert_eq!(error, ReadError::Reset(VarInt::from_u32(ResetCode::Violation.number())));
    let (mut send, mut recv) = soon(tunnel.connection.open_bi()).await.unwrap();
    soon(send.write_all(&[0, 0, 1, 0, FrameKind::Invoke.number(), 1, 2])).await.unwrap();
    send.reset(VarInt::from_u32(0)).unwrap();
    assert!(matches!(soon(recv.read(&mut [0])).await, Err(ReadError::Reset(_))));
    proxy.slow.may_end.add_permits(1);
    assert_eq!(tunnel.call("slow.thing.do", "{}").await["ok"], true);
}

#[tokio::test]
async fn calls_beyond_the_advertised_number_are_told_to_come_later() {
    let (_primary, proxy, tunnel) = up().await;
    let mut open = Vec::new();
    for _ in 0..limits::CONCURRENT_CALLS {
        open.push(tunnel.send_call("slow.thing.do", "{}").await);
    }
    for _ in 0..limits::CONCURRENT_CALLS {
        proxy.until_begun().await;
    }
    let reply = tunnel.call("slow.thing.do", "{}").await;
    assert_eq!(reply["error"]["code"], "rate_limited");
    proxy.slow.may_end.add_permits(open.len());
    for (mut send, mut recv) in open {
        send.finish().unwrap();
        assert_eq!(answer(&mut recv).await["ok"], true);
    }
}

#[tokio::test]
async fn stopping_lets_calls_finish_refuses_new_ones_and_says_goodbye_last() {
    let (_primary, proxy, mut tunnel) = up().await;
    let (mut send, mut recv) = tunnel.send_call("slow.thing.do", "{}").await;
    send.finish().unwrap();
    proxy.until_begun().await;
    proxy.stop.send_replace(true);
    let refused = loop {
        let reply = tunnel.call("other.thing.do", "{}").await;
        if reply["error"]["code"] != "unknown_capability" {
            break reply;
        }
    };
    assert_eq!(refused["error"]["code"], "capability_unavailable");
    proxy.slow.may_end.add_permits(1);
    assert_eq!(answer(&mut recv).await["output"], "done");
    let reason = loop {
        if let ToPrimary::Goodbye(goodbye) = tunnel.hear().await {
            break goodbye.reason;
        }
    };
    assert_eq!(reason, GoodbyeReason::ShuttingDown);
    assert_eq!(tunnel.closed().await, Some(CloseCode::ShuttingDown));
    assert_eq!(proxy.ended().await.cause, Cause::Stopped);
}

#[tokio::test]
async fn a_frame_that_does_not_belong_ends_the_tunnel_as_a_violation() {
    let (_primary, proxy, mut tunnel) = up().await;
    let mount = Mount {
        revision: 1,
        mode: MountMode::Full,
        entries: List::default(),
        withdrawn: List::default(),
        more: false,
    };
    tunnel.say(&mount).await;
    assert_eq!(tunnel.closed().await, Some(CloseCode::Violation));
    let ended = proxy.ended().await;
    assert!(matches!(ended.cause, Cause::Violation(_)), "{ended:?}");
    assert!(ended.accepted.is_some());
}

#[tokio::test]
async fn a_tunnel_that_breaks_drops_its_calls() {
    let (_primary, proxy, tunnel) = up().await;
    let _call = tunnel.send_call("slow.thing.do", "{}").await;
    proxy.until_begun().await;
    let audit = proxy.audit_dir.clone();
    tunnel.close(CloseCode::ShuttingDown);
    let Proxy { task, _temp, .. } = proxy;
    let ended = soon(task).await.unwrap();
    assert_eq!(ended.cause, Cause::Closed(CloseCode::ShuttingDown));
    let lines = LogReader::from_seq(&audit, 1).next_batch(1000, 1 << 20).unwrap();
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert!(text.iter().any(|row| row.contains("mesh.disconnect")), "{text:#?}");
}

#[tokio::test]
async fn a_connection_is_nothing_before_the_primary_says_hello() {
    let primary = Primary::listen();
    let proxy = Proxy::start(&primary);
    primary.arrival().await.close(CloseCode::Revoked);
    let ended = proxy.ended().await;
    assert_eq!((ended.cause, ended.accepted), (Cause::Closed(CloseCode::Revoked), None));
}
