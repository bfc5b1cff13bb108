//! What granting a workflow lets its run do, and how risky that makes it.

use crate::gate::sensitivity::sensitivity;
use crate::model::entry::EntryKind;
use crate::model::scope::MemberScope;
use crate::model::trust::{Provenance, Sensitivity};
use crate::model::verb::{Verb, VerbSet};
use crate::source::registry::{Catalog, Registered};

/// The most members a workflow may come to, those of its members included.
pub const MAX_MEMBERS: usize = 64;
/// How many workflows may lie within one another.
pub const MAX_DEPTH: usize = 4;

/// Every member that a run of `workflow` may reach, each once, with every verb it is used with. A member
/// must be there, and be used with its own verbs only.
///
/// # Errors
/// Why the workflow can't be granted, for people.
pub fn member_scopes(catalog: &Catalog, workflow: &str) -> Result<Vec<MemberScope>, String> {
    let listed = catalog.get(workflow).ok_or_else(|| format!("there is no {workflow}"))?;
    let mut walk = Walk { catalog, path: Vec::new(), found: Vec::new(), visits: 0 };
    walk.enter(&listed.target)?;
    Ok(walk.found)
}

struct Walk<'a> {
    catalog: &'a Catalog,
    path: Vec<&'a str>,
    found: Vec<MemberScope>,
    visits: usize,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, workflow: &'a Registered) -> Result<(), String> {
        let id = workflow.definition.id.as_str();
        if self.path.contains(&id) {
            return Err(format!("{id} is a member of itself"));
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(format!("{id} lies more than {MAX_DEPTH} workflows deep"));
        }
        self.path.push(id);
        for member in &workflow.definition.members {
            self.visits += 1;
            let listed = self.catalog.get(member.id.as_str());
            let target =
                &listed.ok_or_else(|| format!("its member {} is not there", member.id))?.target;
            let has = target.definition.grants;
            if member.verbs.is_empty() || !has.covers(member.verbs) {
                return Err(format!("its member {} has {has}, not {}", member.id, member.verbs));
            }
            match self.found.iter_mut().find(|scope| scope.id == member.id) {
                Some(scope) => scope.verbs = scope.verbs.union(member.verbs),
                None => {
                    self.found.push(MemberScope { id: member.id.clone(), verbs: member.verbs });
                }
            }
            if self.found.len() > MAX_MEMBERS || self.visits > MAX_MEMBERS * MAX_MEMBERS {
                return Err(format!("it comes to more than {MAX_MEMBERS} members"));
            }
            if target.definition.kind == EntryKind::Workflow {
                self.enter(target)?;
            }
        }
        self.path.pop();
        Ok(())
    }
}

/// What granting some verbs on an entry comes to: for a workflow, with all its members. What is asked of
/// the owner, and for how long a yes stands, goes by this.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its members; none for another kind of entry, and when they can't be told.
    pub members: Vec<MemberScope>,
    /// The verbs, its members' too; every verb when they can't be told.
    pub verbs: VerbSet,
    /// Its class; `extension` when a member has that one, or can't be told.
    pub class: Provenance,
    /// The most risk of them all.
    pub sensitivity: Sensitivity,
}

impl Whole {
    /// What `verbs` on `id` come to.
    pub fn of(catalog: &Catalog, id: &str, verbs: VerbSet) -> Self {
        let Some(listed) = catalog.get(id) else { return Self::unknown(verbs) };
        let members = match listed.target.definition.kind {
            EntryKind::Workflow => member_scopes(catalog, id),
            EntryKind::Capability | EntryKind::Skill => Ok(Vec::new()),
        };
        let Ok(members) = members else {
            return Self::unknown(Verb::ALL.iter().copied().collect());
        };
        let mut whole = Self::alone(&listed.target, verbs);
        for member in &members {
            let target = catalog.get(member.id.as_str()).map(|listed| &listed.target);
            let part = match target {
                Some(target) => Self::alone(target, member.verbs),
                None => Self::unknown(member.verbs),
            };
            whole.verbs = whole.verbs.union(part.verbs);
            whole.sensitivity = whole.sensitivity.max(part.sensitivity);
            if part.class == Provenance::Extension {
                whole.class = part.class;
            }
        }
        Self { members, ..whole }
    }

    fn alone(target: &Registered, verbs: VerbSet) -> Self {
        let class = target.posture.provenance;
        let sensitivity = sensitivity(class, target.definition.transport, verbs);
        Self { members: Vec::new(), verbs, class, sensitivity }
    }

    fn unknown(verbs: VerbSet) -> Self {
        let (class, sensitivity) = (Provenance::Extension, Sensitivity::High);
        Self { members: Vec::new(), verbs, class, sensitivity }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::exposure::ExposureRules;
    use crate::model::health::{Health, HealthStatus};
    use crate::source::health::HealthCell;
    use crate::source::registry::{Group, Offer, Registry};
    use crate::transport::Transport;

    /// A name, a verb, and members with a verb each.
    type Entry<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// Entries by name, verb and members: workflows where there are members.
    fn catalog(entries: &[Entry<'_>]) -> Arc<Catalog> {
        let registry = Registry::new(1, ExposureRules::new(Vec::new()));
        let offer = |(id, verb, members): &Entry<'_>| {
            let workflow = !members.is_empty();
            let member = |(id, verb): &(&str, &str)| json!({"id": id, "verbs": [verb]});
            let definition = json!({
                "id": id, "source": "s", "label": "x", "describe": "x", "grants": [verb],
                "kind": if workflow { "workflow" } else { "capability" },
                "transport": if workflow { "workflow" } else { "cli" },
                "members": members.iter().map(member).collect::<Vec<_>>(),
            });
            let definition = serde_json::from_value(definition).unwrap();
            Offer { definition, transport: Transport::Skill }
        };
        let offers = entries.iter().map(offer).collect();
        let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Ok)));
        let class = Provenance::Managed;
        registry.put("s", Group { class, shown_by_default: true, health, offers });
        registry.catalog()
    }

    #[test]
    fn a_workflow_comes_with_every_member_down_to_the_last() {
        let catalog = catalog(&[
            ("s.a.read", "read", &[]),
            ("s.b.write", "write", &[]),
            ("s.inner.run", "read", &[("s.b.write", "write")]),
            ("s.outer.run", "read", &[("s.a.read", "read"), ("s.inner.run", "read")]),
        ]);
        let scopes = member_scopes(&catalog, "s.outer.run").unwrap();
        let scopes: Vec<_> = scopes.iter().map(|s| format!("{} {}", s.id, s.verbs)).collect();
        assert_eq!(scopes, ["s.a.read read", "s.inner.run read", "s.b.write write"]);
        assert_eq!(
            Whole::of(&catalog, "s.outer.run", VerbSet::READ).sensitivity,
            Sensitivity::High
        );
        assert_eq!(Whole::of(&catalog, "s.a.read", VerbSet::READ).sensitivity, Sensitivity::Low);
        let outer = catalog.get("s.outer.run").unwrap();
        assert_eq!(outer.target.posture.sensitivity, Sensitivity::High, "its entry says so too");
        assert!(member_scopes(&catalog, "s.a.read").unwrap().is_empty());
    }

    #[test]
    fn a_workflow_that_can_not_be_judged_can_not_be_granted() {
        let circle: &[Entry<'_>] = &[
            ("s.a.run", "read", &[("s.b.run", "read")]),
            ("s.b.run", "read", &[("s.a.run", "read")]),
        ];
        let absent: &[Entry<'_>] = &[("s.a.run", "read", &[("s.b.run", "read")])];
        let more: &[Entry<'_>] =
            &[("s.a.run", "read", &[("s.b.read", "write")]), ("s.b.read", "read", &[])];
        for (entries, why) in [(circle, "itself"), (absent, "not there"), (more, "not write")] {
            let catalog = catalog(entries);
            let refused = member_scopes(&catalog, "s.a.run").unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(
                Whole::of(&catalog, "s.a.run", VerbSet::READ).sensitivity,
                Sensitivity::High
            );
        }
        assert!(member_scopes(&catalog(more), "s.no.run").is_err());
    }

    #[test]
    fn a_workflow_of_too_many_members_is_refused() {
        let ids: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("s.m{n}.read")).collect();
        let members: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "read")).collect();
        let mut entries: Vec<Entry<'_>> =
            ids.iter().map(|id| (id.as_str(), "read", &[][..])).collect();
        entries.push(("s.all.run", "read", &members));
        assert!(member_scopes(&catalog(&entries), "s.all.run").unwrap_err().contains("64"));
    }
}
