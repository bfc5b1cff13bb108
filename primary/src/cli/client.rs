//! The command line's way to the running gateway: `runtime.json` says where, the key file says who.
//!
//! What an attacker would try: wait until a gateway dies without tidying up, listen on its port, and be
//! handed the owner's key. So the key is sent only while a gateway holds the state folder's lock.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use plexus_shared::model::plain;
use plexus_shared::state_dir::{StateDir, StateDirError};
use plexus_shared::transport::http::{Ask, HttpError, Lines, Streamed, exchange, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Exit;
use crate::config::{CONNECTION_KEY, RUNTIME, Runtime, home};

const DEADLINE: Duration = Duration::from_secs(120);

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// There is no home folder.
    #[error("there is no home folder; set PLEXUS_HOME to the folder of Plexus' state")]
    NoHome,
    /// No gateway has run there, or it has stopped.
    #[error("no gateway is running in {}; start one with `plexus serve`", .0.display())]
    NotRunning(PathBuf),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// A file of the state folder is not what a gateway writes.
    #[error("{} is damaged; restart the gateway", .0.display())]
    Damaged(PathBuf),
    /// The gateway does not answer.
    #[error("{0}; is the gateway still running? start it with `plexus serve`")]
    Http(#[from] HttpError),
    /// It does not take the key.
    #[error(
        "the gateway does not take the key in {CONNECTION_KEY}; restart it to make it read the file again"
    )]
    WrongKey,
    /// It refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code.
        code: String,
        /// In words.
        message: String,
        /// What a program can read of it.
        detail: Option<Box<Value>>,
    },
    /// It answered with something else than this version understands.
    #[error("the gateway answered with something this version does not understand: {0}")]
    Answer(String),
}

impl ClientError {
    /// What a program is told.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::NoHome => "usage",
            Self::NotRunning(_) => "not_running",
            Self::Http(_) => "unreachable",
            Self::State(_) | Self::Damaged(_) => "integrity",
            Self::WrongKey => "wrong_key",
            Self::Refused { code, .. } => code,
            Self::Answer(_) => "failed",
        }
    }

    /// What a program can read of it.
    pub(super) fn detail(&self) -> Option<&Value> {
        match self {
            Self::Refused { detail, .. } => detail.as_deref(),
            _ => None,
        }
    }

    /// What a command that failed so ends with.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NoHome => Exit::Usage,
            Self::NotRunning(_) | Self::Http(_) => Exit::Unreachable,
            Self::State(_) | Self::Damaged(_) => Exit::Integrity,
            Self::Refused { status: 400 | 404 | 409 | 422, .. } => Exit::Usage,
            Self::WrongKey | Self::Refused { status: 403, .. } => Exit::Denied,
            Self::Refused { .. } | Self::Answer(_) => Exit::Failed,
        }
    }
}

/// The owner's client of a running gateway.
pub(super) struct Client {
    base: String,
    key: String,
}

impl Client {
    /// Finds the gateway of the owner's state folder.
    pub(super) fn find() -> Result<Self, ClientError> {
        Self::of(&home().ok_or(ClientError::NoHome)?)
    }

    /// Finds the gateway of the state folder `home`.
    pub(super) fn of(home: &Path) -> Result<Self, ClientError> {
        let absent = || ClientError::NotRunning(home.to_owned());
        if !home.is_dir() {
            return Err(absent());
        }
        let state = StateDir::open(home)?;
        let runtime = state.read(RUNTIME)?.ok_or_else(absent)?;
        if !is_held(&state) {
            return Err(absent());
        }
        let runtime: Runtime = serde_json::from_slice(&runtime)
            .map_err(|_| ClientError::Damaged(state.join(RUNTIME)))?;
        let key = state.read(CONNECTION_KEY)?.ok_or_else(absent)?;
        let key =
            String::from_utf8(key).map_err(|_| ClientError::Damaged(state.join(CONNECTION_KEY)))?;
        Ok(Self { base: runtime.base_url, key: key.trim_end().to_owned() })
    }

    /// Reads `path` of the owner's plane.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None).await
    }

    /// Reads `path` of the owner's plane, as a `T` that holds no [`Value`].
    pub(super) async fn get_as<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.answer(Method::GET, path, None).await?;
        serde_json::from_slice(&answer).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// Reads the list `member` of what is at `path` of the owner's plane: its items, and the whole answer.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        member: &str,
    ) -> Result<(Vec<T>, Value), ClientError> {
        let data = self.get(path).await?;
        Ok((read(&data[member])?, data))
    }

    /// Posts `body` to `path` of the owner's plane.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(written(body)?)).await
    }

    /// Puts `body` at `path` of the owner's plane.
    pub(super) async fn put(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, ClientError> {
        self.ask(Method::PUT, path, Some(written(body)?)).await
    }

    /// Deletes `path` of the owner's plane.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::DELETE, path, None).await
    }

    /// Listens to what happens, from now on.
    pub(super) async fn listen(&self) -> Result<Lines, ClientError> {
        let ask = Ask::get("/admin/api/events").header("x-plexus-connection-key", &self.key);
        match stream(&self.base, ask, DEADLINE).await? {
            Streamed::Lines(lines) => Ok(lines),
            Streamed::Refused(answer) => Err(refused(answer.status.as_u16(), &answer.body)),
        }
    }

    /// What agents sent is in what the gateway answers: it is read as it stands.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Value, ClientError> {
        let answer = self.answer(method, path, body).await?;
        plain::read(&answer).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, ClientError> {
        let path = format!("/admin/api/{path}");
        let ask = Ask { method, body, ..Ask::get(&path) };
        let ask = ask.header("x-plexus-connection-key", &self.key);
        let answer = exchange(&self.base, ask, DEADLINE).await?;
        if !answer.status.is_success() {
            return Err(refused(answer.status.as_u16(), &answer.body));
        }
        Ok(answer.body)
    }
}

/// Whether a gateway has the state folder now.
fn is_held(state: &StateDir) -> bool {
    let Ok(lock) = File::open(state.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|error| ClientError::Answer(error.to_string()))
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    if status == 401 {
        return ClientError::WrongKey;
    }
    let body = plain::read(body).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().map(ToOwned::to_owned);
    let code = text("code").unwrap_or_else(|| "unknown".to_owned());
    let message = text("message").unwrap_or_else(|| format!("the gateway refused ({status})"));
    let detail = body["error"].get("detail").cloned().map(Box::new);
    ClientError::Refused { status, code, message, detail }
}

/// Reads what the gateway answered as the part of it a command needs.
pub(super) fn read<'a, T: Deserialize<'a>>(answer: &'a Value) -> Result<T, ClientError> {
    T::deserialize(answer).map_err(|error| ClientError::Answer(error.to_string()))
}

/// `text` as one segment of a path, or one value of a query.
pub(super) fn segment(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
