//! A workflow: other capabilities, called in order, each through the same gates as any call.
//!
//! 1. A step's input is made: of the workflow's own, of what earlier steps gave, of what the manifest
//!    says.
//! 2. The member is called through [`Reinvoke`], which is the pipeline: a token that was revoked in the
//!    meantime ends the run here.
//! 3. The first step that fails ends the run; the answer says which ran.
//!
//! Steps that need nothing of each other run together when the manifest says so. Dropping the run drops
//! the step under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::admit::Permit;
use crate::admit::authority::Authority;
use crate::ids::CapabilityId;
use crate::invoke::Call;
use crate::model::denial::{Code, Denial};
use crate::model::input::Input;
use crate::model::outcome::{Outcome, Output, Reply};
use crate::model::plain;

/// How many workflows may run within one another.
pub const MAX_DEPTH: u8 = 4;
/// The most that the steps of one run may give together, in bytes.
const MAX_OUTPUT: usize = 16 << 20;

/// A call on its way through the pipeline again.
pub type Reinvoked<'a> = Pin<Box<dyn Future<Output = Reply> + Send + 'a>>;

/// The pipeline, as a workflow's run sees it.
pub trait Reinvoke: Send + Sync {
    /// Runs one call through every gate. Dropping the future cancels it.
    fn reinvoke(&self, authority: Authority, call: Call) -> Reinvoked<'_>;
}

/// Where workflows find the pipeline they run in. The pipeline holds the registry, which holds the
/// workflows: so they hold it weakly, and are told of it once it stands.
#[derive(Clone, Default)]
pub struct Reentry(Arc<OnceLock<Weak<dyn Reinvoke>>>);

impl Reentry {
    /// Members are called through `pipeline` from now on; the first to be bound stays.
    pub fn bind<P: Reinvoke + 'static>(&self, pipeline: &Arc<P>) {
        let weak: Weak<P> = Arc::downgrade(pipeline);
        // Bound before: it stays.
        let _ = self.0.set(weak);
    }

    fn pipeline(&self) -> Option<Arc<dyn Reinvoke>> {
        self.0.get()?.upgrade()
    }
}

impl std::fmt::Debug for Reentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reentry(…)")
    }
}

/// Where a member of a step's input comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Feed {
    /// The manifest itself.
    Literal(Value),
    /// What an earlier step gave, at a JSON pointer.
    Step(usize, String),
    /// The workflow's own input, at a JSON pointer.
    Input(String),
}

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is called.
    pub member: CapabilityId,
    /// With which input; the workflow's own when nothing is said.
    pub input: Option<Vec<(String, Feed)>>,
}

impl Step {
    /// The steps it needs something of.
    pub fn needs(&self) -> impl Iterator<Item = usize> {
        self.input.iter().flatten().filter_map(|(_, from)| match from {
            Feed::Step(index, _) => Some(*index),
            Feed::Literal(_) | Feed::Input(_) => None,
        })
    }
}

/// A workflow, ready to be run.
#[derive(Clone, Debug)]
pub struct Workflow {
    steps: Arc<[Step]>,
    parallel: bool,
    reentry: Reentry,
}

/// A step that ran.
struct Ran {
    index: usize,
    reply: Reply,
}

impl Workflow {
    /// The workflow of `steps`, each needing only earlier ones.
    pub fn new(steps: Vec<Step>, parallel: bool, reentry: Reentry) -> Self {
        Self { steps: steps.into(), parallel, reentry }
    }

    pub(super) async fn dispatch(&self, permit: &Permit) -> Outcome {
        let id = permit.target().definition.id.as_str();
        let authority = Authority::of_member(permit);
        if authority.depth() > MAX_DEPTH {
            let message = format!("workflows run at most {MAX_DEPTH} deep in one another");
            return Err(Denial::new(Code::TransportError, message).about(id));
        }
        let gone = || Denial::internal("the gateway is stopping").about(id);
        let pipeline = self.reentry.pipeline().ok_or_else(gone)?;
        let end = Instant::now() + permit.deadline();
        let mut ran: Vec<Option<Ran>> = self.steps.iter().map(|_| None).collect();
        loop {
            let next = self.next(&ran);
            if next.is_empty() {
                break;
            }
            let mut calls: Vec<Pin<Box<dyn Future<Output = Ran> + Send + '_>>> = Vec::new();
            for index in next {
                let input = self.input(index, permit, &ran);
                let pipeline = &pipeline;
                let authority = authority.clone();
                calls.push(Box::pin(async move {
                    let id = self.steps[index].member.as_str().to_owned();
                    let reply = match input {
                        Err(denial) => Reply::edge(id, denial),
                        Ok(input) => {
                            let left = end.saturating_duration_since(Instant::now());
                            let call = member_call(id, input, permit, left);
                            pipeline.reinvoke(authority, call).await
                        }
                    };
                    Ran { index, reply }
                }));
            }
            for done in together(calls).await {
                let index = done.index;
                ran[index] = Some(done);
            }
            if let Some(failed) = failure(&ran).or_else(|| too_much(&ran)) {
                return Err(failed.about(id));
            }
        }
        gathered(&ran).map_err(|denial| denial.about(id))
    }

    /// The steps that can run now: the next one, or all that need nothing that is not there.
    fn next(&self, ran: &[Option<Ran>]) -> Vec<usize> {
        let done = |index: usize| ran.get(index).is_some_and(Option::is_some);
        let ready = |index: &usize| !done(*index) && self.steps[*index].needs().all(done);
        let ready = (0..self.steps.len()).filter(ready);
        if self.parallel { ready.collect() } else { ready.take(1).collect() }
    }

    fn input(&self, index: usize, permit: &Permit, ran: &[Option<Ran>]) -> Result<Input, Denial> {
        let Some(fields) = &self.steps[index].input else {
            return Ok(Input::new(permit.input().raw().to_owned()));
        };
        let mut input = Map::new();
        for (name, from) in fields {
            let value = match from {
                Feed::Literal(value) => Some(value.clone()),
                Feed::Input(pointer) => {
                    permit.input().value().and_then(|v| v.pointer(pointer)).cloned()
                }
                Feed::Step(index, pointer) => ran
                    .get(*index)
                    .and_then(|ran| raw(&ran.as_ref()?.reply))
                    .and_then(|raw| plain::read(raw.get().as_bytes()).ok())
                    .and_then(|value| value.pointer(pointer).cloned()),
            };
            let missing = || {
                let message = format!("there is nothing where the input {name} should come from");
                Denial::new(Code::SchemaValidationFailed, message)
            };
            input.insert(name.clone(), value.ok_or_else(missing)?);
        }
        let unwritable = |_| Denial::internal("an input can't be written");
        to_raw_value(&input).map(Input::new).map_err(unwritable)
    }
}

fn member_call(id: String, input: Input, permit: &Permit, left: Duration) -> Call {
    let correlation = permit.correlation().clone();
    Call { id, input, correlation, idempotency_key: None, deadline: left }
}

fn raw(reply: &Reply) -> Option<&RawValue> {
    match &reply.outcome {
        Ok(Output::Json(raw) | Output::Mcp(raw)) => Some(raw),
        Err(_) => None,
    }
}

/// What ends the run, if anything does.
fn failure(all: &[Option<Ran>]) -> Option<Denial> {
    let mut ran = all.iter().flatten().map(|ran| &ran.reply);
    let (id, denial) = ran.find_map(|reply| Some((&reply.id, reply.outcome.as_ref().err()?)))?;
    let detail = json!({"steps": steps(all), "failed": id, "code": denial.code.as_str()});
    let message = format!("the step {id} failed, and nothing after it ran: {}", denial.message);
    Some(Denial::new(Code::TransportError, message).with_detail(detail))
}

/// Ends the run when the steps gave more than can be answered.
fn too_much(all: &[Option<Ran>]) -> Option<Denial> {
    let given = |ran: &Ran| raw(&ran.reply).map_or(0, |raw| raw.get().len());
    if all.iter().flatten().map(given).sum::<usize>() <= MAX_OUTPUT {
        return None;
    }
    let message = "together the steps gave more than can be answered, and nothing after them ran";
    let detail = json!({"steps": steps(all), "reason": "output"});
    Some(Denial::new(Code::TransportError, message).with_detail(detail))
}

/// Which steps ran, and how.
fn steps(all: &[Option<Ran>]) -> Vec<Value> {
    let step = |ran: &Ran| {
        let Reply { id, outcome, audit_id, .. } = &ran.reply;
        json!({"id": id, "ok": outcome.is_ok(), "auditId": audit_id})
    };
    all.iter().flatten().map(step).collect()
}

/// What the steps gave, in order.
fn gathered(ran: &[Option<Ran>]) -> Outcome {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Done<'a> {
        id: &'a str,
        output: Option<&'a RawValue>,
        audit_id: Option<&'a crate::ids::EventId>,
    }
    let steps: Vec<_> = ran
        .iter()
        .flatten()
        .map(|Ran { reply, .. }| Done {
            id: &reply.id,
            output: raw(reply),
            audit_id: reply.audit_id.as_ref(),
        })
        .collect();
    let unwritable = |_| Denial::internal("an answer can't be written");
    #[derive(serde::Serialize)]
    struct Answer<'a> {
        steps: Vec<Done<'a>>,
    }
    to_raw_value(&Answer { steps }).map(Output::Json).map_err(unwritable)
}

/// Runs `futures` together, to the end of each.
async fn together<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut done = Vec::with_capacity(futures.len());
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(value) => {
                done.push(value);
                false
            }
            Poll::Pending => true,
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

#[cfg(all(test, unix))]
mod tests;
