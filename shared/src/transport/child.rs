//! Starting processes, here and nowhere else. A child does not outlive its owner: dropping its handle
//! kills it, unless it was told to stay.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A program of our own, to be started beside this one.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where its standard error is appended.
    pub log: PathBuf,
}

/// Why a program is not running.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It can't be started.
    #[error("{} can't be started: {error}", .path.display())]
    Start {
        /// The binary, or its log.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It ended.
    #[error("{} ended ({status}); its log ends:\n{tail}", .path.display())]
    Ended {
        /// The binary.
        path: PathBuf,
        /// How.
        status: ExitStatus,
        /// Its last words.
        tail: String,
    },
    /// It is too slow.
    #[error("{} took longer than {} s", .path.display(), .deadline.as_secs())]
    Slow {
        /// The binary.
        path: PathBuf,
        /// How long it had.
        deadline: Duration,
    },
}

/// A running program of our own.
#[derive(Debug)]
pub struct Running {
    program: Program,
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts it, away from this terminal's signals.
    ///
    /// # Errors
    /// When the binary or its log can't be opened.
    pub fn start(self) -> Result<Running, ChildError> {
        let failed = |path: &Path, error| ChildError::Start { path: path.to_owned(), error };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| failed(&self.log, error))?;
        #[allow(clippy::disallowed_methods, reason = "the room for starting processes")]
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| failed(&self.path, error))?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| failed(&self.path, io::Error::other("its output can't be read")))?;
        Ok(Running { program: self, child, output: BufReader::new(output).lines() })
    }
}

impl Running {
    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The rest of the first line it prints that begins with `prefix`.
    ///
    /// # Errors
    /// When it ends or the time is up before.
    pub async fn line(&mut self, prefix: &str, deadline: Duration) -> Result<String, ChildError> {
        let heard = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Some(rest.trim().to_owned());
                }
            }
            None
        };
        match tokio::time::timeout(deadline, heard).await {
            Ok(Some(rest)) => Ok(rest),
            Ok(None) => Err(self.ended(deadline).await),
            Err(_) => Err(self.slow(deadline)),
        }
    }

    /// Waits for its end, in success.
    ///
    /// # Errors
    /// When it fails, or the time is up before.
    pub async fn succeed(mut self, deadline: Duration) -> Result<(), ChildError> {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => Err(self.ended(deadline).await),
            Err(_) => Err(self.slow(deadline)),
        }
    }

    /// Waits for its end; how it ended, and what it printed since it was last read.
    ///
    /// # Errors
    /// When the time is up before.
    pub async fn finish(mut self, deadline: Duration) -> Result<(ExitStatus, String), ChildError> {
        let reading = async {
            let mut output = String::new();
            while let Ok(Some(line)) = self.output.next_line().await {
                output.push_str(&line);
                output.push('\n');
            }
            (self.child.wait().await, output)
        };
        match tokio::time::timeout(deadline, reading).await {
            Ok((Ok(status), output)) => Ok((status, output)),
            Ok((Err(error), _)) => Err(ChildError::Start { path: self.program.path, error }),
            Err(_) => Err(ChildError::Slow { path: self.program.path, deadline }),
        }
    }

    /// Kills it, without a word, and waits until it is gone.
    pub async fn kill(mut self) {
        // It may have ended by itself: gone is gone.
        let _ = self.child.kill().await;
    }

    /// Asks it to stop and waits for its end, in success.
    ///
    /// # Errors
    /// When it fails, or the time is up before.
    pub async fn stop(self, deadline: Duration) -> Result<(), ChildError> {
        #[cfg(unix)]
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // It may have ended by itself; waiting tells.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.succeed(deadline).await
    }

    /// Leaves it running on its own.
    pub fn leave(self) {
        std::mem::forget(self.child);
    }

    fn slow(&self, deadline: Duration) -> ChildError {
        ChildError::Slow { path: self.program.path.clone(), deadline }
    }

    async fn ended(&mut self, deadline: Duration) -> ChildError {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(Ok(status)) => {
                let log = std::fs::read_to_string(&self.program.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(8)..].join("\n");
                ChildError::Ended { path: self.program.path.clone(), status, tail }
            }
            Ok(Err(error)) => ChildError::Start { path: self.program.path.clone(), error },
            Err(_) => self.slow(deadline),
        }
    }
}

/// Someone else's program, to be run once and to its end.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The binary.
    pub(super) path: PathBuf,
    /// The name it is called by.
    pub(super) name: String,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// Its whole environment.
    pub(super) env: Vec<(OsString, OsString)>,
}

/// Why a job has no end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobError {
    /// It can't be started.
    Start,
    /// It took too long, and was killed.
    Slow,
    /// It printed too much, and was killed.
    Overflow,
}

/// A job that ended by itself.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// A process group that ends with its owner.
#[derive(Debug)]
struct Group(Option<u32>);

impl Group {
    /// Kills whoever is still in it.
    fn end(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.0.take().and_then(|pid| i32::try_from(pid).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // No one may be left in it: then there is nothing to end.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

impl Job {
    /// Runs it, for at most `limit`, keeping at most `most` bytes of either stream. Whatever way this
    /// ends, and when it is dropped, no process of its group is left.
    pub(super) async fn run(self, limit: Duration, most: usize) -> Result<Finished, JobError> {
        let mut child = self.start()?;
        let mut group = Group(child.id());
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(JobError::Start);
        };
        let work = async {
            let ended = async {
                let status = child.wait().await.map_err(|_| JobError::Start);
                // Those it left behind end with it, and with them the streams.
                group.end();
                status
            };
            tokio::try_join!(ended, drain(out, most), drain(err, most))
        };
        let done = tokio::time::timeout(limit, work).await.unwrap_or(Err(JobError::Slow));
        match done {
            Ok((status, stdout, stderr)) => Ok(Finished { status, stdout, stderr }),
            Err(error) => {
                group.end();
                // It was killed: this takes its leave of the process table.
                let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
                Err(error)
            }
        }
    }

    fn start(self) -> Result<Child, JobError> {
        #[allow(clippy::disallowed_methods, reason = "the room for starting processes")]
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.arg0(&self.name).process_group(0).current_dir("/");
        command.spawn().map_err(|error| {
            tracing::warn!(%error, name = self.name, "a command can't be started");
            JobError::Start
        })
    }
}

async fn drain(stream: impl AsyncRead + Unpin, most: usize) -> Result<Vec<u8>, JobError> {
    let mut bytes = Vec::new();
    let mut stream = stream.take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1));
    // A stream that breaks has ended.
    let _ = stream.read_to_end(&mut bytes).await;
    if bytes.len() > most { Err(JobError::Overflow) } else { Ok(bytes) }
}
