//! What granting a workflow lets its run do, and how risky that makes it.

use crate::gate::sensitivity::sensitivity;
use crate::model::entry::EntryKind;
use crate::model::input::Digest;
use crate::model::scope::MemberScope;
use crate::model::trust::{Extent, Provenance, Sensitivity};
use crate::model::verb::{Verb, VerbSet};
use crate::secret::sha256;
use crate::source::registry::{Catalog, Registered};

/// The most members a workflow may come to, those of its members included.
pub const MAX_MEMBERS: usize = 64;
/// How many workflows may lie within one another.
pub const MAX_DEPTH: usize = 4;

/// Every member that a run of `workflow` may reach, each once, with every verb it is used with. A member
/// must be there, and be used with its own verbs only; if not, why the workflow can't be granted.
fn member_scopes(catalog: &Catalog, workflow: &Registered) -> Result<Vec<MemberScope>, String> {
    let mut walk = Walk { catalog, path: Vec::new(), found: Vec::new(), visits: 0 };
    walk.enter(workflow)?;
    Ok(walk.found)
}

/// What identifies a capability as it is now: its definition, and those of all that its run may reach.
/// A yes to one call is bound to it.
pub fn identity(catalog: &Catalog, target: &Registered) -> Digest {
    if target.definition.kind != EntryKind::Workflow {
        return target.digest;
    }
    let mut all = target.digest.to_vec();
    match member_scopes(catalog, target) {
        Ok(members) => {
            let found = members.iter().filter_map(|member| catalog.get(member.id.as_str()));
            all.extend(found.flat_map(|listed| listed.target.digest));
        }
        Err(why) => all.extend(why.into_bytes()),
    }
    sha256(&all)
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
    /// Its members, none for another kind of entry; or why they can't be told, for people.
    pub members: Result<Vec<MemberScope>, String>,
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
        let Some(listed) = catalog.get(id) else {
            return Self::unknown(verbs, format!("there is no {id}"));
        };
        let members = match listed.target.definition.kind {
            EntryKind::Workflow => member_scopes(catalog, &listed.target),
            EntryKind::Capability | EntryKind::Skill => Ok(Vec::new()),
        };
        let members = match members {
            Ok(members) => members,
            Err(why) => return Self::unknown(Verb::ALL.iter().copied().collect(), why),
        };
        let mut whole = Self::alone(&listed.target, verbs);
        // Each was found in this very catalog.
        let targets = members.iter().filter_map(|m| Some((m, &catalog.get(m.id.as_str())?.target)));
        for (member, target) in targets {
            let part = Self::alone(target, member.verbs);
            whole.verbs = whole.verbs.union(part.verbs);
            whole.sensitivity = whole.sensitivity.max(part.sensitivity);
            if part.class == Provenance::Extension {
                whole.class = part.class;
            }
        }
        Self { members: Ok(members), ..whole }
    }

    fn alone(target: &Registered, verbs: VerbSet) -> Self {
        let class = target.posture.provenance;
        let sensitivity = sensitivity(class, target.definition.transport, verbs);
        Self { members: Ok(Vec::new()), verbs, class, sensitivity }
    }

    fn unknown(verbs: VerbSet, why: String) -> Self {
        let (class, sensitivity) = (Provenance::Extension, Sensitivity::High);
        Self { members: Err(why), verbs, class, sensitivity }
    }

    /// Its members; none when they can't be told.
    pub fn known_members(&self) -> &[MemberScope] {
        self.members.as_deref().unwrap_or_default()
    }

    /// What a yes to it is a yes to.
    pub fn extent(&self) -> Extent {
        let members = self.known_members().iter().map(|member| member.id.clone()).collect();
        Extent { verbs: self.verbs, class: self.class, members }
    }

    /// Whether it is no more than what was approved. Where that is not known, only what comes to
    /// itself alone is.
    pub fn within(&self, approved: Option<&Extent>) -> bool {
        let Ok(members) = &self.members else { return false };
        let Some(approved) = approved else { return members.is_empty() };
        approved.verbs.covers(self.verbs)
            && (self.class != Provenance::Extension || approved.class == Provenance::Extension)
            && members.iter().all(|member| approved.members.contains(&member.id))
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
        let whole = |id: &str| Whole::of(&catalog, id, VerbSet::READ);
        let scopes = whole("s.outer.run").members.unwrap();
        let scopes: Vec<_> = scopes.iter().map(|s| format!("{} {}", s.id, s.verbs)).collect();
        assert_eq!(scopes, ["s.a.read read", "s.inner.run read", "s.b.write write"]);
        assert_eq!(whole("s.outer.run").sensitivity, Sensitivity::High);
        assert_eq!(whole("s.a.read").sensitivity, Sensitivity::Low);
        let outer = catalog.get("s.outer.run").unwrap();
        assert_eq!(outer.target.posture.sensitivity, Sensitivity::High, "its entry says so too");
        assert!(whole("s.a.read").members.unwrap().is_empty());
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
            let whole = Whole::of(&catalog, "s.a.run", VerbSet::READ);
            assert_eq!(whole.sensitivity, Sensitivity::High);
            assert!(!whole.within(Some(&whole.extent())), "no yes to it stands");
            let refused = whole.members.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(Whole::of(&catalog(more), "s.no.run", VerbSet::READ).members.is_err());
    }

    #[test]
    fn a_workflow_of_too_many_members_is_refused() {
        let ids: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("s.m{n}.read")).collect();
        let members: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "read")).collect();
        let mut entries: Vec<Entry<'_>> =
            ids.iter().map(|id| (id.as_str(), "read", &[][..])).collect();
        entries.push(("s.all.run", "read", &members));
        let whole = Whole::of(&catalog(&entries), "s.all.run", VerbSet::READ);
        assert!(whole.members.unwrap_err().contains("64"));
    }

    #[test]
    fn a_yes_covers_what_it_came_to_and_nothing_wider() {
        let read = ("s.a.read", "read", &[][..]);
        let one: &[Entry<'_>] = &[read, ("s.w.run", "read", &[("s.a.read", "read")])];
        let whole = |entries: &[Entry<'_>]| Whole::of(&catalog(entries), "s.w.run", VerbSet::READ);
        let approved = whole(one).extent();
        assert!(whole(one).within(Some(&approved)));
        let writes: &[Entry<'_>] =
            &[("s.a.read", "write", &[]), ("s.w.run", "read", &[("s.a.read", "write")])];
        let more: &[Entry<'_>] = &[
            read,
            ("s.b.read", "read", &[]),
            ("s.w.run", "read", &[("s.a.read", "read"), ("s.b.read", "read")]),
        ];
        for wider in [writes, more] {
            assert!(!whole(wider).within(Some(&approved)), "{wider:?}");
        }
        let foreign = Whole { class: Provenance::Extension, ..whole(one) };
        assert!(!foreign.within(Some(&approved)));
        assert!(!whole(one).within(None), "what it came to is not known");
        assert!(Whole::of(&catalog(one), "s.a.read", VerbSet::READ).within(None));
    }
}
