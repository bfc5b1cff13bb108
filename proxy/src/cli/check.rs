//! `plexus-proxy config check`.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::exit::Failure;
use super::output::Output;
use crate::catalog::Sources;
use crate::config::Config;

pub(super) fn check(output: &Output, file: &Path) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let sources = Sources::open(&config, Path::new(crate::state::DEFAULT_DIR))?;
    output.result(text(&config, &sources).trim_end(), &value(&config, &sources));
    Ok(())
}

fn text(config: &Config, sources: &Sources) -> String {
    let mut text = format!("{}: in order\n", config.file.display());
    if config.sources.is_empty() {
        text.push_str("no sources: this proxy would bear nothing\n");
    }
    for (configured, source) in config.sources.iter().zip(sources.iter()) {
        let _ = writeln!(text, "{} ({})", configured.id, configured.kind.as_str());
        for entry in source.definitions() {
            let _ = writeln!(text, "  {}  {}", entry.id, entry.grants);
        }
    }
    text
}

fn value(config: &Config, sources: &Sources) -> Value {
    let sources = config.sources.iter().zip(sources.iter()).map(|(configured, source)| {
        let entries = source
            .definitions()
            .into_iter()
            .map(|entry| json!({"id": entry.id, "label": entry.label, "verbs": entry.grants}));
        json!({
            "id": configured.id,
            "kind": configured.kind.as_str(),
            "capabilities": entries.collect::<Vec<_>>(),
        })
    });
    json!({
        "ok": true,
        "config": config.file,
        "healthInterval": config.health_interval.as_secs(),
        "sources": sources.collect::<Vec<_>>(),
    })
}
