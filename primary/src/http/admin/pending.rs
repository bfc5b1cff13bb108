//! What waits for the owner, and the owner's answer.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use plexus_shared::gate::constraint;
use plexus_shared::ids::{AgentId, PendingId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::plain;
use plexus_shared::model::trust::TrustWindow;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{fault, refuse};
use crate::extensions::ApproveError;
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::store::rows::{Ask, AskedExtension, AskedGrants, Matter, PendingRow, ShownExtension};
use crate::trust::narration::{PendingNarration, narrate_extension};
use crate::trust::{Answer, AnswerError, Preview, show as told};

/// Lists what waits, oldest first.
pub async fn list(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let waiting = services.trust.waiting();
    let item = |(row, told): &(_, Vec<_>)| show(row, told, &services.trust.preview(row));
    let pending: Vec<_> = waiting.iter().map(item).collect();
    axum::Json(json!({ "pending": pending }))
}

fn show(row: &PendingRow, told: &[PendingNarration], preview: &[Preview]) -> Value {
    let mut item = json!({
        "pendingId": row.id,
        "kind": row.matter.kind(),
        "state": row.state,
        "createdAt": row.created_at,
        "expiresAt": row.expires_at,
        "agentId": row.agent,
        "capabilities": row.capabilities(),
        "pendingNarration": told,
        "preview": {"grants": preview},
    });
    match &row.matter {
        Matter::Grant(asked) => show_grants(&mut item, asked),
        Matter::Register(asked) => show_extension(&mut item, &row.agent, asked),
    }
    item
}

fn show_grants(item: &mut Value, asked: &AskedGrants) {
    item["scopes"] = asked.asks.iter().map(scope).collect();
    item["reasons"] = asked.asks.iter().map(|ask| ask.reason.as_str()).collect();
    if let Some(input) = &asked.input {
        item["input"] = input.value.clone();
        item["inputDigest"] = json!(input.digest);
    }
    if let Some(bundle) = &asked.bundle {
        item["bundle"] = json!(bundle);
    }
    // The item's own window and purpose are those of its asks, when they all say the same.
    if let Some(window) = common(asked, |ask| ask.window.as_ref()) {
        item["requestedTrustWindow"] = json!(window);
    }
    if let Some(purpose) = common(asked, |ask| ask.purpose.as_ref()) {
        item["agentPurpose"] = json!(purpose);
    }
}

fn show_extension(item: &mut Value, agent: &AgentId, asked: &AskedExtension) {
    item["scopes"] = json!([]);
    item["reasons"] = json!(["an extension that an agent registers always waits for the owner"]);
    item["register"] = json!({"source": asked.source, "manifestDigest": asked.digest});
    if let Some(replaces) = &asked.replaces {
        item["register"]["replaces"] = json!(replaces);
    }
    if let Some(shown) = &asked.shown {
        let ShownExtension { manifest, preview, widens, problems } = shown.as_ref();
        let register = &mut item["register"];
        register["label"] = json!(preview.label);
        register["reach"] = json!(preview.reach);
        register["entries"] = json!(preview.entries);
        let [summary, line] = narrate_extension(agent, preview);
        register["summary"] = json!(summary);
        register["notificationLine"] = json!(line);
        register["widens"] = json!(widens);
        register["problems"] = json!(problems);
        register["manifest"] = plain::read(manifest.as_bytes()).unwrap_or_default();
    }
}

fn scope(ask: &Ask) -> Value {
    let mut scope = json!({"id": ask.id, "verbs": ask.verbs});
    if let Some(window) = &ask.window {
        scope["requestedTrustWindow"] = json!(window);
    }
    if let Some(purpose) = &ask.purpose {
        scope["agentPurpose"] = json!(purpose);
    }
    if let Some(constraint) = &ask.constraint {
        scope["constraint"] = json!(constraint);
    }
    scope
}

/// What everything in `asked` says alike.
fn common<'a, T: PartialEq>(
    asked: &'a AskedGrants,
    said: impl Fn(&'a Ask) -> Option<&'a T>,
) -> Option<&'a T> {
    let first = asked.asks.first().and_then(&said)?;
    asked.asks.iter().all(|ask| said(ask) == Some(first)).then_some(first)
}

/// The body of `POST pending/:id`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerRequest {
    action: Action,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    constraint: Option<Constraint>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Approve,
    Deny,
}

/// Takes the owner's answer; a second one is refused.
pub async fn answer(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
    Json(request): Json<AnswerRequest>,
) -> Result<axum::Json<Value>, Failure> {
    if let Some(constraint) = &request.constraint {
        constraint::check(constraint)
            .map_err(|why| super::bad_request(format!("constraint: {why}")))?;
    }
    let id: PendingId = id.parse().map_err(|_| not_taken(AnswerError::Unknown))?;
    let (answer, word) = match request.action {
        Action::Approve => (Answer::Approve(request.trust_window, request.constraint), "approve"),
        Action::Deny => (Answer::Deny(request.reason), "deny"),
    };
    let kind = if services.trust.registers(&id) { "register" } else { "grant" };
    let granted = match (kind, answer) {
        ("register", Answer::Approve(window, constraint)) => {
            as_shown(window.is_none() && constraint.is_none())?;
            services.extensions.approve(&id).await.map(|()| Vec::new()).map_err(refused)?
        }
        (_, answer) => services.trust.answer(&id, answer).await.map_err(not_taken)?,
    };
    let catalog = services.core.registry.catalog();
    let granted: Vec<_> = granted.iter().map(|grant| told(&catalog, grant)).collect();
    Ok(axum::Json(json!({"ok": true, "action": word, "kind": kind, "granted": granted})))
}

/// An extension is taken as it was shown, or not.
fn as_shown(plain: bool) -> Result<(), Failure> {
    let why = "an extension is approved as it is: it takes neither trustWindow nor constraint";
    plain.then_some(()).ok_or_else(|| super::bad_request(why))
}

fn refused(error: ApproveError) -> Failure {
    match error {
        ApproveError::Answer(error) => not_taken(error),
        ApproveError::Extension(error) => super::extensions::refused(error),
    }
}

fn not_taken(error: AnswerError) -> Failure {
    match error {
        AnswerError::Unknown => refuse(StatusCode::NOT_FOUND, Code::UnknownCapability, error),
        AnswerError::Settled(_) => conflict(&error, None),
        AnswerError::Changed { ref anew, .. } => conflict(&error, anew.clone()),
        AnswerError::Unfit(_) => super::bad_request(error),
        AnswerError::Change(_) => fault(error),
    }
}

/// The answer comes too late; `anew` asks for what it is now.
fn conflict(error: &AnswerError, anew: Option<PendingId>) -> Failure {
    let mut denial = Denial::new(Code::SchemaValidationFailed, error.to_string());
    denial.pending_id = anew;
    Failure::new(denial).with_status(StatusCode::CONFLICT)
}
