//! How risky a capability is, and how long an approval of it stands.

use std::time::Duration;

use crate::model::entry::TransportKind;
use crate::model::trust::{Provenance, Sensitivity, TrustWindow};
use crate::model::verb::{Verb, VerbSet};

/// The longest custom window an owner can pick, unless configured shorter: 30 days.
pub const MAX_CUSTOM_WINDOW: Duration = Duration::from_secs(30 * 86_400);

/// The risk of using `verbs` on a capability of class `provenance` reached over `transport`.
pub fn sensitivity(
    provenance: Provenance,
    transport: TransportKind,
    verbs: VerbSet,
) -> Sensitivity {
    let outward = matches!(transport, TransportKind::Cli | TransportKind::LocalRest);
    match (provenance, verbs.mutates()) {
        (Provenance::Extension, true) => Sensitivity::High,
        (_, true) if outward => Sensitivity::High,
        (Provenance::FirstParty | Provenance::Managed, true) | (Provenance::Extension, false) => {
            Sensitivity::Elevated
        }
        (Provenance::FirstParty | Provenance::Managed, false) => Sensitivity::Low,
    }
}

/// The window an approval of `verbs` gets by default, and the longest an agent may propose: the
/// shortest over the verbs.
pub fn default_window(provenance: Provenance, verbs: VerbSet) -> TrustWindow {
    let of = |verb| match (verb, provenance) {
        (Verb::Execute, _) => TrustWindow::Once,
        (Verb::Write, _) | (Verb::Read, Provenance::Extension) => TrustWindow::Day,
        (Verb::Read, Provenance::FirstParty | Provenance::Managed) => TrustWindow::Week,
    };
    verbs.iter().map(of).reduce(TrustWindow::shorter).unwrap_or(TrustWindow::Once)
}

/// Who asks for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picker {
    /// The owner: authoritative, within the cap.
    Owner,
    /// An agent: may only shorten the default.
    Agent,
}

/// The window an approval gets. `execute` is once, whoever asks for anything else.
pub fn choose_window(
    picker: Picker,
    provenance: Provenance,
    verbs: VerbSet,
    asked: Option<TrustWindow>,
) -> TrustWindow {
    let default = default_window(provenance, verbs);
    if verbs.contains(Verb::Execute) {
        return TrustWindow::Once;
    }
    match (picker, asked) {
        (_, None) => default,
        (Picker::Agent, Some(asked)) => asked.shorter(default),
        (Picker::Owner, Some(TrustWindow::Custom { ms })) => {
            let cap = u64::try_from(MAX_CUSTOM_WINDOW.as_millis()).unwrap_or(u64::MAX);
            TrustWindow::Custom { ms: ms.min(cap) }
        }
        (Picker::Owner, Some(asked)) => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [Provenance; 3] =
        [Provenance::FirstParty, Provenance::Managed, Provenance::Extension];

    fn every_verb_set() -> impl Iterator<Item = VerbSet> {
        (0..8_u8).map(|bits| {
            let set = Verb::ALL.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
            set.map(|(_, verb)| *verb).collect()
        })
    }

    #[test]
    fn sensitivity_follows_the_table() {
        use TransportKind::{Cli, Ipc, LocalRest};
        let write: VerbSet = [Verb::Write].into_iter().collect();
        let table = [
            (Provenance::FirstParty, Ipc, VerbSet::READ, Sensitivity::Low),
            (Provenance::Managed, Cli, VerbSet::READ, Sensitivity::Low),
            (Provenance::Extension, Ipc, VerbSet::READ, Sensitivity::Elevated),
            (Provenance::Managed, Ipc, write, Sensitivity::Elevated),
            (Provenance::Managed, Cli, write, Sensitivity::High),
            (Provenance::FirstParty, LocalRest, write, Sensitivity::High),
            (Provenance::Extension, Ipc, write, Sensitivity::High),
        ];
        for (class, transport, verbs, expected) in table {
            assert_eq!(sensitivity(class, transport, verbs), expected, "{class:?} {transport:?}");
        }
    }

    #[test]
    fn default_windows_follow_the_table_and_the_shortest_verb_wins() {
        let of = |class, verbs: &[Verb]| default_window(class, verbs.iter().copied().collect());
        assert_eq!(of(Provenance::Managed, &[Verb::Read]), TrustWindow::Week);
        assert_eq!(of(Provenance::Extension, &[Verb::Read]), TrustWindow::Day);
        assert_eq!(of(Provenance::FirstParty, &[Verb::Write]), TrustWindow::Day);
        assert_eq!(of(Provenance::FirstParty, &[Verb::Read, Verb::Write]), TrustWindow::Day);
        assert_eq!(of(Provenance::FirstParty, &[Verb::Read, Verb::Execute]), TrustWindow::Once);
        assert_eq!(of(Provenance::Managed, &[]), TrustWindow::Once);
    }

    #[test]
    fn execute_is_once_whoever_asks_for_whatever() {
        let asks = [None, Some(TrustWindow::UntilRevoked), Some(TrustWindow::Week)];
        for (class, verbs) in
            CLASSES.into_iter().flat_map(|c| every_verb_set().map(move |v| (c, v)))
        {
            for (picker, ask) in [Picker::Owner, Picker::Agent].into_iter().zip(asks.iter().cycle())
            {
                let window = choose_window(picker, class, verbs, *ask);
                if verbs.contains(Verb::Execute) {
                    assert_eq!(window, TrustWindow::Once);
                }
            }
        }
    }

    #[test]
    fn an_agent_only_shortens_and_an_owner_is_capped() {
        let read = VerbSet::READ;
        let agent = |ask| choose_window(Picker::Agent, Provenance::Managed, read, Some(ask));
        assert_eq!(agent(TrustWindow::UntilRevoked), TrustWindow::Week);
        assert_eq!(agent(TrustWindow::Hour), TrustWindow::Hour);
        assert_eq!(agent(TrustWindow::Once), TrustWindow::Once);
        let owner = |ask| choose_window(Picker::Owner, Provenance::Extension, read, Some(ask));
        assert_eq!(owner(TrustWindow::UntilRevoked), TrustWindow::UntilRevoked);
        let year = TrustWindow::Custom { ms: 365 * 86_400_000 };
        assert_eq!(owner(year), TrustWindow::Custom { ms: 30 * 86_400_000 });
    }
}
