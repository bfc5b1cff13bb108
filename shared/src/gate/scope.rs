//! Does a token's authority cover a call?

use crate::model::denial::{Code, Denial};
use crate::model::scope::TokenScope;
use crate::model::verb::VerbSet;

/// Whether `scopes` say anything of `id` at all. A caller without a word of it is told that no such
/// capability exists, so hidden ids can't be probed.
pub fn mentions(scopes: &[TokenScope], id: &str) -> bool {
    scopes.iter().any(|scope| scope.id.as_str() == id)
}

/// One scope must cover `id` with every verb of `needed`.
///
/// # Errors
/// `grant_required` when none does.
pub fn covers(scopes: &[TokenScope], id: &str, needed: VerbSet) -> Result<(), Denial> {
    let covered = scopes.iter().any(|scope| scope.id.as_str() == id && scope.verbs.covers(needed));
    if covered && !needed.is_empty() {
        return Ok(());
    }
    let message = format!("no grant for {id} with {needed}; ask for it with PUT /grants");
    Err(Denial::new(Code::GrantRequired, message).about(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::verb::Verb;

    fn scope(id: &str, verbs: &[Verb]) -> TokenScope {
        TokenScope { id: id.parse().unwrap(), verbs: verbs.iter().copied().collect() }
    }

    #[test]
    fn a_scope_covers_only_its_own_id_and_every_verb_in_one_scope() {
        let scopes = [scope("a.b.c", &[Verb::Read]), scope("a.b.c", &[Verb::Write])];
        let read = VerbSet::READ;
        let both = read.union([Verb::Write].into_iter().collect());
        assert!(covers(&scopes, "a.b.c", read).is_ok());
        assert!(covers(&scopes, "a.b.c", both).is_err(), "two halves are not a whole");
        assert!(covers(&scopes, "a.b.d", read).is_err());
        assert!(covers(&scopes, "a.b.c", VerbSet::EMPTY).is_err(), "nothing needed is not a call");
        assert!(covers(&[], "a.b.c", read).is_err());
    }
}
