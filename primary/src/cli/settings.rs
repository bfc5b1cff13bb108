//! `plexus settings`, `panic`, `resume`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::output::{Answer, Failure};

/// `plexus settings`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus settings
  plexus settings set tokenLifetimeMs=600000 policy=confirm-all
  plexus settings set rateLimits.concurrentCalls=16

A change is in force at once. `plexus settings set KEY=` gives a setting its default back.")]
pub(super) struct SettingsArgs {
    #[command(subcommand)]
    command: Option<SettingsCommand>,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// Show what is in force.
    Show,
    /// Change some; the others stay as they are.
    Set {
        /// What to what: policy=confirm-all
        #[arg(value_name = "KEY=VALUE", required = true)]
        pairs: Vec<String>,
    },
}

/// Runs `plexus settings …`.
pub(super) async fn run(args: SettingsArgs) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let data: Value = client.get("settings").await?;
    let Some(SettingsCommand::Set { pairs }) = args.command else {
        let lines = told("", &data["settings"]);
        return Ok(Answer::new("settings", data).lines(lines));
    };
    let mut settings = data["settings"].clone();
    for pair in &pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{pair:?} is not KEY=VALUE; `plexus settings` lists the keys"))
        })?;
        set(&mut settings, key, value);
    }
    let data: Value = client.put("settings", &settings).await?;
    let lines = told("", &data["settings"]);
    Ok(Answer::new("settings", data).lines(lines))
}

/// Sets `key` (`a.b`) in `settings`; the gateway judges both. Without a value it has its default.
fn set(settings: &mut Value, key: &str, value: &str) {
    let (outer, inner) = key.split_once('.').map_or((key, None), |(a, b)| (a, Some(b)));
    let target = match inner {
        None => settings,
        Some(_) => &mut settings[outer],
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    let name = inner.unwrap_or(outer).to_owned();
    match value {
        "" => members.shift_remove(&name),
        // A number where it is one, and a word otherwise.
        value => {
            members.insert(name, value.parse::<u64>().map_or_else(|_| json!(value), Value::from))
        }
    };
}

fn told(prefix: &str, settings: &Value) -> Vec<String> {
    let members = settings.as_object().into_iter().flatten();
    let lines = members.flat_map(|(name, value)| match value {
        Value::Object(_) => told(&format!("{prefix}{name}."), value),
        Value::String(word) => vec![format!("{prefix}{name}={word}")],
        value => vec![format!("{prefix}{name}={value}")],
    });
    lines.collect()
}

/// Runs `plexus panic`.
pub(super) async fn panic() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("panic", &json!({})).await?;
    let ended = &data["ended"];
    let line = format!(
        "frozen: every agent is refused. Ended {} sessions and {} tokens, denied {} requests",
        ended["sessionsEnded"], ended["tokensRevoked"], ended["pendingDenied"]
    );
    Ok(Answer::new("panic", data).line(line).line("let agents in again with `plexus resume`"))
}

/// Runs `plexus resume`.
pub(super) async fn resume() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("resume", &json!({})).await?;
    Ok(Answer::new("resume", data).line("agents are let in again; each handshakes anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_changes_what_it_names_and_nothing_else() {
        let mut settings = json!({"policy": "confirm-risky", "rateLimits": {"burst": 1}});
        set(&mut settings, "policy", "confirm-all");
        set(&mut settings, "rateLimits.concurrentCalls", "4");
        set(&mut settings, "rateLimits.burst", "");
        set(&mut settings, "no.such", "x");
        let expected = json!({
            "policy": "confirm-all",
            "rateLimits": {"concurrentCalls": 4},
            "no": {"such": "x"},
        });
        assert_eq!(settings, expected);
    }
}
