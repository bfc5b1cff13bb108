//! What granting a workflow lets its run do, and how risky that makes it.

use crate::gate::sensitivity::sensitivity;
use crate::model::entry::EntryKind;
use crate::model::scope::MemberScope;
use crate::model::trust::Sensitivity;
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

/// The verbs that granting `verbs` on `id` comes to: for a workflow its members' too, every verb when
/// they can't be told. What is asked of the owner, and for how long a yes stands, goes by these.
pub fn whole_verbs(catalog: &Catalog, id: &str, verbs: VerbSet) -> VerbSet {
    let workflow = catalog.get(id).is_some_and(|l| l.target.definition.kind == EntryKind::Workflow);
    match workflow.then(|| member_scopes(catalog, id)) {
        None => verbs,
        Some(Ok(members)) => members.iter().fold(verbs, |all, member| all.union(member.verbs)),
        Some(Err(_)) => Verb::ALL.iter().copied().collect(),
    }
}

/// The risk of `verbs` on `id` as a whole: for a workflow the most over itself and its members, `high`
/// when they can't be told.
pub fn whole_sensitivity(catalog: &Catalog, id: &str, verbs: VerbSet) -> Sensitivity {
    let of = |id: &str, verbs| {
        let Some(listed) = catalog.get(id) else { return Sensitivity::High };
        let Registered { definition, posture, .. } = &*listed.target;
        sensitivity(posture.provenance, definition.transport, verbs)
    };
    let own = of(id, verbs);
    let workflow = catalog.get(id).is_some_and(|l| l.target.definition.kind == EntryKind::Workflow);
    match workflow.then(|| member_scopes(catalog, id)) {
        None => own,
        Some(Ok(members)) => members.iter().map(|m| of(m.id.as_str(), m.verbs)).fold(own, Ord::max),
        Some(Err(_)) => Sensitivity::High,
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
    use crate::model::trust::Provenance;
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
        assert_eq!(whole_sensitivity(&catalog, "s.outer.run", VerbSet::READ), Sensitivity::High);
        assert_eq!(whole_sensitivity(&catalog, "s.a.read", VerbSet::READ), Sensitivity::Low);
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
            assert_eq!(whole_sensitivity(&catalog, "s.a.run", VerbSet::READ), Sensitivity::High);
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
