//! What a proxy keeps: its key, and which primary it joined.
//!
//! `identity.key` is the node's seed in hex; `joined.json` is the primary's key and the addresses it
//! may be at. Neither says what this proxy is called: a proxy does not know its name, so that there is
//! nothing here that could disagree with the primary's records. The audit log is in `audit/`.
//!
//! One process at a time has the folder.

use std::path::Path;

use plexus_mesh_proto::identity::{NodeKey, PublicKey};
use plexus_mesh_proto::limits;
use plexus_mesh_proto::ticket::Candidate;
use plexus_shared::secret;
use plexus_shared::state_dir::{StateDir, StateDirError, StateLock};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where the state is when nothing else is said.
pub const DEFAULT_DIR: &str = "/var/lib/plexus-proxy";

const KEY_FILE: &str = "identity.key";
const JOINED_FILE: &str = "joined.json";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or a file in it.
    #[error(transparent)]
    Dir(#[from] StateDirError),
    /// The key is not one.
    #[error(
        "{0} is damaged: it is not a node's key; restore it from a backup, or remove it and join \
         again with a new ticket"
    )]
    DamagedKey(String),
    /// What was joined can't be read.
    #[error("{file} is damaged ({why}); join again with a new ticket")]
    DamagedJoin {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// No primary was joined.
    #[error(
        "this node has not joined a primary; run `plexus-proxy join --ticket-file -` with the ticket \
         that `plexus mesh invite` printed"
    )]
    NotJoined,
}

/// The primary this node joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The key to demand of whoever answers.
    pub primary_key: PublicKey,
    /// Where it may be; at least one.
    pub addresses: Vec<Candidate>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinedFile {
    primary_key: String,
    addresses: Vec<Candidate>,
}

/// The state folder, this process's alone.
#[derive(Debug)]
pub struct State {
    dir: StateDir,
    _lock: StateLock,
}

impl State {
    /// Opens the folder at `path`, made when absent, and takes it for this process.
    ///
    /// # Errors
    /// When the folder is not private to us, or another process has it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let dir = StateDir::open(path)?;
        let lock = dir.lock()?;
        Ok(Self { dir, _lock: lock })
    }

    /// The node's key, made when there is none.
    ///
    /// # Errors
    /// When the file is damaged, or can't be read or written.
    pub fn node_key(&self) -> Result<NodeKey, StateError> {
        let damaged = |_| StateError::DamagedKey(self.path_of(KEY_FILE));
        if let Some(bytes) = self.dir.read(KEY_FILE)?.map(Zeroizing::new) {
            let hex = str::from_utf8(&bytes).unwrap_or_default();
            return NodeKey::from_seed_hex(hex.trim_ascii()).map_err(damaged);
        }
        let key = NodeKey::from_seed(Zeroizing::new(secret::random())).map_err(damaged)?;
        let mut line = key.seed_hex();
        line.push('\n');
        self.dir.write(KEY_FILE, line.as_bytes())?;
        Ok(key)
    }

    /// The primary that was joined.
    ///
    /// # Errors
    /// When none was, or the file is damaged.
    pub fn joined(&self) -> Result<Joined, StateError> {
        let bytes = self.dir.read(JOINED_FILE)?.ok_or(StateError::NotJoined)?;
        let damaged = |why: &dyn std::fmt::Display| StateError::DamagedJoin {
            file: self.path_of(JOINED_FILE),
            why: why.to_string(),
        };
        let file: JoinedFile = serde_json::from_slice(&bytes).map_err(|why| damaged(&why))?;
        let primary_key = file.primary_key.parse().map_err(|why| damaged(&why))?;
        if !(1..=limits::CANDIDATES).contains(&file.addresses.len()) {
            return Err(damaged(&"it has no address, or too many"));
        }
        Ok(Joined { primary_key, addresses: file.addresses })
    }

    /// Keeps which primary was joined, in place of any before.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn keep_joined(&self, joined: &Joined) -> Result<(), StateError> {
        let file = JoinedFile {
            primary_key: joined.primary_key.to_string(),
            addresses: joined.addresses.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|why| {
            StateError::DamagedJoin { file: self.path_of(JOINED_FILE), why: why.to_string() }
        })?;
        bytes.push(b'\n');
        Ok(self.dir.write(JOINED_FILE, &bytes)?)
    }

    /// The folder of the audit log.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn audit_dir(&self) -> Result<StateDir, StateError> {
        Ok(self.dir.subdir("audit")?)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn path_of(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn joined() -> Joined {
        let primary = NodeKey::from_seed(Zeroizing::new([7; 32])).unwrap();
        Joined {
            primary_key: primary.public(),
            addresses: vec!["192.0.2.1:7078".parse().unwrap(), "laptop.lan:7078".parse().unwrap()],
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let first = State::open(&path).unwrap().node_key().unwrap().public();
        assert_eq!(State::open(&path).unwrap().node_key().unwrap().public(), first);
        let mode = std::fs::metadata(path.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_was_joined_is_kept_and_says_no_name() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&temp.path().join("state")).unwrap();
        assert!(matches!(state.joined(), Err(StateError::NotJoined)));
        state.keep_joined(&joined()).unwrap();
        assert_eq!(state.joined().unwrap(), joined());
        let text = std::fs::read_to_string(state.path().join(JOINED_FILE)).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<_> = file.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["primaryKey", "addresses"]);
    }

    #[test]
    fn a_damaged_file_is_told_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&temp.path().join("state")).unwrap();
        for text in ["", "{}", r#"{"primaryKey":"x","addresses":["a:1"]}"#] {
            state.dir.write(JOINED_FILE, text.as_bytes()).unwrap();
            assert!(matches!(state.joined(), Err(StateError::DamagedJoin { .. })), "{text}");
        }
        state.dir.write(KEY_FILE, b"not a key").unwrap();
        assert!(matches!(state.node_key(), Err(StateError::DamagedKey(_))));
        assert_eq!(state.dir.read(KEY_FILE).unwrap().unwrap(), b"not a key");
    }

    #[test]
    fn a_second_process_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let first = State::open(&path).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Dir(StateDirError::InUse { .. }))));
        drop(first);
        assert!(State::open(&path).is_ok());
    }
}
