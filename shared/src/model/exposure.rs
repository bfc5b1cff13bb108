//! What the owner shows of a node: rules over ids, the last match wins.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// One rule: ids matching `pattern` (`*` any run, `?` any one character) are shown or hidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureRule {
    /// The pattern.
    pub pattern: String,
    /// Shown, or hidden.
    pub enabled: bool,
}

/// The owner's rules in order.
#[derive(Clone, Debug, Default)]
pub struct ExposureRules(Vec<(WildMatch, ExposureRule)>);

impl ExposureRules {
    /// Compiles `rules`.
    pub fn new(rules: Vec<ExposureRule>) -> Self {
        Self(rules.into_iter().map(|rule| (WildMatch::new(&rule.pattern), rule)).collect())
    }

    /// Whether `id` is shown; `default` when no rule speaks of it.
    pub fn exposed(&self, id: &str, default: bool) -> bool {
        let last = self.0.iter().rev().find(|(pattern, _)| pattern.matches(id));
        last.map_or(default, |(_, rule)| rule.enabled)
    }

    /// The rules in order.
    pub fn rules(&self) -> Vec<ExposureRule> {
        self.0.iter().map(|(_, rule)| rule.clone()).collect()
    }

    /// These rules with `rule` as the newest word on its pattern.
    #[must_use]
    pub fn with(&self, rule: ExposureRule) -> Self {
        let mut rules = self.rules();
        rules.retain(|old| old.pattern != rule.pattern);
        rules.push(rule);
        Self::new(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_rule_wins_and_silence_means_the_default() {
        let rule = |pattern: &str, enabled| ExposureRule { pattern: pattern.into(), enabled };
        let rules =
            ExposureRules::new(vec![rule("local/nas/*", true), rule("*.file.write", false)]);
        assert!(rules.exposed("local/nas/notes.file.read", false));
        assert!(!rules.exposed("local/nas/notes.file.write", false));
        assert!(rules.exposed("notes.file.read", true));
        assert!(!rules.exposed("local/other/notes.file.read", false));
        let rules = rules.with(rule("local/nas/*", true));
        assert!(rules.exposed("local/nas/notes.file.write", false), "the newest word wins");
    }
}
