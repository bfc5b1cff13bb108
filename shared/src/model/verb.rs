//! Permission verbs and sets of them.

use std::fmt;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a capability does to the owner's machine, and so what must be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads, changing nothing.
    Read,
    /// Changes data.
    Write,
    /// Runs something.
    Execute,
}

impl Verb {
    /// Every verb, in contract order.
    pub const ALL: [Verb; 3] = [Verb::Read, Verb::Write, Verb::Execute];

    /// The verb as the wire and the owner see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Execute => 4,
        }
    }
}

/// A set of verbs. On the wire an array in contract order; repeated verbs count once, unknown ones
/// are refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct VerbSet(u8);

impl VerbSet {
    /// No verb at all.
    pub const EMPTY: VerbSet = VerbSet(0);
    /// `read` alone: what a bare "allow" means.
    pub const READ: VerbSet = VerbSet(1);

    /// Whether the set has no verb.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `verb` is in the set.
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// Whether every verb of `other` is in this set.
    pub const fn covers(self, other: VerbSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// The verbs of either set.
    #[must_use]
    pub const fn union(self, other: VerbSet) -> VerbSet {
        VerbSet(self.0 | other.0)
    }

    /// Whether the set does more than read.
    pub const fn mutates(self) -> bool {
        self.0 & !Self::READ.0 != 0
    }

    /// The verbs in contract order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.contains(*verb))
    }
}

impl FromIterator<Verb> for VerbSet {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |bits, verb| bits | verb.bit()))
    }
}

impl fmt::Display for VerbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, verb) in self.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "+" }, verb.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for VerbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl Serialize for VerbSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for verb in self.iter() {
            seq.serialize_element(&verb)?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for VerbSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Verb>::deserialize(deserializer)?.into_iter().collect())
    }
}
