//! `plexus demo`: a real primary, a real proxy and a real agent, in throwaway state.
//!
//! Every step is done as its owner, its server or its agent would do it, over the wire, and checked;
//! the first that was not seen to work ends the demo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use plexus_shared::transport::child::{ChildError, Program, Running};
use plexus_shared::transport::http::{Ask, HttpError, exchange};
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::output::{Answer, Failure, complain};
use super::stop::Stop;
use super::{DemoArgs, Exit, output};

const WORKLOAD: &str = "nas";
const READ: &str = "local/nas/notes.file.read";
const LIST: &str = "local/nas/notes.file.list";
const WRITE: &str = "local/nas/notes.file.write";
/// How long any one step may take.
const STEP: Duration = Duration::from_secs(20);

/// Why a step was not seen to work.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0}")]
    Step(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

type Step<T = ()> = Result<T, DemoError>;

/// Runs the demo.
pub(super) async fn run(args: DemoArgs) -> Result<Answer, Failure> {
    let cannot =
        |error| Failure::new(Exit::Failed, "failed", format!("no throwaway folder: {error}"));
    let mut stop = Stop::listen().map_err(cannot)?;
    let base = make_stage().map_err(cannot)?;
    let done = tokio::select! {
        done = play(&base, &args) => done,
        _ = stop.told() => Err(DemoError::Step("interrupted".into())),
    };
    let keep = args.keep && done.is_ok();
    if !keep && let Err(error) = std::fs::remove_dir_all(&base) {
        complain(&format!("{} could not be removed: {error}", base.display()));
    }
    match done {
        Ok(()) => Ok(Answer::said()),
        Err(error) => {
            Err(Failure::new(Exit::Failed, "failed", format!("the demo stopped: {error}")))
        }
    }
}

/// The demo, as its steps.
async fn play(base: &Path, args: &DemoArgs) -> Step {
    let stage = Stage::set(base, args.folder.as_deref())?;
    let mut primary = stage.primary()?;
    let url = primary.line("plexus ready ", STEP).await?;
    tell(1, "primary", &format!("plexus serve is ready at {url}"));
    let owner = Client::of(&stage.home())?;

    stage.join(&owner).await?;
    let proxy = stage.proxy().await?;
    let mounted = mounted(&owner).await?;
    tell(
        3,
        "proxy",
        &format!("dialed in and mounted {} capabilities of {}", mounted, stage.told()),
    );
    let _: Value = owner.post("exposure/local%2Fnas%2F%2A", &json!({"enabled": true})).await?;
    tell(4, "owner", "plexus expose 'local/nas/*': until now no agent could see them");

    let agent = Agent::enroll(&url, &owner).await?;
    let token = agent.ask(READ, "read").await?;
    let token = text(&token, "token", "a token")?;
    let read = agent.invoke(&token, READ, json!({"path": stage.sample, "length": 400})).await?;
    let content = text(&read["output"], "content", "the file's content")?;
    let first = content.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    tell(6, "agent", &format!("read {} through the tunnel: “{}”", stage.sample, clip(first)));

    let (more, input, verb) = stage.second();
    let refused = agent.invoke(&token, more, input.clone()).await?;
    expect(&refused["error"]["code"], "grant_required", "calling what was not granted")?;
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    tell(7, "agent", &format!("tried {more}: denied, grant_required ({why})"));
    approve_and_use(&stage, &owner, &agent, (more, input, verb)).await?;

    show_audit(&stage, &owner, read["auditId"].as_str().unwrap_or_default()).await?;
    if args.keep {
        keep(&stage, &url, primary, proxy);
        return Ok(());
    }
    proxy.stop(STEP).await?;
    primary.stop(STEP).await?;
    tell(10, "end", "proxy and primary stopped cleanly; the throwaway state is removed");
    Ok(())
}

/// Asks for what needs the owner, answers as the owner, uses it.
async fn approve_and_use(
    stage: &Stage,
    owner: &Client,
    agent: &Agent,
    (id, input, verb): (&str, Value, &str),
) -> Step {
    let asked = agent.ask(id, verb).await?;
    expect(&asked["status"], "grant_pending_user", "asking for what needs the owner")?;
    let pending = text(&asked, "pendingId", "a pending item")?;
    let body = json!({"action": "approve", "trustWindow": {"kind": "1h"}});
    let _: Value = owner.post(&format!("pending/{pending}"), &body).await?;
    let status = agent.get(&format!("/grants/status?pendingId={pending}")).await?;
    expect(&status["state"], "approved", "the owner's yes")?;
    let token = text(&status["token"], "token", "a token after the owner's yes")?;
    let used = agent.invoke(&token, id, input).await?;
    if used["ok"] != true {
        return Err(DemoError::Step(format!("{id} after approval: {used}")));
    }
    let seen = stage.check_second(&used)?;
    tell(8, "owner", &format!("plexus approve {pending} --for 1h; then {id} worked: {seen}"));
    Ok(())
}

/// The folders of a demo.
struct Stage {
    base: PathBuf,
    folder: PathBuf,
    sample: String,
    own_folder: bool,
}

impl Stage {
    /// Makes the throwaway folders; finds or writes the file that will be read.
    fn set(base: &Path, folder: Option<&Path>) -> Step<Self> {
        let (folder, sample) = match folder {
            Some(folder) => {
                let folder = folder.canonicalize().map_err(|error| {
                    DemoError::Step(format!("{} can't be shared: {error}", folder.display()))
                })?;
                let sample = first_file(&folder)?;
                (folder, sample)
            }
            None => {
                let folder = base.join("sample");
                std::fs::create_dir(&folder)?;
                let text = "Call the plumber on Thursday.\nThe spare key is with Mrs. Lindqvist.\n";
                std::fs::write(folder.join("notes.txt"), text)?;
                (folder, "notes.txt".to_owned())
            }
        };
        let own_folder = folder.starts_with(base);
        Ok(Self { base: base.to_owned(), folder, sample, own_folder })
    }

    fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    fn told(&self) -> String {
        self.folder.display().to_string()
    }

    fn program(&self, name: &str, args: Vec<OsString>) -> Step<Program> {
        let path = std::env::current_exe()?.with_file_name(name);
        if !path.exists() {
            let why = format!("{} is missing; build it with cargo build --release", path.display());
            return Err(DemoError::Step(why));
        }
        let mut env = vec![("PLEXUS_HOME".into(), self.home().into())];
        env.extend(std::env::var_os("RUST_LOG").map(|level| ("RUST_LOG".into(), level)));
        Ok(Program { path, args, env, log: self.base.join(format!("{name}.log")) })
    }

    fn primary(&self) -> Step<Running> {
        let args = ["serve", "--port", "0", "--mesh-listen", "127.0.0.1:0"];
        Ok(self.program("plexus", args.iter().map(Into::into).collect())?.start()?)
    }

    fn proxy_args(&self, command: &str) -> Vec<OsString> {
        let config = self.base.join("proxy.toml");
        let state = self.base.join("proxy");
        let flags = ["--config".into(), config.into(), "--state".into(), state.into()];
        std::iter::once(command.into()).chain(flags).collect()
    }

    /// Invites the proxy and lets it join: a one-line ticket, a small config, one command.
    async fn join(&self, owner: &Client) -> Step {
        let invited: Value = owner.post("mesh/invite", &json!({"workload": WORKLOAD})).await?;
        let ticket = text(&invited, "ticket", "a ticket")?;
        let ticket_file = self.base.join("ticket");
        std::fs::write(&ticket_file, format!("{ticket}\n"))?;
        let mode = if self.own_folder { "read-write" } else { "read" };
        let source = toml_source(&self.folder, mode)?;
        std::fs::write(self.base.join("proxy.toml"), source)?;
        let mut args = self.proxy_args("join");
        args.extend(["--ticket-file".into(), ticket_file.into()]);
        self.program("plexus-proxy", args)?.start()?.succeed(STEP).await?;
        tell(2, "proxy", "plexus mesh invite nas, then plexus-proxy join: keys pinned both ways");
        Ok(())
    }

    async fn proxy(&self) -> Step<Running> {
        let mut proxy = self.program("plexus-proxy", self.proxy_args("run"))?.start()?;
        proxy.line("plexus-proxy ready", STEP).await?;
        Ok(proxy)
    }

    /// What the agent was not given: a write into our own sample, a listing of a folder of yours.
    fn second(&self) -> (&'static str, Value, &'static str) {
        if self.own_folder {
            (
                WRITE,
                json!({"path": "reply.txt", "content": "Done, on Thursday at nine.\n"}),
                "write",
            )
        } else {
            (LIST, json!({"limit": 5}), "read")
        }
    }

    fn check_second(&self, used: &Value) -> Step<String> {
        if !self.own_folder {
            let count = used["output"]["entries"].as_array().map_or(0, Vec::len);
            return Ok(format!("names listed: {count}"));
        }
        let written = std::fs::read_to_string(self.folder.join("reply.txt"))?;
        Ok(format!("reply.txt on the proxy's disk now says “{}”", clip(&written)))
    }
}

/// The agent: it knows a code, a URL, and nothing of the owner.
struct Agent {
    url: String,
    session: String,
}

impl Agent {
    /// Is connected by the owner, redeems its code, opens a session.
    async fn enroll(url: &str, owner: &Client) -> Step<Self> {
        let order = json!({"agentId": "demo-agent", "capabilities": [READ]});
        let connected: Value = owner.post("agents/connect", &order).await?;
        let code = text(&connected, "code", "an enrollment code")?;
        let redeem = json!({ "code": code });
        let enrolled = send(url, Ask::with_body(Method::POST, "/agents/enroll", &redeem)).await?;
        let bearer = format!("Bearer {}", text(&enrolled, "pat", "a credential of its own")?);
        let hello = json!({"client": {"name": "plexus demo"}});
        let ask = Ask::with_body(Method::POST, "/link/handshake", &hello);
        let greeted = send(url, ask.header("authorization", &bearer)).await?;
        let session = text(&greeted, "sessionId", "a session")?;
        let seen = greeted["manifest"]["entries"].as_array().map_or(0, Vec::len);
        let line = format!("enrolled with a one-time code, handshook, sees {seen} capabilities");
        tell(5, "agent", &line);
        Ok(Self { url: url.to_owned(), session })
    }

    async fn ask(&self, id: &str, verb: &str) -> Step<Value> {
        let purpose = "to show you how Plexus works";
        let decision = json!({"decision": "allow", "verbs": [verb], "purpose": purpose});
        let body = json!({"grants": {id: decision}});
        let ask = Ask::with_body(Method::PUT, "/grants", &body);
        send(&self.url, ask.header("x-plexus-session", &self.session)).await
    }

    async fn get(&self, path: &str) -> Step<Value> {
        send(&self.url, Ask::get(path).header("x-plexus-session", &self.session)).await
    }

    async fn invoke(&self, token: &str, id: &str, input: Value) -> Step<Value> {
        let body = json!({"id": id, "input": input});
        let bearer = format!("Bearer {token}");
        let ask = Ask::with_body(Method::POST, "/invoke", &body);
        send(&self.url, ask.header("authorization", &bearer)).await
    }
}

async fn send(url: &str, ask: Ask<'_>) -> Step<Value> {
    let answer = exchange(url, ask, STEP).await?;
    let read = serde_json::from_slice(&answer.body);
    read.map_err(|error| DemoError::Step(format!("an answer that is not JSON: {error}")))
}

/// Waits until the proxy's capabilities are mounted.
async fn mounted(owner: &Client) -> Step<usize> {
    let waiting = async {
        loop {
            let mesh: Value = owner.get("mesh").await?;
            let workload = &mesh["workloads"][0];
            let count = workload["capabilities"].as_array().map_or(0, Vec::len);
            if workload["connection"] == "connected" && count > 0 {
                return Ok(count);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let late = |_| DemoError::Step("the proxy did not dial in".into());
    tokio::time::timeout(STEP, waiting).await.map_err(late)?
}

/// Shows the records of the read at both ends, joined by their correlation id.
async fn show_audit(stage: &Stage, owner: &Client, event: &str) -> Step {
    let page: Value = owner.get("audit?type=invoke&tier=primary&limit=50").await?;
    let here = page["events"].as_array().into_iter().flatten().find(|e| e["id"] == event);
    let here =
        here.ok_or_else(|| DemoError::Step("the read is not in the primary's audit".into()))?;
    let correlation = text(here, "correlationId", "a correlation id")?;
    let folder = stage.base.join("proxy").join("audit");
    let there = plexus_shared::audit::tail(&folder, None, 1, |event| {
        event.correlation_id.as_ref().is_some_and(|id| id.as_str() == correlation)
    });
    let there = there.map_err(|error| DemoError::Step(error.to_string()))?.pop();
    let there = json!(there.ok_or_else(|| DemoError::Step("the proxy kept no record".into()))?);
    tell(9, "audit", &format!("both ends recorded the read ({correlation}):"));
    for (end, event) in [("primary", here), ("proxy", &there)] {
        say(&format!(
            "            {end:<8} seq {:<3} {} {} {} {}",
            event["seq"],
            event["at"].as_str().unwrap_or_default(),
            event["agentId"].as_str().unwrap_or_default(),
            event["capabilityId"].as_str().unwrap_or_default(),
            event["outcome"].as_str().unwrap_or_default(),
        ));
    }
    for audit in [stage.home().join("audit"), folder] {
        let report = plexus_shared::audit::verify(&audit)?;
        if let Some(bad) = report.first_bad {
            return Err(DemoError::Step(format!("{}:{}: {}", bad.file, bad.line, bad.reason)));
        }
    }
    say("            both logs verify: gapless, chained, unaltered");
    Ok(())
}

fn keep(stage: &Stage, url: &str, primary: Running, proxy: Running) {
    let pids: Vec<_> =
        [&primary, &proxy].iter().filter_map(|p| p.pid()).map(|p| p.to_string()).collect();
    tell(10, "end", "left running; use it, then stop it:");
    let here = std::env::current_exe().unwrap_or_default();
    let here = here.parent().unwrap_or(Path::new(".")).display();
    say(&format!("            export PLEXUS_HOME={} PATH={here}:$PATH", stage.home().display()));
    say(
        "            plexus status; plexus agents connect my-agent --allow local/nas/notes.file.read",
    );
    say(&format!("            curl -s {url}/.well-known/plexus"));
    say(&format!("            kill {} && rm -r {}", pids.join(" "), stage.base.display()));
    primary.leave();
    proxy.leave();
}

/// A folder that this run made, under a name no one can guess.
fn make_stage() -> std::io::Result<PathBuf> {
    let name = data_encoding::HEXLOWER.encode(&plexus_shared::secret::random::<6>());
    let base = std::env::temp_dir().join(format!("plexus-demo-{name}"));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&base)?;
    Ok(base)
}

/// Resolves when someone wants the demo to end.
fn toml_source(folder: &Path, mode: &str) -> Step<String> {
    let path =
        folder.to_str().ok_or_else(|| DemoError::Step("the folder's name is not UTF-8".into()))?;
    // A JSON string is a TOML basic string.
    let path = Value::from(path);
    Ok(format!(
        "[[source]]\nid = \"notes\"\nkind = \"workspace\"\npath = {path}\nmode = \"{mode}\"\n"
    ))
}

/// The first ordinary file of `folder`, by name.
fn first_file(folder: &Path) -> Step<String> {
    let mut names = Vec::new();
    let failed = |error| DemoError::Step(format!("{} can't be listed: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    let none = || DemoError::Step(format!("{} holds no file to read", folder.display()));
    names.into_iter().next().ok_or_else(none)
}

fn text(value: &Value, name: &str, what: &str) -> Step<String> {
    let found = value[name].as_str().map(ToOwned::to_owned);
    found.ok_or_else(|| DemoError::Step(format!("{what} was expected, and this came: {value}")))
}

fn expect(found: &Value, expected: &str, what: &str) -> Step {
    if found == expected {
        return Ok(());
    }
    Err(DemoError::Step(format!("{what}: expected {expected}, found {found}")))
}

fn clip(line: &str) -> String {
    crate::trust::narration::plain(line.trim(), 60)
}

fn tell(step: usize, who: &str, what: &str) {
    say(&format!("{step:>2}  {who:<8}{what}"));
}

/// A demo that no one watches goes on: its exit code says how it went.
fn say(line: &str) {
    let _ = output::say(line);
}
