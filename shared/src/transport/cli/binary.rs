//! Which programs a manifest may name, and where they are.
//!
//! A manifest names a program by its bare name; what it names must do one thing with its arguments.
//! A program that runs what its arguments say would make every argument a command, and so every check
//! of arguments void: those are refused by name, in groups with a reason each, under whatever version
//! suffix, and again under the name they turn out to have once links are followed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Names that are refused, and why.
const REFUSED: [(&str, &[&str]); 9] = [
    (
        "it is a shell",
        &[
            "sh",
            "bash",
            "dash",
            "zsh",
            "fish",
            "ksh",
            "mksh",
            "ash",
            "csh",
            "tcsh",
            "rbash",
            "yash",
            "pwsh",
            "powershell",
            "cmd",
            "nu",
            "elvish",
            "xonsh",
            "rc",
            "es",
        ],
    ),
    (
        "it runs what its arguments name",
        &[
            "env",
            "xargs",
            "timeout",
            "nice",
            "ionice",
            "nohup",
            "setsid",
            "stdbuf",
            "time",
            "watch",
            "parallel",
            "entr",
            "script",
            "expect",
            "unbuffer",
            "chroot",
            "chrt",
            "taskset",
            "flock",
            "find",
            "fd",
            "fdfind",
            "command",
            "exec",
            "nsenter",
            "unshare",
            "bwrap",
            "firejail",
            "proot",
            "fakeroot",
            "setarch",
            "linux",
            "numactl",
            "prlimit",
            "dbus-run-session",
            "start-stop-daemon",
            "run-parts",
            "catchsegv",
            "runcon",
            "setpriv",
            "capsh",
            "cgexec",
            "choom",
            "uclampset",
            "tmux",
            "screen",
            "open",
            "xdg-open",
            "rlwrap",
            "socat",
            "nc",
            "ncat",
            "netcat",
        ],
    ),
    (
        "it acts as someone else",
        &[
            "sudo",
            "su",
            "doas",
            "pkexec",
            "runuser",
            "newgrp",
            "sg",
            "login",
            "machinectl",
            "polkit",
        ],
    ),
    (
        "it runs programs written in its arguments or in files",
        &[
            "awk",
            "gawk",
            "mawk",
            "nawk",
            "perl",
            "python",
            "pypy",
            "ipython",
            "ruby",
            "irb",
            "node",
            "nodejs",
            "deno",
            "bun",
            "php",
            "lua",
            "luajit",
            "tclsh",
            "wish",
            "osascript",
            "guile",
            "scheme",
            "racket",
            "sbcl",
            "ghci",
            "runghc",
            "erl",
            "elixir",
            "iex",
            "java",
            "jshell",
            "groovy",
            "scala",
            "kotlin",
            "julia",
            "r",
            "rscript",
            "octave",
            "gnuplot",
            "bc",
            "dc",
            "m4",
            "sed",
            "gsed",
            "ed",
            "ex",
            "vi",
            "vim",
            "nvim",
            "emacs",
            "nano",
            "less",
            "more",
            "man",
            "sqlite",
            "psql",
            "mysql",
            "qjs",
            "jsc",
            "d8",
            "tsx",
            "ts-node",
            "npx",
            "uv",
            "uvx",
            "pipx",
        ],
    ),
    ("it is many programs in one", &["busybox", "toybox"]),
    (
        "its options and its files name commands it runs",
        &[
            "tar", "bsdtar", "gtar", "cpio", "zip", "unzip", "git", "hg", "svn", "ssh", "scp",
            "sftp", "rsync", "make", "gmake", "bmake", "ninja", "cmake", "just", "rake", "gradle",
            "mvn", "ant", "cargo", "go", "npm", "pnpm", "yarn", "pip", "gem", "bundle", "composer",
            "gcc", "cc", "clang", "ld", "tcpdump", "wget", "aria2c", "ffmpeg", "gpg", "openssl",
            "mail",
        ],
    ),
    (
        "it starts containers or services",
        &[
            "docker",
            "podman",
            "nerdctl",
            "buildah",
            "kubectl",
            "helm",
            "lxc",
            "lxc-attach",
            "lxd",
            "systemd-run",
            "systemctl",
            "systemd-nspawn",
            "launchctl",
            "service",
            "qemu",
            "vagrant",
        ],
    ),
    ("it runs commands later", &["at", "batch", "crontab", "anacron", "atd"]),
    (
        "it loads or drives other programs",
        &[
            "gdb", "lldb", "strace", "ltrace", "perf", "valgrind", "bpftrace", "ld.so", "rr",
            "dtrace",
        ],
    ),
];

/// Whether `name` may be on a source's list of binaries.
///
/// # Errors
/// Why not, for people.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !starts || name.len() > 64 || !name.bytes().all(plain) {
        return Err("a binary is a bare name, without a path".into());
    }
    match reason(name) {
        Some(why) => Err(format!("{name} can't be used: {why}")),
        None => Ok(()),
    }
}

/// Why a program of this name is refused.
fn reason(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_suffix(".exe").unwrap_or(&lower);
    if lower.starts_with("ld-linux") || lower.starts_with("ld-musl") || lower.starts_with("ld.so") {
        return Some("it loads or drives other programs");
    }
    // python3.12, lua5.4, gcc-14, qemu-system-x86_64: their versions and flavours too.
    let bare = lower.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    let first = lower.split(['-', '.', '_']).next().unwrap_or_default();
    let family = first.trim_end_matches(|c: char| c.is_ascii_digit());
    // A family is a flavour of its first word only where the word alone would be an interpreter.
    let flavours =
        ["python", "perl", "ruby", "lua", "php", "bash", "zsh", "qemu", "pypy", "busybox"];
    let named = |word: &str| REFUSED.iter().find(|(_, names)| names.contains(&word));
    let flavour = Some(family).filter(|family| flavours.contains(family));
    let found = named(lower).or_else(|| named(bare)).or_else(|| flavour.and_then(named));
    found.map(|(why, _)| *why)
}

/// Where the program `name` is on `path`, links followed.
///
/// # Errors
/// Why it can't be used, for the owner.
pub fn resolve(name: &str, path: &OsStr) -> Result<PathBuf, String> {
    check_name(name)?;
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let found = folders.map(|folder| folder.join(name)).find(|file| is_program(file));
    let found = found.ok_or_else(|| format!("{name} is not installed, or not on the PATH"))?;
    let real = found.canonicalize().map_err(|_| format!("{name} can't be found any more"))?;
    let called = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if let Some(why) = reason(called) {
        return Err(format!("{name} can't be used: here it is {called}, and {why}"));
    }
    match changeable(&found) || changeable(&real) {
        true => Err(format!("{name} can't be used: others on this machine can replace it")),
        false => Ok(real),
    }
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// Whether everyone can write the file, its folder, or (where others' files are not protected) any
/// folder above.
#[cfg(unix)]
fn changeable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().map_or(0o777, |meta| meta.permissions().mode());
    let open = |path: &Path| mode(path) & 0o002 != 0;
    let mut above = file.ancestors().skip(1);
    let folder = above.next().is_none_or(open);
    open(file) || folder || above.any(|path| open(path) && mode(path) & 0o1000 == 0)
}

#[cfg(not(unix))]
fn changeable(_file: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn shells_interpreters_and_indirections_are_refused_under_every_name_they_go_by() {
        let bad = [
            "sh",
            "bash",
            "BASH",
            "env",
            "xargs",
            "timeout",
            "sudo",
            "find",
            "awk",
            "gawk",
            "sed",
            "perl5.36",
            "python",
            "python3",
            "python3.12",
            "python3-dbg",
            "lua5.4",
            "ruby3.1",
            "node20",
            "busybox",
            "busybox-static",
            "tar",
            "git",
            "ssh",
            "make",
            "docker",
            "systemd-run",
            "at",
            "gdb",
            "ld-linux-x86-64.so.2",
            "ld.so",
            "cmd.exe",
            "gcc-14",
            "qemu-system-x86_64",
        ];
        for name in bad {
            assert!(check_name(name).unwrap_err().contains("can't be used"), "{name}");
        }
        for path in ["", "/bin/ls", "./ls", "a/b", "..", "-x", "a b", "a\0", "a;b"] {
            assert!(check_name(path).is_err(), "{path:?}");
        }
        for name in
            ["gh", "jq", "rg", "ls", "date", "md5sum", "sleep", "g++-doc", "findmnt", "shasum"]
        {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_link_to_something_refused_and_a_place_open_to_all_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let bin = base.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let put = |name: &str, mode| {
            fs::write(bin.join(name), "").unwrap();
            fs::set_permissions(bin.join(name), Permissions::from_mode(mode)).unwrap();
        };
        put("tool", 0o755);
        put("bash", 0o755);
        put("open-file", 0o777);
        put("data", 0o644);
        std::os::unix::fs::symlink(bin.join("bash"), bin.join("helper")).unwrap();
        let path = bin.as_os_str();
        assert_eq!(resolve("tool", path).unwrap(), bin.canonicalize().unwrap().join("tool"));
        assert!(resolve("helper", path).unwrap_err().contains("shell"));
        assert!(resolve("open-file", path).unwrap_err().contains("replace"));
        assert!(resolve("data", path).unwrap_err().contains("not installed"));
        assert!(
            resolve("tool", OsStr::new("bin:.")).is_err(),
            "only absolute folders are searched"
        );
        fs::set_permissions(&bin, Permissions::from_mode(0o1777)).unwrap();
        assert!(resolve("tool", path).unwrap_err().contains("replace"));
    }
}
