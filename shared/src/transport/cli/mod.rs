//! A named binary, run for the call: no shell, no path of the caller's, no environment but what was
//! declared, no life beyond the call.
//!
//! 1. [`Route::read`]: what a manifest says of the command, checked.
//! 2. [`Cli::new`]: the binary found, once, when its source is registered.
//! 3. The call: the arguments filled from the input, the child run in a process group of its own that
//!    ends with the call, its output bounded.
//!
//! What an attacker would try: an option in a value, a second argument, an interpreter as a harmless
//! binary, a loader variable, a child that stays, output without end, a secret in what comes back.

pub mod argv;
pub mod binary;
pub mod environment;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use zeroize::Zeroizing;

use self::argv::Template;
use self::environment::Host;
use super::child::{Finished, Job, JobError};
use super::secrets::SecretFiles;
use crate::admit::Permit;
use crate::model::denial::{Code, Denial};
use crate::model::outcome::{Outcome, Output};
use crate::redact::{REDACTED, Secrets};

/// How long a command may take when its route says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest a route may ask for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// The most a command may print.
pub const MAX_OUTPUT: usize = 10 << 20;
/// How much of a failed command's complaints is told.
const STDERR_TAIL: usize = 2 << 10;

/// What becomes of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `{stdout, exitCode}`.
    #[default]
    Text,
    /// What it printed is the output.
    Json,
}

/// A command as a manifest describes it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The binary's bare name.
    pub bin: String,
    /// Its arguments.
    pub argv: Template,
    /// Variables it gets from the gateway's own environment.
    pub env: Vec<String>,
    /// Secrets it gets: the variable, and the secret's name.
    pub secrets: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Duration,
    /// What becomes of its output.
    pub shape: Shape,
}

/// A command, ready to be run.
#[derive(Clone, Debug)]
pub struct Cli {
    route: Route,
    path: PathBuf,
    env: Vec<(OsString, OsString)>,
    store: SecretFiles,
}

/// The secrets of one call, by the variable that carries each.
#[derive(Default)]
pub struct Attached(Vec<(String, Zeroizing<String>)>);

impl Attached {
    /// What must not be seen of the call.
    pub fn redaction(&self) -> Secrets {
        self.0.iter().map(|(_, value)| value.as_str()).collect()
    }
}

impl Cli {
    /// The command of `route`, found on this machine.
    ///
    /// # Errors
    /// Why it can't be used, for the owner.
    pub fn new(route: Route, host: &Host, store: SecretFiles) -> Result<Self, String> {
        let path = binary::resolve(&route.bin, host.path())?;
        let env = host.of(&route.env);
        Ok(Self { route, path, env, store })
    }

    /// The secrets of one call.
    ///
    /// # Errors
    /// `source_unavailable` when the owner has not put one of them.
    pub(super) fn attach(&self) -> Result<Attached, Denial> {
        let value = |(variable, name): &(String, String)| match self.store.value(name) {
            Some(value) => Ok((variable.clone(), value)),
            None => {
                let message = format!("the secret {name} is not set; the owner must put it first");
                Err(Denial::new(Code::SourceUnavailable, message))
            }
        };
        self.route.secrets.iter().map(value).collect::<Result<_, _>>().map(Attached)
    }

    /// The values of those that are there, to be hidden.
    pub(super) fn hides(&self) -> Secrets {
        let values = self.route.secrets.iter().filter_map(|(_, name)| self.store.value(name));
        let mut hidden = Secrets::new();
        values.for_each(|value| hidden.add(&value));
        hidden
    }

    pub(super) async fn dispatch(&self, permit: &Permit, attached: &Attached) -> Outcome {
        let id = permit.target().definition.id.as_str();
        let refuse = |message: String| Denial::new(Code::SchemaValidationFailed, message).about(id);
        let unreadable = || refuse("the input can't be read".into());
        let input = permit.input().value().ok_or_else(unreadable)?;
        let args = self.route.argv.fill(input).map_err(|error| refuse(error.to_string()))?;
        let finished = self.job(args, attached).run(self.route.timeout, MAX_OUTPUT).await;
        self.outcome(finished, attached).map_err(|denial| denial.about(id))
    }

    fn job(&self, args: Vec<String>, attached: &Attached) -> Job {
        let secrets = attached.0.iter().map(|(name, value)| (name.into(), value.as_str().into()));
        Job {
            path: self.path.clone(),
            name: self.route.bin.clone(),
            args: args.into_iter().map(OsString::from).collect(),
            env: self.env.iter().cloned().chain(secrets).collect(),
        }
    }

    fn outcome(&self, finished: Result<Finished, JobError>, attached: &Attached) -> Outcome {
        let bin = &self.route.bin;
        let fail = |message: String, detail| {
            Denial::new(Code::TransportError, message).with_detail(detail)
        };
        let finished = finished.map_err(|error| match error {
            JobError::Start => fail(format!("{bin} can't be started"), json!({"reason": "start"})),
            JobError::Slow => fail(
                format!(
                    "{bin} took longer than {} s and was stopped",
                    self.route.timeout.as_secs()
                ),
                json!({"reason": "timeout", "outcome": "unknown"}),
            ),
            JobError::Overflow => fail(
                format!("{bin} printed more than {} MiB and was stopped", MAX_OUTPUT >> 20),
                json!({"reason": "output", "outcome": "unknown"}),
            ),
        })?;
        let code = finished.status.code();
        if !finished.status.success() {
            let stderr = self.cleaned(&finished.stderr, attached);
            let start = stderr.ceil_char_boundary(stderr.len().saturating_sub(STDERR_TAIL));
            let detail = json!({"reason": "exit", "exitCode": code, "stderr": stderr.get(start..)});
            return Err(fail(format!("{bin} failed"), detail));
        }
        let stdout = hidden(&finished.stdout, attached);
        let read = match self.route.shape {
            Shape::Text => to_raw_value(&json!({"stdout": stdout, "exitCode": code})),
            Shape::Json => RawValue::from_string(stdout.trim().to_owned()),
        };
        let message = || format!("{bin} printed something that is not JSON");
        read.map(Output::Json).map_err(|_| fail(message(), json!({"reason": "output"})))
    }

    /// What a command complained of, without secrets, values of variables or this machine's paths.
    fn cleaned(&self, bytes: &[u8], attached: &Attached) -> String {
        let mut text = hidden(bytes, attached);
        let values =
            self.env.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        for (name, value) in values.filter(|(_, value)| value.len() >= 4) {
            text = text.replace(value, if name == "HOME" { "~" } else { REDACTED });
        }
        match self.path.parent().and_then(Path::to_str) {
            Some(folder) if folder.len() > 1 => text.replace(&format!("{folder}/"), ""),
            _ => text,
        }
    }
}

/// Text without the call's secrets.
fn hidden(bytes: &[u8], attached: &Attached) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let mut secrets: Vec<_> = attached.0.iter().filter(|(_, value)| value.len() >= 4).collect();
    // The longest first: one may be a part of another.
    secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    for (_, value) in secrets {
        text = text.replace(value.as_str(), REDACTED);
        let escaped = serde_json::to_string(value.as_str()).unwrap_or_default();
        text = text.replace(escaped.trim_matches('"'), REDACTED);
    }
    text
}

#[cfg(all(test, unix))]
mod tests;
