//! What a yes would give, told before it is given: by the very rule that gives it.

use plexus_shared::gate::members::Whole;
use plexus_shared::ids::CapabilityId;
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::scope::MemberScope;
use plexus_shared::model::trust::TrustWindow;
use plexus_shared::model::verb::VerbSet;
use serde::Serialize;

use super::Trust;
use super::approvals::is_as_asked;
use crate::store::rows::PendingRow;

/// What a yes to one asked capability would give.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// On what.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// For how long, when the owner picks nothing; absent when a yes is refused, since the capability
    /// has changed or gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_window: Option<TrustWindow>,
    /// The most that a picked length comes to: `once` when nothing longer can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<TrustWindow>,
    /// For which inputs; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// What a workflow's run calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberScope>,
}

impl Trust {
    /// What a yes to `item` would give now, capability by capability.
    pub fn preview(&self, item: &PendingRow) -> Vec<Preview> {
        let catalog = self.core.registry.catalog();
        let longest = Some(TrustWindow::Custom { ms: u64::MAX });
        let preview = |ask| {
            let window = |picked| {
                let stands = is_as_asked(&catalog, ask);
                stands.then(|| self.yes(&catalog, item, ask, picked).grant.window)
            };
            Preview {
                id: ask.id.clone(),
                verbs: ask.verbs,
                trust_window: window(None),
                longest: window(longest),
                constraint: ask.constraint.clone(),
                members: Whole::of(&catalog, ask.id.as_str(), ask.verbs)
                    .members
                    .unwrap_or_default(),
            }
        };
        item.asks().iter().map(preview).collect()
    }
}
