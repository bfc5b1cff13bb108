//! Who holds what, and how each route is asked for.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use plexus_shared::audit::{EventType, tail};
use plexus_shared::transport::http::Method;
use plexus_tests::raw::{RawAnswer, raw_from};
use plexus_tests::{Agent, Primary, Stage};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const LIST: &str = "notes.file.list";

/// What opens a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Nothing,
    Code,
    PatOrKey,
    Session,
    SessionAlsoInBody,
    SessionOrKey,
    Token,
    TokenOrKey,
    TokenOrSession,
    Key,
}

/// Where a credential is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Bearer,
    SessionHeader,
    KeyHeader,
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pat,
    Session,
    Token,
    Code,
    Key,
}

pub(crate) const PLACES: [Place; 4] =
    [Place::Bearer, Place::SessionHeader, Place::KeyHeader, Place::Body];
pub(crate) const KINDS: [Kind; 5] = [Kind::Pat, Kind::Session, Kind::Token, Kind::Code, Kind::Key];

pub(crate) type Outcome = (u16, &'static str);

const EXPIRED: Outcome = (401, "session_expired");
const UNGRANTED: Outcome = (401, "grant_required");
const NOT_YOURS: Outcome = (403, "grant_required");
const NOT_LISTED: Outcome = (401, "token_revoked");

impl Door {
    /// Whether `kind`, shown at `place`, opens it.
    pub(crate) fn opens(self, place: Place, kind: Kind) -> bool {
        match self {
            Self::Nothing => true,
            Self::Code => (place, kind) == (Place::Body, Kind::Code),
            Self::PatOrKey => {
                [(Place::Bearer, Kind::Pat), (Place::Body, Kind::Key)].contains(&(place, kind))
            }
            Self::Session => (place, kind) == (Place::SessionHeader, Kind::Session),
            Self::SessionAlsoInBody => {
                [Place::SessionHeader, Place::Body].contains(&place) && kind == Kind::Session
            }
            Self::SessionOrKey => {
                let mine = [(Place::SessionHeader, Kind::Session), (Place::KeyHeader, Kind::Key)];
                mine.contains(&(place, kind))
            }
            // A token opens them for itself alone, and the one that is shown here is another.
            Self::Token => false,
            Self::TokenOrKey | Self::Key => (place, kind) == (Place::KeyHeader, Kind::Key),
            Self::TokenOrSession => {
                let mine = [(Place::Bearer, Kind::Token), (Place::SessionHeader, Kind::Session)];
                mine.contains(&(place, kind))
            }
        }
    }

    /// What it says to `kind` at `place` that does not open it; to nothing at all, where there is none.
    pub(crate) fn refuses(self, shown: Option<(Place, Kind)>) -> Outcome {
        match (self, shown) {
            (Self::Nothing, _) => (200, ""),
            (Self::Code, Some((Place::Body, Kind::Code))) => (401, "code_consumed"),
            (Self::Code, _) => (400, "malformed"),
            (Self::PatOrKey | Self::Session | Self::SessionAlsoInBody | Self::Key, _)
            | (Self::SessionOrKey, _) => EXPIRED,
            (Self::Token, _) => NOT_LISTED,
            (Self::TokenOrKey, _) => NOT_YOURS,
            // A dead agent's token is a token, and its session is over.
            (Self::TokenOrSession, Some((Place::Bearer, Kind::Token))) => EXPIRED,
            (Self::TokenOrSession, Some((Place::SessionHeader, _))) => EXPIRED,
            (Self::TokenOrSession, _) => UNGRANTED,
        }
    }

    /// The member of its body that may hold a credential.
    fn member(self) -> Option<&'static str> {
        match self {
            Self::Code => Some("code"),
            Self::PatOrKey => Some("connectionKey"),
            Self::SessionAlsoInBody => Some("sessionId"),
            _ => None,
        }
    }
}

/// The credentials of someone.
pub(crate) struct Hand {
    pat: String,
    session: String,
    token: String,
    code: String,
    key: String,
}

impl Hand {
    pub(crate) fn show(&self, kind: Kind) -> &str {
        match kind {
            Kind::Pat => &self.pat,
            Kind::Session => &self.session,
            Kind::Token => &self.token,
            Kind::Code => &self.code,
            Kind::Key => &self.key,
        }
    }
}

/// One route as it is asked for, with everything but the credential.
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) door: Door,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    /// What comes of another agent's; of the right one, a success.
    pub(crate) others: Outcome,
}

pub(crate) fn row(method: &'static str, route: &'static str, door: Door) -> Row {
    Row { method, route, door, path: route.to_owned(), body: None, others: (200, "") }
}

impl Row {
    fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn others(mut self, others: Outcome) -> Self {
        self.others = others;
        self
    }
}

pub(crate) struct World {
    stage: Stage,
    pub(crate) primary: Primary,
    pub(crate) ada: Hand,
    pub(crate) bob: Hand,
    /// Whoever was revoked: each credential was good once.
    pub(crate) gone: Hand,
    to_refresh: Value,
    to_revoke: Value,
    pending: String,
    bundle: String,
    asked: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (stage, mut primary) = Stage::shared().await;
        let key = primary.key.clone();
        let eve = hand(&primary, "eve").await;
        let redeemed = json!({"code": eve.code});
        primary.tell(Method::POST, "/agents/enroll", &[], &redeemed).await;
        let gone = Hand { key, ..eve };
        primary.post("agents/revoke", &json!({"agentId": "eve"})).await;
        let rotated = primary.post("key/rotate", &json!({})).await;
        rotated["connectionKey"].as_str().unwrap().clone_into(&mut primary.gateway.key);
        let (ada, bob) = (hand(&primary, "ada").await, hand(&primary, "bob").await);
        let agent =
            Agent { url: primary.url.clone(), pat: ada.pat.clone(), session: ada.session.clone() };
        let ask = async || agent.ask(&json!({READ: "allow"})).await.1;
        let (to_refresh, to_revoke) = (ask().await, ask().await);
        let asked = json!({"sessionId": ada.session, "grants": {LIST: "allow"},
            "bundle": {"name": "tidy up"}});
        let (status, said) = primary.tell(Method::PUT, "/grants", &[], &asked).await;
        assert_eq!(status, 200, "{said}");
        let bundles = primary.get("bundles").await;
        let bundle = bundles["bundles"][0]["bundleId"].as_str().unwrap().to_owned();
        let pending = agent.pending("notes.file.write", "write").await;
        let session = [("x-plexus-session", agent.session.as_str())];
        let mine = primary.tell(Method::POST, "/extensions", &session, &manifest("mine")).await.1;
        primary.approve(mine["pendingId"].as_str().unwrap(), None).await;
        let (asked, stage) = (0, stage);
        Self { stage, primary, ada, bob, gone, to_refresh, to_revoke, pending, bundle, asked }
    }

    /// Asks for `row` with these headers and this body. Each request comes from another address:
    /// guessing is counted by address, and is another test's matter.
    pub(crate) async fn ask(
        &mut self,
        row: &Row,
        headers: &str,
        body: Option<&Value>,
    ) -> RawAnswer {
        let host = self.primary.url.strip_prefix("http://").unwrap().to_owned();
        self.send(row, &format!("Host: {host}\r\n{headers}"), body).await
    }

    pub(crate) async fn send(
        &mut self,
        row: &Row,
        headers: &str,
        body: Option<&Value>,
    ) -> RawAnswer {
        self.asked += 1;
        let text = body.map(Value::to_string).unwrap_or_default();
        let kind = body.map_or("", |_| "Content-Type: application/json\r\n");
        let request = format!(
            "{} {} HTTP/1.1\r\n{headers}{kind}Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            row.method,
            row.path,
            text.len()
        );
        let from = Ipv4Addr::from(0x7f01_0000 + self.asked);
        let answer = raw_from(from, &self.primary.url, &request).await;
        if answer.status >= 400 {
            framed(row, &answer);
        }
        answer
    }

    /// Every route was asked for: there is an event of each type but those of other machines, and of
    /// the log itself.
    pub(crate) fn everything_is_recorded(&self) {
        let log = self.stage.path("home/audit");
        let events = tail(&log, None, usize::MAX, |_| true).unwrap();
        let missing = EventType::ALL.iter().filter(|known| {
            let is_there = events.iter().any(|event| event.event_type == **known);
            !is_there
        });
        let missing: Vec<_> = missing.map(|known| known.as_str()).collect();
        let elsewhere = ["mesh.enroll", "mesh.revoke", "mesh.connect", "mesh.disconnect"];
        assert_eq!(missing, [&elsewhere[..], &["audit.checkpoint"]].concat());
    }

    /// The headers and the body with which `row` is asked for by `credential` at `place`.
    pub(crate) fn shown(
        row: &Row,
        place: Place,
        credential: &str,
    ) -> Option<(String, Option<Value>)> {
        let header = match place {
            Place::Bearer => format!("Authorization: Bearer {credential}\r\n"),
            Place::SessionHeader => format!("X-Plexus-Session: {credential}\r\n"),
            Place::KeyHeader => format!("X-Plexus-Connection-Key: {credential}\r\n"),
            Place::Body => {
                let mut body = row.body.clone().unwrap_or_else(|| json!({}));
                body[row.door.member()?] = json!(credential);
                return Some((String::new(), Some(body)));
            }
        };
        Some((header, row.body.clone()))
    }

    /// The right credential for `row`, of whoever `hand` is.
    pub(crate) fn right(&self, row: &Row, hand: &Hand) -> (String, Option<Value>) {
        let (place, credential) = match row.door {
            Door::Nothing => return (String::new(), row.body.clone()),
            Door::Code => (Place::Body, hand.code.as_str()),
            Door::PatOrKey => (Place::Bearer, hand.pat.as_str()),
            Door::Session | Door::SessionAlsoInBody | Door::SessionOrKey => {
                (Place::SessionHeader, hand.session.as_str())
            }
            Door::TokenOrSession => (Place::Bearer, hand.token.as_str()),
            Door::Key => (Place::KeyHeader, self.primary.key.as_str()),
            Door::Token | Door::TokenOrKey => {
                let of = if row.door == Door::Token { &self.to_refresh } else { &self.to_revoke };
                let own = of["token"].as_str().unwrap();
                let theirs = hand.session != self.ada.session;
                (Place::Bearer, if theirs { hand.token.as_str() } else { own })
            }
        };
        Self::shown(row, place, credential).unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = self.agents_rows();
        rows.extend(self.owners_rows());
        rows
    }

    pub(crate) fn agents_rows(&self) -> Vec<Row> {
        let token = |of: &Value| json!({"sessionId": self.ada.session, "jti": of["jti"]});
        let status = format!("/grants/status?pendingId={}", self.pending);
        let context = format!("/grants/context?bundle={}", self.bundle);
        let call = json!({"id": READ, "input": {"path": "a.txt"}});
        vec![
            row("GET", "/.well-known/plexus", Door::Nothing),
            row("GET", "/admin", Door::Nothing),
            row("POST", "/link/handshake", Door::PatOrKey).body(json!({})),
            row("GET", "/manifest", Door::Session),
            row("GET", "/grants", Door::Session),
            row("PUT", "/grants", Door::SessionAlsoInBody).body(json!({"grants": {READ: "allow"}})),
            row("GET", "/grants/status", Door::SessionOrKey).at(status).others(NOT_YOURS),
            row("GET", "/grants/context", Door::Session).at(context).others(NOT_YOURS),
            row("GET", "/events", Door::Session),
            row("POST", "/invoke", Door::TokenOrSession).body(call).others(UNGRANTED),
            row("POST", "/grants/refresh", Door::Token)
                .body(token(&self.to_refresh))
                .others(NOT_LISTED),
            row("POST", "/grants/revoke", Door::TokenOrKey)
                .body(json!({"jti": self.to_revoke["jti"]}))
                .others(NOT_YOURS),
            row("POST", "/extensions", Door::SessionAlsoInBody).body(manifest("yours")),
            row("DELETE", "/extensions/{source}", Door::SessionOrKey)
                .at("/extensions/mine")
                .others((404, "unknown_capability")),
            // Last: it ends what the credential before it opened.
            row("POST", "/agents/enroll", Door::Code).body(json!({})),
        ]
    }

    /// In an order in which each of them succeeds: what is made before it is taken away.
    fn owners_rows(&self) -> Vec<Row> {
        let mut rows = self.sources_rows();
        rows.extend(self.other_rows());
        rows
    }

    fn sources_rows(&self) -> Vec<Row> {
        let folder = json!({"id": "more", "kind": "workspace",
            "config": {"path": self.stage.path("notes")}});
        vec![
            owner("GET", "/admin/api/sources"),
            owner("POST", "/admin/api/sources").body(folder),
            owner("POST", "/admin/api/sources/{id}/disable").at("/admin/api/sources/more/disable"),
            owner("POST", "/admin/api/sources/{id}/enable").at("/admin/api/sources/more/enable"),
            owner("POST", "/admin/api/sources/{id}/reconfigure")
                .at("/admin/api/sources/more/reconfigure")
                .body(json!({"config": {"path": self.stage.path("notes")}})),
            owner("DELETE", "/admin/api/sources/{id}").at("/admin/api/sources/more"),
            owner("POST", "/admin/api/secrets/{name}")
                .at("/admin/api/secrets/token")
                .body(json!({"value": "hunter22"})),
            owner("GET", "/admin/api/secrets"),
            owner("DELETE", "/admin/api/secrets/{name}").at("/admin/api/secrets/token"),
        ]
    }

    fn other_rows(&self) -> Vec<Row> {
        let manifest = manifest("desk");
        let pending = format!("/admin/api/pending/{}", self.pending);
        let bundle = format!("/admin/api/bundles/{}", self.bundle);
        vec![
            owner("POST", "/admin/api/agents/connect").body(json!({"agentId": "carl"})),
            owner("POST", "/admin/api/agents/revoke").body(json!({"agentId": "carl"})),
            owner("GET", "/admin/api/agents/enrollments"),
            owner("GET", "/admin/api/pending"),
            owner("POST", "/admin/api/pending/{id}").at(pending).body(json!({"action": "deny"})),
            owner("GET", "/admin/api/grants"),
            owner("PUT", "/admin/api/grants")
                .body(json!({"agentId": "bob", "grants": {LIST: ["read"]}})),
            owner("POST", "/admin/api/revoke")
                .body(json!({"agentId": "bob", "capabilityId": LIST})),
            owner("GET", "/admin/api/tokens"),
            owner("GET", "/admin/api/bundles"),
            owner("POST", "/admin/api/bundles")
                .body(json!({"name": "more", "agentId": "bob", "grants": {LIST: ["read"]}})),
            owner("DELETE", "/admin/api/bundles/{id}").at(bundle),
            owner("GET", "/admin/api/capabilities"),
            owner("GET", "/admin/api/exposure"),
            owner("PUT", "/admin/api/exposure").body(json!([])),
            owner("POST", "/admin/api/exposure/{*pattern}")
                .at("/admin/api/exposure/local/nas/notes.file.read")
                .body(json!({"enabled": true})),
            owner("GET", "/admin/api/extensions"),
            owner("POST", "/admin/api/extensions/preview").body(manifest.clone()),
            owner("POST", "/admin/api/extensions").body(manifest),
            owner("DELETE", "/admin/api/extensions/{source}").at("/admin/api/extensions/desk"),
            owner("GET", "/admin/api/mesh"),
            owner("POST", "/admin/api/mesh/invite").body(json!({"workload": "nas"})),
            owner("POST", "/admin/api/mesh/join-token").body(json!({"workload": "nas"})),
            owner("GET", "/admin/api/audit"),
            owner("GET", "/admin/api/audit/export"),
            owner("GET", "/admin/api/audit/verify"),
            owner("GET", "/admin/api/settings"),
            owner("PUT", "/admin/api/settings").body(json!({})),
            owner("GET", "/admin/api/network"),
            owner("POST", "/admin/api/network").body(json!({})),
            owner("GET", "/admin/api/health"),
            owner("GET", "/admin/api/doctor"),
            owner("GET", "/admin/api/status"),
            owner("GET", "/admin/api/events"),
            owner("POST", "/admin/api/panic"),
            owner("POST", "/admin/api/resume"),
            owner("POST", "/admin/api/key/rotate"),
        ]
    }
}

fn owner(method: &'static str, route: &'static str) -> Row {
    row(method, route, Door::Key)
}

/// An extension called `source`.
fn manifest(source: &str) -> Value {
    json!({"manifest": {
        "manifest": "plexus-extension/0.1", "source": source, "label": "Desk",
        "transport": "workflow", "allowCrossSource": true,
        "capabilities": [{"name": "note.look", "kind": "workflow", "label": "Look",
            "describe": "Looks.", "grants": ["read"],
            "members": [{"id": READ, "verbs": ["read"]}]}],
    }})
}

/// An agent that has used all it was given but the second code, with a token to list and read.
async fn hand(primary: &Primary, name: &str) -> Hand {
    let agent = primary.agent(name, &[]).await;
    let token = agent.token(if name == "bob" { LIST } else { READ }).await;
    let again = json!({ "agentId": name });
    let code = primary.post("agents/connect", &again).await["code"].as_str().unwrap().to_owned();
    Hand { pat: agent.pat, session: agent.session, token, code, key: primary.key.clone() }
}

/// A refusal has its endpoint's shape: these members, and no other.
fn framed(row: &Row, answer: &RawAnswer) {
    let of = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap_or_else(|| panic!("{answer:?}")).keys().cloned().collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (body, error) = (&answer.body, &answer.body["error"]);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    match row.route {
        "/invoke" => {
            assert_eq!(of(body), set(&["id", "ok", "error", "auditId"]), "{answer:?}");
            assert_eq!(body["ok"], false);
        }
        "/agents/enroll" => {
            assert_eq!((of(body), of(error)), (set(&["error"]), set(&["code", "message"])));
        }
        _ => assert_eq!(of(body), set(&["error"]), "{answer:?}"),
    }
    let known: BTreeSet<String> = set(&[
        "code",
        "message",
        "capabilityId",
        "detail",
        "pendingId",
        "approvalUrl",
        "grantStatusUrl",
        "grantRequestUrl",
        "sessionHeader",
        "unavailableSince",
    ]);
    assert!(of(error).is_subset(&known), "{answer:?}");
}
