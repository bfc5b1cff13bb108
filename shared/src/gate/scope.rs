//! Does a token's authority cover a call?

use crate::gate::constraint::satisfied;
use crate::model::denial::{Code, Denial};
use crate::model::input::Input;
use crate::model::scope::TokenScope;
use crate::model::verb::VerbSet;

/// Whether `scopes` say anything of `id` at all. A caller without a word of it is told that no such
/// capability exists, so hidden ids can't be probed.
pub fn mentions(scopes: &[TokenScope], id: &str) -> bool {
    scopes.iter().any(|scope| scope.id.as_str() == id)
}

/// What a call needs of a scope.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The capability.
    pub id: &'a str,
    /// Every verb it has.
    pub verbs: VerbSet,
    /// The workflow whose run makes the call; `None` for one that is presented directly.
    pub within: Option<&'a str>,
    /// The input.
    pub input: &'a Input,
}

/// One scope must cover the call whole: its id, every verb, who makes it, and its input.
///
/// # Errors
/// `grant_required` when none does.
pub fn covers(scopes: &[TokenScope], need: Need<'_>) -> Result<(), Denial> {
    let same = |scope: &&TokenScope| {
        let within = scope.synthesized_for.as_ref().map(|workflow| workflow.as_str());
        scope.id.as_str() == need.id && scope.verbs.covers(need.verbs) && within == need.within
    };
    let Need { id, verbs, .. } = need;
    let mut outside = false;
    for scope in scopes.iter().filter(same).filter(|_| !verbs.is_empty()) {
        match &scope.constraint {
            None => return Ok(()),
            Some(constraint) if holds(constraint, need.input) => return Ok(()),
            Some(_) => outside = true,
        }
    }
    let message = match outside {
        _ if verbs.is_empty() => format!("{id} is a skill: read its body in GET /manifest"),
        true => format!("the grant for {id} does not cover this input; ask for what you need"),
        false => format!("no grant for {id} with {verbs}; ask for it with PUT /grants"),
    };
    Err(Denial::new(Code::GrantRequired, message).about(id))
}

fn holds(constraint: &crate::model::constraint::Constraint, input: &Input) -> bool {
    input.value().is_some_and(|value| satisfied(constraint, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::verb::Verb;
    use serde_json::{json, value::RawValue};

    fn scope(id: &str, verbs: &[Verb]) -> TokenScope {
        let verbs = verbs.iter().copied().collect();
        TokenScope { id: id.parse().unwrap(), verbs, synthesized_for: None, constraint: None }
    }

    fn covered(scopes: &[TokenScope], id: &str, verbs: VerbSet, within: Option<&str>) -> bool {
        let input = Input::new(RawValue::from_string(r#"{"path":"in/a"}"#.to_owned()).unwrap());
        covers(scopes, Need { id, verbs, within, input: &input }).is_ok()
    }

    #[test]
    fn a_scope_covers_only_its_own_id_and_every_verb_in_one_scope() {
        let scopes = [scope("a.b.c", &[Verb::Read]), scope("a.b.c", &[Verb::Write])];
        let both = VerbSet::READ.union([Verb::Write].into_iter().collect());
        assert!(covered(&scopes, "a.b.c", VerbSet::READ, None));
        assert!(!covered(&scopes, "a.b.c", both, None), "two halves are not a whole");
        assert!(!covered(&scopes, "a.b.d", VerbSet::READ, None));
        assert!(!covered(&scopes, "a.b.c", VerbSet::EMPTY, None), "nothing needed is not a call");
        assert!(!covered(&[], "a.b.c", VerbSet::READ, None));
    }

    #[test]
    fn a_synthesized_scope_counts_within_its_workflows_run_alone() {
        let mut member = scope("a.b.c", &[Verb::Read]);
        member.synthesized_for = Some("w.f.run".parse().unwrap());
        let scopes = [member];
        assert!(covered(&scopes, "a.b.c", VerbSet::READ, Some("w.f.run")));
        assert!(!covered(&scopes, "a.b.c", VerbSet::READ, None), "presented directly it is inert");
        assert!(!covered(&scopes, "a.b.c", VerbSet::READ, Some("other.f.run")));
        assert!(!covered(
            &[scope("a.b.c", &[Verb::Read])],
            "a.b.c",
            VerbSet::READ,
            Some("w.f.run")
        ));
    }

    #[test]
    fn a_constraint_only_narrows() {
        let mut narrow = scope("a.b.c", &[Verb::Read]);
        let to = |place: &str| {
            let constraint = json!({"pathPrefix": {"field": "path", "allow": [place]}});
            Some(serde_json::from_value(constraint).unwrap())
        };
        narrow.constraint = to("in");
        assert!(covered(&[narrow.clone()], "a.b.c", VerbSet::READ, None));
        narrow.constraint = to("out");
        assert!(!covered(&[narrow.clone()], "a.b.c", VerbSet::READ, None));
        narrow.constraint = Some(serde_json::from_value(json!({})).unwrap());
        assert!(!covered(&[narrow], "a.b.c", VerbSet::READ, None), "an empty one never holds");
    }
}
