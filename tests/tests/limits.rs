//! Who asks too much is told when to come back, and no one else notices; what the owner sets holds at
//! once; what the owner stops stays stopped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::raw::raw;
use plexus_tests::wire::Wire;
use plexus_tests::{PATIENCE, Primary, Stage, all, body};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Sends a request with these headers; the status, `Retry-After` and the JSON that came back.
async fn hand(primary: &Primary, line: &str, headers: &str) -> (u16, Option<u64>, Value) {
    let host = primary.url.strip_prefix("http://").unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    let answer = raw(&primary.url, &request).await;
    let wait = answer.header("retry-after").and_then(|wait| wait.parse().ok());
    (answer.status, wait, answer.body)
}

async fn rows(primary: &Primary, kind: &str) -> Vec<Value> {
    let audit = primary.get(&format!("audit?type={kind}&limit=500")).await;
    audit["events"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_costs_the_guesser_alone_and_the_log_stays_short() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let wrong = format!("X-Plexus-Connection-Key: plx_live_{}\r\n", "0".repeat(64));
    for _ in 0..5 {
        let (status, _, answer) = hand(&primary, "GET /admin/api/status", &wrong).await;
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("session_expired")));
    }
    for _ in 0..50 {
        let (status, wait, answer) = hand(&primary, "GET /admin/api/status", &wrong).await;
        assert_eq!((status, &answer["error"]["code"]), (429, &json!("rate_limited")));
        assert!(wait.is_some_and(|wait| (1..=300).contains(&wait)), "{wait:?}");
        // The owner, from the same address, is let in all the while.
        assert_eq!(primary.get("status").await["frozen"], false);
    }
    let key = wrong.trim_end().strip_prefix("X-Plexus-Connection-Key: ").unwrap();
    let revoke = json!({"agentId": "ada", "capabilityId": "notes.file.read"});
    let ask = Ask::with_body(Method::POST, "/grants/revoke", &revoke);
    let answer = primary.send(ask.header("x-plexus-connection-key", key)).await.unwrap();
    assert_eq!(answer.status, 429, "the owner's key is the same door everywhere");
    let rows = rows(&primary, "auth.failed").await;
    assert!((1..=10).contains(&rows.len()), "{} rows", rows.len());
    // Another door is another matter: a right PAT was never counted, and wrong ones are by themselves.
    let ada = primary.agent("ada", &[]).await;
    let bad =
        format!("Authorization: Bearer plx_agent_{}\r\nContent-Length: 0\r\n", "0".repeat(64));
    for n in 0..8 {
        let (status, ..) = hand(&primary, "POST /link/handshake", &bad).await;
        assert_eq!(status, if n < 5 { 401 } else { 429 });
    }
    assert!(!primary.handshake(&ada.pat).await.0.is_empty());
    let guess = json!({"code": format!("plx_enroll_{}", "0".repeat(64))});
    for n in 0..7 {
        let ask = Ask::with_body(Method::POST, "/agents/enroll", &guess);
        let answer = primary.send(ask).await.unwrap();
        let code = body(&answer)["error"]["code"].clone();
        assert_eq!(code, if n < 5 { "unknown_code" } else { "rate_limited" });
    }
    primary.agent("bob", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agents_flood_is_its_own_and_what_the_owner_sets_holds_at_once() {
    let (stage, primary) = Stage::shared().await;
    let (ada, bob) = (primary.agent("ada", &[]).await, primary.agent("bob", &[]).await);
    let (code, said) = stage
        .plexus(&["settings", "set", "rateLimits.burst=5", "rateLimits.requestsPerSecond=1"])
        .await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("rateLimits.burst=5"), "{said}");
    let token = ada.token("notes.file.read").await;
    let input = json!({"path": "a.txt"});
    let answers = all((0..12).map(|_| ada.invoke(&token, "notes.file.read", &input))).await;
    let limited: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    assert!(limited.len() >= 5 && limited.len() < 12, "{} of 12", limited.len());
    let (_, refused) = limited[0];
    assert_eq!(
        (&refused["ok"], &refused["error"]["code"]),
        (&json!(false), &json!("rate_limited"))
    );
    let bearer = format!("X-Plexus-Session: {}\r\n", ada.session);
    let (status, wait, _) = hand(&primary, "GET /manifest", &bearer).await;
    assert_eq!((status, wait), (429, Some(1)));
    assert_eq!(bob.get("/manifest").await.0, 200, "another agent does not notice");
    let (code, _) = stage
        .plexus(&["settings", "set", "rateLimits.burst=", "rateLimits.requestsPerSecond="])
        .await;
    assert_eq!(code, 0);
    assert_eq!(rows(&primary, "settings.change").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_calls_under_way_are_bounded() {
    let (stage, primary) = Stage::shared().await;
    std::fs::write(stage.path("notes/big.txt"), "x".repeat(900_000)).unwrap();
    let ada = primary.agent("ada", &[]).await;
    let token = ada.token("notes.file.read").await;
    let (code, said) = stage.plexus(&["settings", "set", "rateLimits.concurrentCalls=1"]).await;
    assert_eq!(code, 0, "{said}");
    let input = json!({"path": "big.txt"});
    let mut crowded = 0;
    for _ in 0..20 {
        let answers = all((0..8).map(|_| ada.invoke(&token, "notes.file.read", &input))).await;
        assert!(answers.iter().all(|(status, _)| [200, 429].contains(status)), "{answers:?}");
        assert!(answers.iter().any(|(status, _)| *status == 200));
        crowded += answers.iter().filter(|(status, _)| *status == 429).count();
    }
    assert!(crowded > 0, "eight at once never met");
    assert_eq!(ada.invoke(&token, "notes.file.read", &input).await.0, 200, "places come back");
}

/// A call with `token` that the gateway waits for the body of, which has `length` bytes.
fn begun(primary: &Primary, token: &str, length: usize) -> Wire {
    let host = primary.url.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /invoke HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    loop {
        let mut wire = Wire::connect(&primary.url);
        wire.send(head.as_bytes());
        // The place of the call before may be given back a moment after its answer.
        if wire.is_asked_for_more() {
            return wire;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_its_place_while_its_body_comes_and_until_its_answer_is_taken() {
    let (stage, primary, ada) = Stage::with_ada().await;
    std::fs::write(stage.path("notes/big.txt"), "x".repeat(8 << 20)).unwrap();
    let token = ada.token("notes.file.read").await;
    let small = json!({"path": "big.txt", "length": 1});
    let one = json!({"concurrentCalls": 1, "requestsPerSecond": 100_000, "burst": 1_000_000});
    let settings = json!({ "rateLimits": one });
    assert_eq!(primary.owner(Method::PUT, "settings", Some(&settings)).await.status, 200);
    let status = async || ada.invoke(&token, "notes.file.read", &small).await.0;
    let free = async || {
        let again = async { while status().await != 200 {} };
        tokio::time::timeout(PATIENCE, again).await.expect("the place is given back");
    };
    let coming = begun(&primary, &token, 1000);
    assert_eq!(status().await, 429, "its body is still to come");
    drop(coming);
    free().await;

    let input = json!({"path": "big.txt", "length": 8 << 20});
    let call = json!({"id": "notes.file.read", "input": input}).to_string();
    let mut unread = begun(&primary, &token, call.len());
    unread.send(call.as_bytes());
    let answered =
        async { while rows(&primary, "invoke").await[0]["input"]["length"] != 8 << 20 {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("it is answered");
    assert_eq!(status().await, 429, "and not taken");
    let (status, answer) = unread.answer();
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
    free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_strangers_are_few_at_a_time() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let host = primary.url.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /agents/enroll HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: 200000\r\n\r\n"
    );
    // More than there is room for: whichever comes late is refused.
    let begun = [head.as_bytes(), &[b' '; 100_000]].concat();
    let coming: Vec<_> = (0..40)
        .map(|_| {
            let mut wire = Wire::connect(&primary.url);
            wire.send(&begun);
            wire
        })
        .collect();
    let enroll = async |length: usize| {
        let body = json!(" ".repeat(length));
        let answer = primary.send(Ask::with_body(Method::POST, "/agents/enroll", &body)).await;
        // Who is refused in the middle of a body may not come to read why.
        answer.map_or(0, |answer| answer.status.as_u16())
    };
    let crowded = async { while enroll(100_000).await != 429 {} };
    tokio::time::timeout(PATIENCE, crowded).await.expect("there is an end to it");
    assert_eq!(enroll(1000).await, 400, "a small one is read");
    ada.token("notes.file.read").await;
    let order = json!({"agentId": "bob", "label": "x".repeat(100_000), "capabilities": []});
    assert_ne!(primary.try_post("agents/connect", &order).await.status, 429, "the owner has room");
    drop(coming);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_whole_and_decide_from_then_on() {
    let (stage, primary, ada) = Stage::with_ada().await;
    for wrong in
        ["policy=auto-approve", "policy=yes", "tokenLifetime=1", "sessionLifetimeMs=9999999"]
    {
        let (code, _) = stage.plexus(&["settings", "set", wrong]).await;
        assert_eq!(code, 2, "{wrong}");
    }
    assert!(!stage.path("home/auth-config.json").exists());
    let default = primary.get("settings").await["settings"].clone();
    assert_eq!(default["auditRetentionDays"], 90, "the defaults too: {default}");
    let set = ["settings", "set", "policy=confirm-all", "maxTrustWindowMs=60000"];
    let (code, _) = stage.plexus(&[&set[..], &["auditDurability=always"]].concat()).await;
    assert_eq!(code, 0);
    let (_, asked) = ada.ask(&json!({"notes.file.read": "allow"})).await;
    let id = asked["pendingId"].as_str().unwrap_or_else(|| panic!("{asked}"));
    let answer = json!({"action": "approve", "trustWindow": {"kind": "7d"}});
    primary.post(&format!("pending/{id}"), &answer).await;
    let grants = primary.get("grants").await;
    assert_eq!(grants["grants"][0]["trustWindow"], json!({"kind": "custom", "ms": 60_000}));
    primary.running.stop(PATIENCE).await.unwrap();
    let again = stage.primary().await;
    let settings = again.get("settings").await["settings"].clone();
    assert_eq!(settings["policy"], "confirm-all");
    assert_eq!(settings["auditDurability"], "always");
    assert_eq!(settings["auditRetentionDays"], 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_owners_that_can_not_be_ends_the_start_by_its_path() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.running.stop(PATIENCE).await.unwrap();
    for (file, text, path) in [
        ("auth-config.json", r#"{"rateLimits": {"burst": "many"}}"#, "rateLimits.burst"),
        ("network.json", r#"{"listen": ["0.0.0.0:0"], "tls": false}"#, "tls"),
    ] {
        let place = stage.path(&format!("home/{file}"));
        std::fs::write(&place, text).unwrap();
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let (code, _) =
            stage.plexus(&["serve", "--port", "0", "--mesh-listen", "127.0.0.1:0"]).await;
        assert_eq!(code, 6, "{file}");
        let log = stage.log("plexus");
        assert!(log.contains(&format!("{file}: {path}: ")), "{log}");
        let (code, said) = stage.plexus(&["doctor"]).await;
        assert_eq!(code, 6, "{said}");
        std::fs::remove_file(place).unwrap();
    }
    let (code, said) = stage.plexus(&["doctor"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no gateway is running"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_running_gateway_well_and_a_cut_log_ill() {
    let (stage, primary) = Stage::shared().await;
    let checks = primary.get("doctor").await["checks"].clone();
    let ids: Vec<_> =
        checks.as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    for id in [
        "audit.writable",
        "audit.chain",
        "store.writable",
        "ports",
        "mesh.listen",
        "sources",
        "clock",
        "disk",
    ] {
        assert!(ids.contains(&id), "{id} in {ids:?}");
    }
    let (code, said) = stage.plexus(&["doctor"]).await;
    assert_eq!(code, 0, "{said}");
    primary.running.stop(PATIENCE).await.unwrap();
    let day = std::fs::read_dir(stage.path("home/audit")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&day).unwrap();
    std::fs::write(&day, text.replacen("notes", "votes", 1)).unwrap();
    let (code, said) = stage.plexus(&["doctor"]).await;
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("FAIL  audit.chain"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_gateway_refuses_every_agent_across_a_restart_until_it_is_resumed() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let write = json!({"notes.file.write": {"decision": "allow", "verbs": ["write"]}});
    assert!(ada.ask(&write).await.1["pendingId"].is_string());
    let (code, said) = stage.plexus(&["panic"]).await;
    assert_eq!(code, 0, "{said}");
    let read = json!({"path": "a.txt"});
    let refused = |(status, answer): &(u16, Value)| {
        assert_eq!((*status, &answer["error"]["code"]), (503, &json!("source_unavailable")));
        assert!(answer["error"]["message"].as_str().unwrap().contains("frozen"), "{answer}");
    };
    refused(&ada.invoke(&token, "notes.file.read", &read).await);
    refused(&ada.ask(&json!({"notes.file.read": "allow"})).await);
    refused(&ada.get("/manifest").await);
    assert_eq!(primary.handshake(&ada.pat).await.1["error"]["code"], "source_unavailable");
    assert_eq!(primary.get("pending").await["pending"], json!([]));
    let status = primary.get("status").await;
    assert_eq!(
        (&status["frozen"], &status["tokens"], &status["sessions"]),
        (&json!(true), &json!(0), &json!(0))
    );
    primary.running.stop(PATIENCE).await.unwrap();
    let primary = stage.primary().await;
    assert_eq!(primary.handshake(&ada.pat).await.1["error"]["code"], "source_unavailable");
    let (code, said) = stage.plexus(&["resume"]).await;
    assert_eq!(code, 0, "{said}");
    let back = primary.greet(&ada.pat).await;
    let token = back.token("notes.file.read").await;
    assert_eq!(back.invoke(&token, "notes.file.read", &read).await.0, 200);
    let frozen: Vec<_> = rows(&primary, "settings.change").await;
    assert_eq!(frozen.len(), 2, "{frozen:?}");
}

/// An address of this machine that others could reach; none is asked for.
fn reachable() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_can_reach_speaks_tls_alone() {
    let Some(address) = reachable() else {
        return eprintln!("skipped: this machine has no address but loopback");
    };
    let stage = Stage::new();
    let primary = stage.primary().await;
    let network = json!({"listen": [format!("{address}:0")]});
    let said = primary.post("network", &network).await;
    assert!(said["note"].as_str().unwrap().contains("restart"), "{said}");
    primary.running.stop(PATIENCE).await.unwrap();
    let primary = stage.primary().await;
    let reach = primary.get("status").await["reach"].clone();
    let url = reach["urls"][1].as_str().unwrap();
    let authority = url.strip_prefix("https://").unwrap();
    let fingerprint = reach["tlsFingerprint"].as_str().unwrap();
    let log = stage.log("plexus");
    assert!(log.contains("OTHER MACHINES CAN REACH") && log.contains(fingerprint), "{log}");
    assert!(primary.url.starts_with("http://127.0.0.1:"));

    // In the clear there is nothing to be heard.
    let mut plain = TcpStream::connect(authority).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /.well-known/plexus HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");

    // Over TLS, believing that certificate alone, for that address.
    let pem = stage.path("home/tls-certificate.pem");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (host, expected) in [(authority, "200"), ("evil.example", "403")] {
        let stream = tokio::net::TcpStream::connect(authority).await.unwrap();
        let mut stream = connector.connect(address.into(), stream).await.unwrap();
        let request = format!(
            "GET /.well-known/plexus HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
    }
}
