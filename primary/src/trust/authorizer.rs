//! Who decides whether an agent gets what it asks for. The seam between asking and granting.

use plexus_shared::ids::{AgentId, CapabilityId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::trust::Provenance;
use plexus_shared::model::verb::VerbSet;

use crate::settings::Policy;

/// What is asked, as plain facts.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub subject: &'a AgentId,
    /// For what.
    pub entry: &'a CapabilityId,
    /// For which inputs, where it says so.
    pub constraint: Option<&'a Constraint>,
    /// The capability's class.
    pub provenance: Provenance,
    /// The verbs asked for.
    pub verbs: VerbSet,
    /// A standing, unexpired grant covers exactly this.
    pub held: bool,
    /// The owner revoked this before, and has not allowed it since.
    pub tombstoned: bool,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Yes, at once.
    Allow,
    /// The owner is asked, for this reason.
    Ask(&'static str),
    /// No, for this reason; the owner isn't asked.
    Deny(&'static str),
}

/// Decides on what agents ask for. None of those shipped says no by itself: that is the owner's.
pub trait Authorizer: Send + Sync {
    /// Decides one question.
    fn decide(&self, question: &Question<'_>) -> Decision;
}

/// The default: reads of what the owner vouched for are allowed, all else waits for the owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfirmRisky;

impl Authorizer for ConfirmRisky {
    fn decide(&self, question: &Question<'_>) -> Decision {
        match question {
            Question { held: true, .. } => Decision::Allow,
            Question { provenance: Provenance::Extension, .. } => {
                Decision::Ask("the capability comes from a source the owner has not vouched for")
            }
            Question { verbs, .. } if verbs.mutates() => {
                Decision::Ask("it changes something, or runs something")
            }
            Question { tombstoned: true, .. } => Decision::Ask("the owner revoked this before"),
            _ => Decision::Allow,
        }
    }
}

/// Everything that is not held waits for the owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfirmAll;

impl Authorizer for ConfirmAll {
    fn decide(&self, question: &Question<'_>) -> Decision {
        match question.held {
            true => Decision::Allow,
            false => Decision::Ask("you confirm everything"),
        }
    }
}

/// Nothing waits. For tests; whoever names it in the settings file is told so at every start.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutoApprove;

impl Authorizer for AutoApprove {
    fn decide(&self, _: &Question<'_>) -> Decision {
        Decision::Allow
    }
}

impl Policy {
    /// Who decides under this policy.
    pub fn authorizer(self) -> &'static dyn Authorizer {
        match self {
            Self::ConfirmRisky => &ConfirmRisky,
            Self::ConfirmAll => &ConfirmAll,
            Self::AutoApprove => &AutoApprove,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plexus_shared::model::verb::Verb;

    #[test]
    #[allow(clippy::unwrap_used, reason = "tests")]
    fn only_reads_of_vouched_sources_and_what_is_held_pass_unasked() {
        let (subject, entry) = (&"ada".parse().unwrap(), &"a.b.c".parse().unwrap());
        let write: VerbSet = [Verb::Write].into_iter().collect();
        let execute: VerbSet = [Verb::Read, Verb::Execute].into_iter().collect();
        for class in [Provenance::FirstParty, Provenance::Managed, Provenance::Extension] {
            for verbs in [VerbSet::READ, write, execute] {
                for (held, tombstoned) in
                    [(true, false), (true, true), (false, false), (false, true)]
                {
                    let vouched = class != Provenance::Extension;
                    let allowed = held || (vouched && verbs == VerbSet::READ && !tombstoned);
                    let (provenance, constraint) = (class, None);
                    let question = Question {
                        subject,
                        entry,
                        constraint,
                        provenance,
                        verbs,
                        held,
                        tombstoned,
                    };
                    let decision = ConfirmRisky.decide(&question);
                    assert_eq!(decision == Decision::Allow, allowed, "{question:?}");
                    let all = Policy::ConfirmAll.authorizer().decide(&question);
                    assert_eq!(all == Decision::Allow, held, "{question:?}");
                    let none = Policy::AutoApprove.authorizer().decide(&question);
                    assert_eq!(none, Decision::Allow);
                }
            }
        }
    }
}
