//! What permissions are differs between operating systems; the difference ends here.

use std::io;

use cap_std::fs::{File, Metadata, OpenOptions};

/// The file these options create is for this account alone.
#[cfg(unix)]
pub(super) fn private(options: &mut OpenOptions) {
    cap_std::fs::OpenOptionsExt::mode(options, 0o600);
}

/// The file these options create is for this account alone.
#[cfg(not(unix))]
pub(super) fn private(_options: &mut OpenOptions) {}

/// Gives `file` the permission bits of the one it replaces, and its owner and group as far as this
/// account may. Set-user-id and its like are not kept: they vouched for the old content.
#[cfg(unix)]
pub(super) fn keep_permissions(file: &File, replaced: &Metadata) -> io::Result<()> {
    use cap_std::fs::{MetadataExt, Permissions, PermissionsExt};
    use std::os::unix::fs::fchown;

    if fchown(file, Some(replaced.uid()), Some(replaced.gid())).is_err() {
        let _only_the_owner_may = fchown(file, None, Some(replaced.gid()));
    }
    file.set_permissions(Permissions::from_mode(replaced.mode() & 0o777))
}

/// Gives `file` the permissions of the one it replaces.
#[cfg(not(unix))]
pub(super) fn keep_permissions(file: &File, replaced: &Metadata) -> io::Result<()> {
    file.set_permissions(replaced.permissions())
}
