//! The owner's secrets, by name: put by the owner, read at dispatch, handed to the transport that
//! declared them, wiped after. Nothing else ever reads a value, and nobody is shown one.

use std::time::UNIX_EPOCH;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::redact::SHORTEST_SECRET;
use crate::state_dir::{StateDir, StateDirError};

/// The longest value, in bytes: what fits into a variable.
pub const MAX_VALUE: usize = 64 << 10;
/// The most secrets.
pub const MAX_SECRETS: usize = 1000;

/// Why a secret was not put or removed. Its value is in none of these words.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The name can't be one.
    #[error("a secret's name is 1 to 64 letters, digits, -, _ or ., and does not begin with a dot")]
    Name,
    /// The value can't be one.
    #[error(
        "a secret is a text of {SHORTEST_SECRET} to {MAX_VALUE} bytes, without control characters \
         but tabs and ends of lines; a shorter one could not be kept out of the log"
    )]
    Value,
    /// There are too many.
    #[error("there are {MAX_SECRETS} secrets already; remove one first")]
    Full,
    /// There is none.
    #[error("there is no secret called {0}")]
    Unknown(String),
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] StateDirError),
}

/// A secret, for the owner; never its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// When it was put.
    pub updated_at: Timestamp,
}

/// The folder of secrets, one file each.
#[derive(Clone, Debug)]
pub struct SecretFiles(Option<StateDir>);

impl SecretFiles {
    /// The files in `folder`, which is `secrets/` of the state folder of this very process; what a
    /// killed one left half written is gone then.
    ///
    /// # Errors
    /// When the folder can't be used.
    pub fn open(folder: StateDir) -> Result<Self, StateDirError> {
        let path = folder.path().to_owned();
        folder.sweep().map_err(|source| StateDirError::Io { path, source })?;
        Ok(Self(Some(folder)))
    }

    /// No secrets at all.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether `name` could be put with `value` now; its last line's end does not count.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn check(&self, name: &str, value: &str) -> Result<(), SecretError> {
        if !is_name(name) {
            return Err(SecretError::Name);
        }
        let value = value.trim_end_matches(['\r', '\n']);
        let sized = (SHORTEST_SECRET..=MAX_VALUE).contains(&value.len());
        let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
        if !sized || value.chars().any(odd) {
            return Err(SecretError::Value);
        }
        let known = self.list()?;
        let full = known.len() >= MAX_SECRETS && known.iter().all(|secret| secret.name != name);
        if full { Err(SecretError::Full) } else { Ok(()) }
    }

    /// Puts `name`, in place of what it was. Calls that begin after this get the new value.
    ///
    /// # Errors
    /// See [`SecretError`]; the old value is still there then.
    pub fn put(&self, name: &str, value: &str) -> Result<(), SecretError> {
        self.check(name, value)?;
        let value = value.trim_end_matches(['\r', '\n']);
        match &self.0 {
            Some(folder) => Ok(folder.write(name, value.as_bytes())?),
            None => Err(SecretError::Full),
        }
    }

    /// Removes `name`.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn remove(&self, name: &str) -> Result<(), SecretError> {
        let known = self.list()?.iter().any(|secret| secret.name == name);
        match &self.0 {
            Some(folder) if known => Ok(folder.remove(name)?),
            _ => Err(SecretError::Unknown(name.chars().take(64).collect())),
        }
    }

    /// Every secret, by name.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn list(&self) -> Result<Vec<SecretView>, SecretError> {
        let Some(folder) = &self.0 else { return Ok(Vec::new()) };
        let named = folder.files()?.into_iter().filter(|(name, _)| is_name(name));
        let view = |(name, at): (String, std::time::SystemTime)| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let updated_at = Timestamp::from_millis(i64::try_from(since).unwrap_or(i64::MAX));
            SecretView { name, updated_at }
        };
        Ok(named.map(view).collect())
    }

    /// The value of `name`, without its last line's end; `None` when the owner has put none, or it
    /// can't be read.
    pub fn value(&self, name: &str) -> Option<Zeroizing<String>> {
        if !is_name(name) {
            return None;
        }
        let read = self.0.as_ref()?.read(name);
        let bytes =
            read.inspect_err(|error| tracing::warn!(%error, "a secret can't be read")).ok()?;
        let bytes = Zeroizing::new(bytes?);
        let text = std::str::from_utf8(&bytes).ok()?.trim_end_matches(['\r', '\n']);
        (!text.is_empty() && !text.contains('\0')).then(|| Zeroizing::new(text.to_owned()))
    }
}

/// Whether `name` can be a secret's: 1 to 64 letters, digits, `-`, `_`, `.`, no dot first.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
