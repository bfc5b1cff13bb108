//! Where a primary lives and listens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The port agents and the owner find the gateway at.
pub const DEFAULT_PORT: u16 = 7077;
/// The port workloads dial.
pub const DEFAULT_MESH_PORT: u16 = 7078;

/// The file of the owner's key, in the state folder.
pub const CONNECTION_KEY: &str = "connection-key";
/// The file that tells other programs where the running gateway is.
pub const RUNTIME: &str = "runtime.json";

/// How a primary is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state folder.
    pub home: PathBuf,
    /// The port on loopback; 0 for a free one.
    pub port: u16,
    /// The mesh socket.
    pub mesh_listen: SocketAddr,
}

impl Config {
    /// Defaults in `home`.
    pub fn new(home: PathBuf) -> Self {
        let mesh_listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_MESH_PORT));
        Self { home, port: DEFAULT_PORT, mesh_listen }
    }
}

/// The state folder: `PLEXUS_HOME`, or `~/.plexus`.
pub fn home() -> Option<PathBuf> {
    let named = std::env::var_os("PLEXUS_HOME").filter(|home| !home.is_empty());
    named.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".plexus")))
}

/// What a running primary tells other programs of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Its process.
    pub pid: u32,
    /// Where it serves.
    pub base_url: String,
    /// Where workloads dial it.
    pub mesh_addr: String,
    /// Its version.
    pub version: String,
}
