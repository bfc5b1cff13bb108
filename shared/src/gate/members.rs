//! What granting a workflow lets its run do, and how risky that makes it.

use crate::gate::sensitivity::sensitivity;
use crate::model::entry::EntryKind;
use crate::model::scope::MemberScope;
use crate::model::trust::Sensitivity;
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

/// The risk of `id` as a whole: for a workflow the most over itself and its members, `high` when they
/// can't be told.
pub fn whole_sensitivity(catalog: &Catalog, id: &str) -> Sensitivity {
    let Some(listed) = catalog.get(id) else { return Sensitivity::High };
    let own = listed.target.posture.sensitivity;
    if listed.target.definition.kind != EntryKind::Workflow {
        return own;
    }
    let Ok(members) = member_scopes(catalog, id) else { return Sensitivity::High };
    let of = |scope: &MemberScope| {
        let target = &catalog.get(scope.id.as_str())?.target;
        let Registered { definition, posture, .. } = &**target;
        Some(sensitivity(posture.provenance, definition.transport, scope.verbs))
    };
    let members = members.iter().map(|scope| of(scope).unwrap_or(Sensitivity::High));
    members.fold(own, Ord::max)
}
