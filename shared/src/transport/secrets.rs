//! The owner's secrets, by name: read at dispatch, handed to the transport that declared them, wiped
//! after.

use zeroize::Zeroizing;

use crate::state_dir::StateDir;

/// The folder of secrets, one file each.
#[derive(Clone, Debug)]
pub struct SecretFiles(Option<StateDir>);

impl SecretFiles {
    /// The files in `folder`, which is `secrets/` of the state folder.
    pub const fn new(folder: StateDir) -> Self {
        Self(Some(folder))
    }

    /// No secrets at all.
    pub const fn none() -> Self {
        Self(None)
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
