//! The paths agents give: relative, `/`-separated, checked once and trusted in form afterwards.
//!
//! This check keeps nonsense out and makes refusals clear. It is not what confines an agent to the
//! folder: every path is resolved beneath a directory handle as well.

use std::path::{Component, Path};

use super::error::{CallError, GivenPath};

/// The longest path, in bytes.
pub(super) const MAX_BYTES: usize = 4096;
/// The most segments of a path.
const MAX_SEGMENTS: usize = 64;
/// What the names of files being written begin with; agents neither see nor name them.
pub(super) const TEMP_PREFIX: &str = ".plexus-tmp-";

/// A path inside a workspace, without `.`, `..` or empty segments. Empty for the folder itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelPath(String);

impl RelPath {
    /// Reads a path an agent gave.
    pub(super) fn parse(text: &str) -> Result<Self, CallError> {
        let bad = |why: &str| CallError::BadInput(format!("{}: {why}", GivenPath::new(text)));
        if text.len() > MAX_BYTES {
            return Err(bad("the path is longer than 4096 bytes"));
        }
        if text.starts_with('/') || Path::new(text).is_absolute() {
            return Err(CallError::Absolute);
        }
        if text.chars().any(char::is_control) {
            return Err(bad("a path holds no control characters"));
        }
        let segments: Vec<&str> =
            text.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
        if segments.contains(&"..") {
            return Err(CallError::Outside(GivenPath::new(text)));
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(bad("the path has more than 64 segments"));
        }
        if segments.iter().any(|segment| is_temporary(segment)) {
            return Err(bad("names beginning with .plexus-tmp- are reserved"));
        }
        if !segments.iter().all(|segment| is_one_name(segment)) {
            return Err(bad("a segment is not a file name on this system"));
        }
        Ok(Self(segments.join("/")))
    }

    /// The folder itself.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// As shown to the agent and handed to the directory handle: `.` for the folder itself.
    pub(super) fn as_str(&self) -> &str {
        if self.is_root() { "." } else { &self.0 }
    }

    /// The folder that holds it and its name there; `None` for the folder itself.
    pub(super) fn split(&self) -> Option<(RelPath, &str)> {
        match self.0.rsplit_once('/') {
            _ if self.is_root() => None,
            Some((parent, name)) => Some((Self(parent.to_owned()), name)),
            None => Some((Self(String::new()), &self.0)),
        }
    }

    /// The path of the entry `name` in this folder.
    pub(super) fn child(&self, name: &str) -> RelPath {
        if self.is_root() { Self(name.to_owned()) } else { Self(format!("{}/{name}", self.0)) }
    }

    /// Quoted, for a message.
    pub(super) fn given(&self) -> GivenPath {
        GivenPath::new(self.as_str())
    }

    /// What `error` means here.
    pub(super) fn failed(&self, error: &std::io::Error) -> CallError {
        CallError::at(self.as_str(), error)
    }
}

/// Whether `name` is one of a file being written, whatever the case the file system ignores.
pub(super) fn is_temporary(name: &str) -> bool {
    name.get(..TEMP_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(TEMP_PREFIX))
}

/// Whether this operating system, too, sees one plain name: elsewhere `\` separates and `c:` leads away.
fn is_one_name(segment: &str) -> bool {
    let mut components = Path::new(segment).components();
    matches!(components.next(), Some(Component::Normal(name)) if name == segment)
        && components.next().is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_path_is_relative_and_reads_the_same_however_it_is_written() {
        for (text, path) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a", "a"),
            ("./a//b/./c/", "a/b/c"),
            ("…/ü", "…/ü"),
            ("..a/b..", "..a/b.."),
            ("...", "..."),
        ] {
            assert_eq!(RelPath::parse(text).unwrap().as_str(), path, "{text:?}");
        }
        #[cfg(unix)]
        assert_eq!(RelPath::parse(r"a\..\b").unwrap().as_str(), r"a\..\b");
    }

    #[test]
    fn a_path_that_climbs_or_starts_at_the_root_is_outside() {
        for text in ["..", "../", "a/../b", "a/..", "/", "/etc/passwd", "//x", "./../x"] {
            assert_eq!(RelPath::parse(text).unwrap_err().reason(), "outside", "{text:?}");
        }
    }

    #[test]
    fn a_path_that_is_no_path_is_bad_input() {
        let long = "x".repeat(MAX_BYTES + 1);
        let deep = "d/".repeat(MAX_SEGMENTS + 1);
        for text in
            ["a\0b", "a\nb", "\u{7f}", "\u{9b}x", &long, &deep, ".plexus-tmp-1", "a/.PLEXUS-tmp-/b"]
        {
            assert_eq!(RelPath::parse(text).unwrap_err().reason(), "bad_input", "{text:?}");
        }
    }

    #[test]
    fn a_path_splits_into_its_folder_and_name() {
        let path = RelPath::parse("a/b/c").unwrap();
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.as_str(), name), ("a/b", "c"));
        assert_eq!(parent.child(name), path);
        let top = RelPath::parse("a").unwrap();
        assert_eq!(top.split().unwrap().0.as_str(), ".");
        assert!(RelPath::parse(".").unwrap().split().is_none());
    }
}
