//! The composition root: the only place that puts a primary's parts together.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::identity::NodeKey;
use plexus_shared::admit::token::TokenKeys;
use plexus_shared::audit::{AuditLog, AuditOpenError, Durability, Tier};
use plexus_shared::clock::{Clock, SystemClock};
use plexus_shared::invoke::Pipeline;
use plexus_shared::model::exposure::ExposureRules;
use plexus_shared::secret::{Credential, CredentialKind, random};
use plexus_shared::source::extension::Ports;
use plexus_shared::source::registry::Registry;
use plexus_shared::state_dir::{StateDir, StateDirError, StateLock};
use plexus_shared::transport::cli::environment::Host;
use plexus_shared::transport::secrets::SecretFiles;
use plexus_shared::transport::workflow::Reentry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::calls::Calls;
use crate::config::{CONNECTION_KEY, Config, RUNTIME, Runtime};
use crate::core::Core;
use crate::events::{Events, follow_log, follow_manifest};
use crate::extensions::Extensions;
use crate::http::guard::Guard;
use crate::http::limits::Limits;
use crate::http::serve::Listener;
use crate::http::tls::TlsError;
use crate::http::{Inner, Services, router, serve};
use crate::mesh::acceptor::{self, ListenError};
use crate::mesh::{self, Mesh};
use crate::network;
use crate::reach::{addresses, open_up, warnings, wire_up};
use crate::replays::Replays;
use crate::settings::{self, InForce, Settings, SettingsError};
use crate::sources::Sources;
use crate::store::audit_index::{AUDIT_INDEX, AuditIndex};
use crate::store::rows::CursorRow;
use crate::store::{Change, Kept, Store, StoreError};
use crate::trust::Trust;
use crate::trust::authorizer::Authorizer;
use crate::trust::ledger::Ledger;
use crate::trust::sessions::Sessions;

/// Revisions are kept ahead of what was shown, this many at a time, so that showing one waits for
/// nothing and a restart still moves forward.
const REVISION_STEP: u64 = 1000;
/// How often sources are looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(5);
/// How often what has ended is let go.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why a primary did not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The HTTP port.
    #[error(
        "port {port} on 127.0.0.1 can't be used: {error}; stop what uses it, or start with --port"
    )]
    Port {
        /// The port.
        port: u16,
        /// Why.
        error: io::Error,
    },
    /// An address of `network.json`.
    #[error(
        "the address {addr} of network.json can't be used: {error}; stop what uses it, or remove it there"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A file the owner writes.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The mesh socket.
    #[error(
        "the mesh address {addr} can't be used: {error}; stop what uses it, or start with --mesh-listen"
    )]
    MeshPort {
        /// The address.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A key file is not what was written.
    #[error("{} is damaged: {what}; restore it from a backup, or remove it to get a new one ({loss})", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// What removing it costs.
        loss: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditOpenError),
    /// The audit log can't be read back.
    #[error(transparent)]
    AuditRead(#[from] plexus_shared::audit::ReadError),
    /// The mesh.
    #[error(transparent)]
    Mesh(#[from] ListenError),
    /// The runtime.
    #[error("the runtime could not be set up: {0}")]
    Runtime(io::Error),
}

/// A primary whose sockets are bound and whose parts stand; nothing is served yet.
pub struct App {
    /// Where it will serve.
    pub base_url: String,
    /// What the owner must know of this start.
    pub warnings: Vec<String>,
    services: Services,
    guard: Guard,
    listeners: Vec<Listener>,
    endpoint: quinn::Endpoint,
    state: StateDir,
    _lock: StateLock,
}

/// What a gateway can be given in the place of its own.
pub struct Seams {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who decides on what agents ask for; the policy that the settings name, where it is `None`.
    pub authorizer: Option<Arc<dyn Authorizer>>,
}

impl Default for Seams {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), authorizer: None }
    }
}

impl App {
    /// Claims the folder, binds the sockets, reads what was kept and puts the parts together. When
    /// anything is amiss, nothing has been touched.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_with(Seams::default(), config).await
    }

    /// The same, with parts of the caller's own.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(seams: Seams, config: &Config) -> Result<Self, StartError> {
        let Seams { clock, authorizer } = seams;
        let (tcp, udp) = bind(config).map_err(|error| already_running(config).unwrap_or(error))?;
        let (state, lock) = claim(&config.home)?;
        let settings = settings::load(&state)?;
        let network = network::load(&state)?;
        let opened_up = open_up(&network, &tcp)?;
        // Read before anything is made: what is damaged ends the start with the folder untouched.
        let opened = open_ground(&state, clock, settings.audit_durability)?;
        let keys = Keys::load(&state)?;
        let sessions = Arc::new(Sessions::default());
        let (core, mut kept) = lay_ground(&state, opened, sessions.clone(), settings).await?;
        core.audit.begin(keys.node.clone(), settings.audit_retention_days);
        let replays = Arc::new(Replays::new(core.clone(), std::mem::take(&mut kept.replays)));
        let trust = Trust::new(
            core.clone(),
            Ledger::new(&mut kept),
            sessions.clone(),
            replays.clone(),
            TokenKeys::new(&keys.token),
            kept.frozen,
        );
        let trust = Arc::new(trust.decided_by(authorizer));
        let listen = udp.local_addr().map_err(StartError::Runtime)?;
        let mesh = Arc::new(Mesh::new(core.clone(), keys.node, listen, &mut kept));
        let endpoint = acceptor::listen(&mesh, udp)?;
        let sources = Arc::new(Sources::start(core.clone(), kept.sources, state.path()));
        let ports = extension_ports(&state)?;
        let (reentry, secrets) = (ports.reentry.clone(), ports.secrets.clone());
        let parts = (sources.clone(), trust.clone());
        let extensions = Extensions::start(core.clone(), parts, ports, kept.extensions);
        let Core { registry, audit, clock, .. } = core.clone();
        let pipeline = Arc::new(Pipeline::new(registry, sessions, audit, clock));
        reentry.bind(&pipeline);
        let port = tcp.local_addr().map_err(StartError::Runtime)?.port();
        let base_url = format!("http://127.0.0.1:{port}");
        let guard = Guard::new(port, &addresses(&opened_up), &network);
        let (listeners, reach) = wire_up(&state, tcp, opened_up, &network, &base_url)?;
        let warnings = warnings(&settings, &reach, kept.frozen);
        let services = Services::new(Inner {
            base_url: base_url.clone(),
            started_at: core.now(),
            connection_key: arc_swap::ArcSwap::from_pointee(keys.connection),
            calls: Calls::new(core.clone(), pipeline, trust.clone(), replays),
            limits: Limits::default(),
            secrets,
            settings_gate: tokio::sync::Mutex::default(),
            state: state.clone(),
            reach,
            core,
            trust,
            sources,
            extensions: Arc::new(extensions),
            mesh,
        });
        Ok(Self { base_url, warnings, services, guard, listeners, endpoint, state, _lock: lock })
    }

    /// Tells other programs where this one is.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn announce(&self) -> Result<(), StartError> {
        let mesh_addr = self.endpoint.local_addr().map_err(StartError::Runtime)?.to_string();
        let runtime = Runtime {
            pid: std::process::id(),
            base_url: self.base_url.clone(),
            mesh_addr,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let text = serde_json::to_vec_pretty(&runtime).unwrap_or_default();
        Ok(self.state.write(RUNTIME, &text)?)
    }

    /// Serves until `stop` turns true, then lets what is under way finish.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let (end_tunnels, tunnels_end) = watch::channel(false);
        tasks.spawn(acceptor::run(self.services.mesh.clone(), self.endpoint, tunnels_end));
        tasks.spawn(watch_sources(self.services.clone(), stop.clone()));
        tasks.spawn(keep_revision(self.services.clone(), stop.clone()));
        tasks.spawn(keep_swept(self.services.clone(), stop.clone()));
        let core = &self.services.core;
        tasks.spawn(follow_manifest(core.clone(), stop.clone()));
        tasks.spawn(follow_log(core.clone(), stop.clone()));
        tasks.spawn(end_streams(core.events.clone(), stop.clone()));
        let router = router::router(self.services.clone(), self.guard);
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            serving.spawn(serve::serve(listener, router.clone(), stop.clone()));
        }
        serving.join_all().await;
        // Calls have ended: now the tunnels may.
        end_tunnels.send_replace(true);
        tasks.join_all().await;
        // What was carried through for someone who has gone.
        if tokio::time::timeout(serve::DRAIN, self.services.core.tasks.ended()).await.is_err() {
            tracing::warn!("some work did not end in time and was cut");
        }
        if let Err(error) = self.services.core.audit.seal() {
            tracing::error!(%error, "the end of the audit log is not signed");
        }
        // The file says where a gateway runs; none does any more.
        let _ = self.state.remove(RUNTIME);
    }
}

/// What extensions need of this node.
fn extension_ports(state: &StateDir) -> Result<Ports, StartError> {
    let secrets = SecretFiles::open(state.subdir("secrets")?)?;
    Ok(Ports { host: Host::of_this_process(), secrets, reentry: Reentry::default() })
}

/// Whether the ports are taken because this very folder is already served: that says more.
fn already_running(config: &Config) -> Option<StartError> {
    let known = config.home.join("lock").exists();
    known.then(|| claim(&config.home).err()).flatten().map(StartError::from)
}

fn claim(home: &Path) -> Result<(StateDir, StateLock), StateDirError> {
    let state = StateDir::open(home)?;
    let lock = state.lock()?;
    Ok((state, lock))
}

fn bind(config: &Config) -> Result<(TcpListener, UdpSocket), StartError> {
    let port = config.port;
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp))
        .map_err(|error| StartError::Port { port, error })?;
    let addr = config.mesh_listen;
    let udp = UdpSocket::bind(addr).map_err(|error| StartError::MeshPort { addr, error })?;
    Ok((tcp, udp))
}

fn keep_cursor((workload, cursor): &(WorkloadName, CursorRow)) -> Change {
    Change::PutCursor { workload: workload.clone(), cursor: cursor.clone() }
}

/// Opens the log and the store. A damaged one of either is told before the other is made.
fn open_ground(
    state: &StateDir,
    clock: Arc<dyn Clock>,
    durability: Durability,
) -> Result<(Arc<dyn Clock>, AuditLog, Store, Kept), StartError> {
    Keys::check(state)?;
    let file = state.join("state.db");
    if file.exists() {
        Store::check(&file)?;
    }
    let audit =
        AuditLog::open_with(state.subdir("audit")?, clock.clone(), Tier::Primary, durability)?;
    let (store, kept) = Store::open(&file)?;
    Ok((clock, audit, store, kept))
}

/// Brings the log and the store each up to what the other says.
async fn lay_ground(
    state: &StateDir,
    (clock, audit, store, mut kept): (Arc<dyn Clock>, AuditLog, Store, Kept),
    sessions: Arc<Sessions>,
    settings: Settings,
) -> Result<(Core, Kept), StartError> {
    mesh::recover_cursors(audit.folder(), audit.head().seq, &mut kept)?;
    let mut changes: Vec<_> = kept.cursors.iter().map(keep_cursor).collect();
    changes.push(Change::SetRevision(kept.revision + REVISION_STEP));
    store.commit(changes).await?;
    let rules = ExposureRules::new(std::mem::take(&mut kept.rules));
    let registry = Arc::new(Registry::new(kept.revision, rules));
    let events = Arc::new(Events::new(registry.clone(), sessions, clock.clone()));
    let audit_index = index(state, &audit);
    let core = Core {
        registry,
        events,
        store: Arc::new(store),
        audit: Arc::new(audit),
        audit_index,
        clock,
        settings: InForce::new(settings),
        exposure_gate: Arc::default(),
        tasks: Arc::default(),
    };
    Ok((core, kept))
}

/// Streams have no end of their own: without this, a stop would wait for them.
async fn end_streams(events: Arc<Events>, mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    events.close();
}

/// The log can do without.
fn index(state: &StateDir, audit: &AuditLog) -> Option<Arc<AuditIndex>> {
    match AuditIndex::start(&state.join(AUDIT_INDEX), audit) {
        Ok(index) => Some(Arc::new(index)),
        Err(error) => {
            tracing::error!(%error, "the audit log is not indexed");
            None
        }
    }
}

async fn watch_sources(services: Services, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => return,
        }
        services.sources.check().await;
        services.limits.settle(&services.core);
        services.mesh.settle_refusals();
    }
}

/// Lets go of what has ended.
async fn keep_swept(services: Services, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => return,
        }
        if let Err(error) = services.trust.sweep(services.core.now()).await {
            tracing::error!(%error, "what has ended could not be let go");
        }
    }
}

/// Keeps the kept revision ahead of the shown one.
async fn keep_revision(services: Services, mut stop: watch::Receiver<bool>) {
    let mut revisions = services.core.registry.subscribe();
    let mut ahead = services.core.registry.catalog().revision() + REVISION_STEP / 2;
    loop {
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            _ = stop.changed() => return,
        }
        let shown = *revisions.borrow_and_update();
        if shown >= ahead {
            let keep = Change::SetRevision(shown + REVISION_STEP);
            match services.core.store.commit(vec![keep]).await {
                Ok(()) => ahead = shown + REVISION_STEP / 2,
                Err(error) => tracing::error!(%error, "the manifest revision could not be kept"),
            }
        }
    }
}

/// The secrets of a primary, made on its first start.
struct Keys {
    connection: Credential,
    token: Zeroizing<[u8; 32]>,
    node: Arc<NodeKey>,
}

impl Keys {
    /// Reads what key files there are, making none.
    fn check(state: &StateDir) -> Result<(), StartError> {
        if let Some(text) = secret_file(state, CONNECTION_KEY)? {
            connection_key(state, &text)?;
        }
        if let Some(text) = secret_file(state, TOKEN_SECRET)? {
            token_secret(state, &text)?;
        }
        if let Some(text) = secret_file(state, NODE_IDENTITY)? {
            node_identity(state, &text)?;
        }
        Ok(())
    }

    fn load(state: &StateDir) -> Result<Self, StartError> {
        let fresh_key = || {
            let key = Credential::generate(CredentialKind::ConnectionKey);
            Zeroizing::new(key.expose().to_owned())
        };
        let fresh_secret = || {
            let bytes = Zeroizing::new(random::<32>());
            Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes))
        };
        let connection = connection_key(state, &or_make(state, CONNECTION_KEY, fresh_key)?)?;
        let token = token_secret(state, &or_make(state, TOKEN_SECRET, fresh_secret)?)?;
        let node = node_identity(state, &or_make(state, NODE_IDENTITY, fresh_secret)?)?;
        let node = Arc::new(node);
        Ok(Self { connection, token, node })
    }
}

const TOKEN_SECRET: &str = "token-secret";
pub(crate) const NODE_IDENTITY: &str = "node-identity";

fn connection_key(state: &StateDir, text: &str) -> Result<Credential, StartError> {
    Credential::parse(CredentialKind::ConnectionKey, text).ok_or_else(|| {
        damaged(state, CONNECTION_KEY, "it holds no connection-key", "no agent is affected")
    })
}

fn token_secret(state: &StateDir, text: &str) -> Result<Zeroizing<[u8; 32]>, StartError> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    let secret = bytes.and_then(|bytes| bytes.try_into().ok()).map(Zeroizing::new);
    secret.ok_or_else(|| {
        damaged(state, TOKEN_SECRET, "it holds no 32 bytes in hex", "live tokens end")
    })
}

fn node_identity(state: &StateDir, text: &str) -> Result<NodeKey, StartError> {
    NodeKey::from_seed_hex(text).map_err(|_| {
        damaged(state, NODE_IDENTITY, "it holds no key", "every workload must join again")
    })
}

fn damaged(state: &StateDir, name: &str, what: &'static str, loss: &'static str) -> StartError {
    StartError::Damaged { path: state.join(name), what, loss }
}

/// The text of a one-line secret file.
fn secret_file(state: &StateDir, name: &str) -> Result<Option<Zeroizing<String>>, StartError> {
    let bytes = state.read(name)?.map(Zeroizing::new);
    let text = |bytes: &Zeroizing<Vec<u8>>| {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        Zeroizing::new(text.trim_end().to_owned())
    };
    Ok(bytes.as_ref().map(text))
}

/// The text of a one-line secret file, made when it is absent.
fn or_make(
    state: &StateDir,
    name: &str,
    make: impl FnOnce() -> Zeroizing<String>,
) -> Result<Zeroizing<String>, StartError> {
    if let Some(text) = secret_file(state, name)? {
        return Ok(text);
    }
    let text = make();
    state.write(name, format!("{}\n", *text).as_bytes())?;
    Ok(text)
}
