//! Which events of the log a command is about.

use clap::builder::PossibleValuesParser;
use plexus_shared::audit::EventType;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::AgentId;

use super::super::client::segment;
use super::super::units::parse_moment;

/// What every command that reads the log can be asked.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filters {
    /// Only those of this agent.
    #[arg(long)]
    agent: Option<AgentId>,
    /// Only those on this capability.
    #[arg(long, value_name = "ID")]
    capability: Option<String>,
    /// Only those of this type: invoke, grant.allow, mesh.connect, …
    #[arg(long = "type", value_name = "TYPE", value_parser = event_types(), hide_possible_values = true)]
    kind: Option<String>,
    /// Only those that ended so.
    #[arg(long, value_parser = ["ok", "error", "denied"])]
    outcome: Option<String>,
    /// Only those of this kind of node.
    #[arg(long, value_parser = ["primary", "proxy"])]
    tier: Option<String>,
    /// Only those of this workload.
    #[arg(long)]
    workload: Option<String>,
    /// Only those of one call, on whichever node.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Only those from this moment on: 2026-06-23T11:00:00Z, or 1h for an hour ago.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Only those before this moment.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Timestamp>,
    /// Only those in which all of these words stand.
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
}

fn event_types() -> PossibleValuesParser {
    PossibleValuesParser::new(EventType::ALL.iter().map(|known| known.as_str()))
}

impl Filters {
    /// The gateway's path for at most `limit` of them, from `place` on.
    pub(super) fn path(&self, limit: usize, place: Option<(&str, u64)>) -> String {
        let asked = [
            ("agent", self.agent.as_ref().map(ToString::to_string)),
            ("capability", self.capability.clone()),
            ("type", self.kind.clone()),
            ("outcome", self.outcome.clone()),
            ("tier", self.tier.clone()),
            ("workload", self.workload.clone()),
            ("correlation", self.correlation.clone()),
            ("since", self.since.map(|since| since.to_string())),
            ("until", self.until.map(|until| until.to_string())),
            ("q", self.text.clone()),
        ];
        let asked = asked.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let place = place.map(|(name, seq)| (name, seq.to_string()));
        asked.chain(place).fold(format!("audit?limit={limit}"), |query, (name, value)| {
            format!("{query}&{name}={}", segment(&value))
        })
    }
}
