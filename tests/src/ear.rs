//! Listening to an event stream.

use plexus_shared::transport::http::{Ask, Lines, Streamed, stream};
use serde_json::Value;

use crate::{Agent, Gateway, PATIENCE, body};

/// An open stream, and everything that came through it.
pub struct Ear {
    /// The stream.
    pub lines: Lines,
    /// What came through it.
    pub heard: String,
}

/// One event.
#[derive(Debug)]
pub struct Told {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub id: String,
    /// What it tells.
    pub data: Value,
}

impl Ear {
    /// Opens the stream at `path`.
    pub async fn open(url: &str, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let ask = headers.iter().fold(Ask::get(path), |ask, (name, value)| ask.header(name, value));
        match stream(url, ask, PATIENCE).await.unwrap() {
            Streamed::Lines(lines) => {
                let mut ear = Self { lines, heard: String::new() };
                assert_eq!(ear.line().await.unwrap(), "retry: 3000");
                assert_eq!(ear.line().await.unwrap(), "");
                ear
            }
            Streamed::Refused(answer) => panic!("{path}: {} {}", answer.status, body(&answer)),
        }
    }

    /// What an agent hears.
    pub async fn agent(agent: &Agent) -> Self {
        Self::open(&agent.url, "/events", &[("x-plexus-session", &agent.session)]).await
    }

    /// What an agent hears after event `last`.
    pub async fn agent_after(agent: &Agent, last: &str) -> Self {
        let headers = [("x-plexus-session", agent.session.as_str()), ("last-event-id", last)];
        Self::open(&agent.url, "/events", &headers).await
    }

    /// What the owner hears.
    pub async fn owner(gateway: &Gateway) -> Self {
        let headers = [("x-plexus-connection-key", gateway.key.as_str())];
        Self::open(&gateway.url, "/admin/api/events", &headers).await
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next()).await.unwrap();
        let line = line.unwrap()?;
        self.heard.push_str(&line);
        self.heard.push('\n');
        Some(line)
    }

    /// The next event; `None` at the stream's end.
    pub async fn next(&mut self) -> Option<Told> {
        let mut told = Told { name: String::new(), id: String::new(), data: Value::Null };
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut told.name),
                Some(("id", id)) => id.clone_into(&mut told.id),
                Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                None if line.is_empty() && !told.name.is_empty() => return Some(told),
                _ => {}
            }
        }
    }

    /// The next event called `name`, passing over others.
    pub async fn until(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().await.unwrap_or_else(|| panic!("no {name}: {}", self.heard));
            if told.name == name {
                return told;
            }
        }
    }
}
