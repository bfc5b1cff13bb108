//! What the owner is told, written by the gateway so that no agent can colour it.

use plexus_shared::gate::members::Whole;
use plexus_shared::gate::sensitivity::{Picker, choose_window};
use plexus_shared::ids::{AgentId, CapabilityId};
use plexus_shared::model::entry::EntryKind;
use plexus_shared::model::trust::{Provenance, Sensitivity, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use plexus_shared::source::extension::Preview;
use plexus_shared::source::registry::Catalog;
use serde::Serialize;

use crate::store::rows::{Ask, PendingRow};

/// The longest purpose an agent may give, in characters.
pub const MAX_PURPOSE: usize = 280;
const MAX_LINE: usize = 120;

/// One asked capability, in the gateway's words.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingNarration {
    /// On what.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// Its class.
    pub provenance: Provenance,
    /// How risky it is.
    pub sensitivity: Sensitivity,
    /// How long a plain yes stands.
    pub default_trust_window: TrustWindow,
    /// One sentence for the owner.
    pub summary: String,
    /// One short line for a notification.
    pub notification_line: String,
}

/// Tells what approving `ask` of `item` would mean; nothing when the capability has gone.
pub fn narrate(catalog: &Catalog, item: &PendingRow, ask: &Ask) -> Option<PendingNarration> {
    let target = &catalog.get(ask.id.as_str())?.target;
    let (agent, id, verbs, purpose) = (&item.agent, ask.id.as_str(), ask.verbs, &ask.purpose);
    let provenance = target.posture.provenance;
    let whole = Whole::of(catalog, id, verbs);
    let window = match item.single() {
        true => TrustWindow::Once,
        false => choose_window(Picker::Agent, whole.class, whole.verbs, None),
    };
    let loud = verbs.to_string().to_uppercase();
    let definition = &target.definition;
    let lasting = match window {
        TrustWindow::Once => "for one use".to_owned(),
        window => format!("for up to {window}; it can be revoked at any time"),
    };
    // Their words stay between our quotation marks.
    let quoted = |words: &str| words.replace(['“', '”', '"'], "'");
    let why = purpose.as_ref().map(|words| format!(" — “{}”", quoted(words))).unwrap_or_default();
    let members = match &whole.members {
        Ok(members) if members.is_empty() => String::new(),
        Ok(members) => {
            let named = members.iter().map(|member| format!("{} [{}]", member.id, member.verbs));
            format!(" Its run calls {}.", named.collect::<Vec<_>>().join(", "))
        }
        Err(why) => format!(" Its run would fail: {why}."),
    };
    Some(PendingNarration {
        id: definition.id.clone(),
        verbs,
        provenance,
        sensitivity: whole.sensitivity,
        default_trust_window: window,
        summary: format!(
            "Approving lets {agent} {loud} “{}” ({}) {lasting}.{members}",
            plain(&quoted(&definition.label), 80),
            definition.id,
        ),
        notification_line: plain(
            &format!("{agent} wants to {loud} {}{why}", quoted(&definition.label)),
            MAX_LINE,
        ),
    })
}

/// Tells what approving the extension that `agent` asks for would mean: in a sentence, and in a line.
pub fn narrate_extension(agent: &AgentId, preview: &Preview) -> [String; 2] {
    let label = plain(&preview.label.replace(['“', '”', '"'], "'"), 80);
    let skills = preview.entries.iter().filter(|entry| entry.kind == EntryKind::Skill).count();
    let calls = preview.entries.len() - skills;
    let source = &preview.source;
    [
        format!(
            "Approving adds “{label}” ({source}), as {agent} sent it, for every agent: {calls} that \
             can be asked for, and {skills} that are read as instructions."
        ),
        plain(&format!("{agent} wants to register “{label}” ({source})"), MAX_LINE),
    ]
}

/// `text` on one line, without characters that hide or move others, at most `max` characters long.
pub fn plain(text: &str, max: usize) -> String {
    let clean = |c: char| if c.is_control() || c.is_whitespace() { ' ' } else { c };
    let shown = |c: &char| !is_hidden(*c);
    let mut out: String = text.chars().map(clean).filter(shown).take(max + 1).collect();
    if out.chars().count() > max {
        out = out.chars().take(max.saturating_sub(1)).chain(['…']).collect();
    }
    out
}

/// Controls, formats, separators, blanks that are no space, and fillers.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_words_are_bounded_and_can_not_draw_outside_their_line() {
        assert_eq!(plain("a\nb\u{202e}c\u{1b}[31m", 20), "a bc [31m");
        assert_eq!(plain("a\u{2028}b\u{2029}c\u{85}d\u{61c}e\u{206a}f\u{e0041}", 20), "a b c def");
        assert_eq!(plain(&"x".repeat(500), 5), "xxxx…");
    }
}
