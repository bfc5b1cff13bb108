//! Addresses: parse, mount, translate back.
//!
//! `tenant/workload-path…/source.noun.verb`: `/` separates location, `.` the tail. An address has
//! one spelling, so that comparing texts compares addresses. A proxy knows only bare ids; the
//! primary puts its [`MountPoint`] before them on the way up and takes it off on the way down.

use std::{fmt, str::FromStr};

use crate::limits;

text_newtype! {
    /// A workload's name: `[a-z0-9][a-z0-9-]{0,62}`.
    WorkloadName
}

text_newtype! {
    /// A tenant's name, in the grammar of a workload's.
    Tenant
}

text_newtype! {
    /// A capability's id at its home: three or more segments `[A-Za-z0-9][A-Za-z0-9_-]*` joined by
    /// dots, at most [`limits::BARE_ID`] bytes, and never a `/`.
    BareId
}

/// Where a capability is and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    tenant: Tenant,
    workload: Vec<WorkloadName>,
    tail: BareId,
}

/// Where a workload's capabilities are mounted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountPoint {
    tenant: Tenant,
    workload: WorkloadName,
}

/// Why a text is no name, id or address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A tenant or workload name is wrong.
    #[error("{0:?} is not a name: 1 to 63 of a-z, 0-9 and '-', not starting with '-'")]
    Name(String),
    /// A bare id is wrong.
    #[error("{0:?} is not a capability id of the form source.noun.verb")]
    BareId(String),
    /// There are too few or too many parts.
    #[error(
        "an address is tenant/workload/source.noun.verb with at most {} workload names",
        limits::WORKLOAD_DEPTH
    )]
    Shape,
}

impl Address {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The workload path, at least one name, outermost first.
    #[must_use]
    pub fn workload(&self) -> &[WorkloadName] {
        &self.workload
    }

    /// The id at its home.
    #[must_use]
    pub fn tail(&self) -> &BareId {
        &self.tail
    }
}

impl MountPoint {
    /// The mount point of a workload.
    #[must_use]
    pub fn new(tenant: Tenant, workload: WorkloadName) -> Self {
        Self { tenant, workload }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The workload.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// The address of what the workload calls `id`.
    #[must_use]
    pub fn mount(&self, id: &BareId) -> Address {
        Address {
            tenant: self.tenant.clone(),
            workload: vec![self.workload.clone()],
            tail: id.clone(),
        }
    }

    /// What the workload calls this address; `None` if it is not mounted here.
    #[must_use]
    pub fn unmount(&self, address: &Address) -> Option<BareId> {
        let here = address.tenant == self.tenant
            && address.workload.as_slice() == std::slice::from_ref(&self.workload);
        here.then(|| address.tail.clone())
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("local".to_owned())
    }
}

impl FromStr for WorkloadName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse_name(text).map(Self)
    }
}

impl FromStr for Tenant {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse_name(text).map(Self)
    }
}

impl FromStr for BareId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let well_formed = text.len() <= limits::BARE_ID
            && text.split('.').count() >= 3
            && text.split('.').all(is_segment);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(AddressError::BareId(clip(text))) }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > limits::ADDRESS {
            return Err(AddressError::Shape);
        }
        let (location, tail) = text.rsplit_once('/').ok_or(AddressError::Shape)?;
        let (tenant, path) = location.split_once('/').ok_or(AddressError::Shape)?;
        if path.split('/').count() > limits::WORKLOAD_DEPTH {
            return Err(AddressError::Shape);
        }
        Ok(Self {
            tenant: tenant.parse()?,
            workload: path.split('/').map(str::parse).collect::<Result<_, _>>()?,
            tail: tail.parse()?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.tenant)?;
        for name in &self.workload {
            write!(f, "{name}/")?;
        }
        write!(f, "{}", self.tail)
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.workload)
    }
}

serde_as_text!(Address);

fn parse_name(text: &str) -> Result<String, AddressError> {
    let well_formed = (1..=limits::NAME).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if well_formed { Ok(text.to_owned()) } else { Err(AddressError::Name(clip(text))) }
}

fn is_segment(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The beginning of a refused text, enough to recognise it by.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        "[a-z0-9][a-z0-9-]{0,62}"
    }

    fn bare_id() -> impl Strategy<Value = String> {
        "[A-Za-z0-9][A-Za-z0-9_-]{0,20}(\\.[A-Za-z0-9][A-Za-z0-9_-]{0,20}){2,5}"
    }

    proptest! {
        #[test]
        fn parsing_what_is_displayed_gives_the_same(
            tenant in name(),
            path in proptest::collection::vec(name(), 1..=limits::WORKLOAD_DEPTH),
            tail in bare_id(),
        ) {
            let text = format!("{tenant}/{}/{tail}", path.join("/"));
            let address: Address = text.parse().unwrap();
            prop_assert_eq!(address.to_string(), text);
        }

        #[test]
        fn unmounting_undoes_mounting(tenant in name(), workload in name(), id in bare_id()) {
            let mount = MountPoint::new(tenant.parse().unwrap(), workload.parse().unwrap());
            let id: BareId = id.parse().unwrap();
            prop_assert_eq!(mount.unmount(&mount.mount(&id)), Some(id));
        }

        #[test]
        fn a_bare_id_has_no_location(text in any::<String>()) {
            if let Ok(id) = text.parse::<BareId>() {
                prop_assert!(!id.as_str().contains('/'));
            }
        }

        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in any::<String>()) {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }

    #[test]
    fn only_the_own_prefix_unmounts() {
        let nas = MountPoint::new(Tenant::default(), "nas".parse().unwrap());
        for other in
            ["local/na/a.b.c", "local/nas2/a.b.c", "other/nas/a.b.c", "local/nas/nas/a.b.c"]
        {
            assert_eq!(nas.unmount(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn names_and_ids_out_of_grammar_are_refused() {
        for text in ["", "-a", "A", "a_b", "a/b", "ä", &"a".repeat(64)] {
            assert!(text.parse::<WorkloadName>().is_err(), "{text:?}");
        }
        for text in ["", "a.b", "a..b.c", "a.b.", ".a.b", "a.b/c.d", "a.b.c d", "_a.b.c"] {
            assert!(text.parse::<BareId>().is_err(), "{text:?}");
        }
        for text in ["a.b.c", "nas/a.b.c", "local//a.b.c", "/nas/a.b.c", "local/nas/"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
