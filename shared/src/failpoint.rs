//! Places around every write of a node's state where a test has the process die on the spot.
//!
//! `PLEXUS_FAILPOINT=store.committed:3` ends the process the third time it passes there: no destructor
//! runs and nothing is flushed, as when it is killed. Builds with debug assertions know these places;
//! a release has none of this, whatever its environment says.

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place around a write.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[$doc])* $variant,)*
        }

        impl Point {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in the environment.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    /// A folder of the state was made.
    FolderMade = "folder.made",
    /// The state folder is this process's.
    FolderLocked = "folder.locked",
    /// A file is about to be replaced.
    FileBefore = "file.before",
    /// Its new bytes are on disk under another name.
    FileWritten = "file.written",
    /// They have its name.
    FileReplaced = "file.replaced",
    /// A file was removed.
    FileRemoved = "file.removed",
    /// A new store's file is there under another name, and empty.
    StoreMade = "store.made",
    /// Its tables are there.
    StorePrepared = "store.prepared",
    /// It has its name.
    StoreNamed = "store.named",
    /// Changes are about to be written.
    StoreBefore = "store.before",
    /// They are written and not committed.
    StoreWritten = "store.written",
    /// They are committed, and no one knows yet.
    StoreCommitted = "store.committed",
    /// A day's log is there, and empty.
    AuditMade = "audit.made",
    /// Lines are about to be written.
    AuditBefore = "audit.before",
    /// They are written, and no one knows yet.
    AuditWritten = "audit.written",
    /// What was cut off at the log's end was copied aside.
    AuditAside = "audit.aside",
    /// And cut.
    AuditCut = "audit.cut",
    /// Lines are about to be indexed.
    IndexBefore = "index.before",
    /// They are indexed.
    IndexCommitted = "index.committed",
}

/// Passes `point`; does not return when this is where the process is to end.
#[cfg(debug_assertions)]
pub fn pass(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLAN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let read = || {
        let text = std::env::var("PLEXUS_FAILPOINT").ok()?;
        let (name, left) = text.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(left.parse().ok()?)))
    };
    if let Some((name, left)) = PLAN.get_or_init(read)
        && name == point.as_str()
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// Passes `point`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn pass(_: Point) {}
