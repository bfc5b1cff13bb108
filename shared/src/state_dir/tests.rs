#![allow(clippy::unwrap_used, reason = "tests")]
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_absent_folder_is_made_private() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("a/b")).unwrap();
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(dir.subdir("audit").unwrap().path()), 0o700);
}

#[test]
fn a_folder_others_may_enter_is_refused_untouched_with_the_remedy() {
    let temp = tempfile::tempdir().unwrap();
    chmod(temp.path(), 0o750);
    let error = StateDir::open(temp.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("chmod 700 {}", temp.path().display())), "{error}");
    assert_eq!(mode(temp.path()), 0o750);
}

#[test]
fn a_symlink_and_a_file_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let real = temp.path().join("real");
    StateDir::open(&real).unwrap();
    let link = temp.path().join("link");
    symlink(&real, &link).unwrap();
    assert!(matches!(StateDir::open(&link), Err(StateDirError::Symlink(_))));
    let slashed = PathBuf::from(format!("{}/", link.display()));
    assert!(matches!(StateDir::open(&slashed), Err(StateDirError::Symlink(_))));
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(StateDir::open(&file), Err(StateDirError::NotAFolder(_))));
}

#[test]
fn the_second_process_learns_who_has_the_folder() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("state")).unwrap();
    let lock = dir.lock().unwrap();
    let error = dir.lock().unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(
        error,
        format!(
            "{} is already in use by another process (pid {pid}); use that one, stop it, or name another folder",
            dir.path().display()
        )
    );
    drop(lock);
    drop(dir.lock().unwrap());
}

#[test]
fn a_file_is_replaced_whole_and_private_and_leaves_nothing_beside_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("state")).unwrap();
    assert!(dir.read("key").unwrap().is_none());
    dir.write("key", b"one").unwrap();
    dir.write("key", b"two").unwrap();
    assert_eq!(dir.read("key").unwrap().unwrap(), b"two");
    assert_eq!(mode(&dir.join("key")), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_open_to_others_special_or_huge_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("state")).unwrap();
    dir.write("key", b"one").unwrap();
    chmod(&dir.join("key"), 0o640);
    let error = dir.read("key").unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    symlink(dir.join("key"), dir.join("link")).unwrap();
    assert!(matches!(dir.read("link"), Err(StateDirError::NotAFile(_))));
    dir.subdir("folder").unwrap();
    assert!(matches!(dir.read("folder"), Err(StateDirError::NotAFile(_))));
    dir.write("big", &vec![0; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(dir.read("big"), Err(StateDirError::TooLarge(_))));
    for name in ["", ".", "..", "../key", "a/b"] {
        assert!(matches!(dir.read(name), Err(StateDirError::BadName(_))), "{name}");
        assert!(matches!(dir.write(name, b""), Err(StateDirError::BadName(_))), "{name}");
    }
}

#[test]
fn what_a_killed_process_left_half_written_is_gone_once_the_folder_is_taken() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("state")).unwrap();
    let ours = dir.join(".connection-key.0123456789abcdef");
    let others = [".connection-key", ".x.0123456789ABCDEF", ".x.0123", "x.0123456789abcdef"];
    for path in others.iter().map(|name| dir.join(name)).chain([ours.clone()]) {
        fs::write(path, "plx_live_").unwrap();
    }
    let _lock = dir.lock().unwrap();
    assert!(!ours.exists());
    assert!(others.iter().all(|name| dir.join(name).exists()), "nothing of anyone else's");
}

#[test]
fn files_are_listed_by_name_and_nothing_else_is() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("state")).unwrap();
    dir.write("b", b"2").unwrap();
    dir.write("a", b"1").unwrap();
    fs::write(dir.join(".c.on-its-way"), "3").unwrap();
    dir.subdir("folder").unwrap();
    symlink(dir.join("a"), dir.join("link")).unwrap();
    let names = || dir.files().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(), ["a", "b"]);
    dir.remove("a").unwrap();
    assert_eq!(names(), ["b"]);
}
