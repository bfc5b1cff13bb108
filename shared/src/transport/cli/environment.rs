//! What a command sees of the environment: nothing but what is needed and what was declared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Variables every command has.
const ALWAYS: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Beginnings of names that make a program load or run something else.
const LOADERS: [&str; 12] = [
    "LD_", "DYLD_", "PYTHON", "PERL", "RUBY", "NODE_", "GIT_", "JAVA_", "_JAVA_", "BASH_", "LUA_",
    "GCONV",
];
/// Names that do.
const LOADER_NAMES: [&str; 22] = [
    "ENV",
    "IFS",
    "SHELL",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "MANPAGER",
    "LESSOPEN",
    "LESSCLOSE",
    "GCONV_PATH",
    "NLSPATH",
    "LOCPATH",
    "MALLOC_CHECK_",
    "TMPDIR",
    "ZDOTDIR",
    "HOSTALIASES",
];

/// Whether a manifest may name the variable `name`.
///
/// # Errors
/// Why not, for people.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || name.len() > 64 || !name.bytes().all(plain) {
        return Err("it is not the name of a variable".into());
    }
    let upper = name.to_ascii_uppercase();
    if ALWAYS.contains(&upper.as_str()) {
        return Err(format!("{name} is set by the gateway"));
    }
    if LOADERS.iter().any(|begin| upper.starts_with(begin))
        || LOADER_NAMES.contains(&upper.as_str())
    {
        return Err(format!("{name} can make a program run something else"));
    }
    Ok(())
}

/// The gateway's own environment, read once.
#[derive(Clone, Default)]
pub struct Host(BTreeMap<OsString, OsString>);

impl Host {
    /// This process's environment.
    pub fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// An environment of these variables.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// Where programs are looked for.
    pub fn path(&self) -> &OsStr {
        self.0.get(OsStr::new("PATH")).map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), |p| p)
    }

    /// The variables every command has, and `names`, as far as they are set here.
    pub fn of(&self, names: &[String]) -> Vec<(OsString, OsString)> {
        let names = ALWAYS.iter().copied().chain(names.iter().map(String::as_str));
        let found = names.filter_map(|name| self.0.get_key_value(OsStr::new(name)));
        found.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_load_or_run_something_are_refused_in_any_case() {
        for bad in [
            "LD_PRELOAD",
            "ld_preload",
            "DYLD_INSERT_LIBRARIES",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "PERL5OPT",
            "RUBYOPT",
            "GIT_SSH_COMMAND",
            "BASH_ENV",
            "ENV",
            "IFS",
            "PATH",
            "HOME",
            "A=B",
            "",
            "1A",
            "A B",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["GH_TOKEN", "TZ", "XDG_CONFIG_HOME", "_x"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
    }
}
