#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/plexus/proxy.toml"), text)
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_a_proxy_without_sources() {
    let config = parse("").unwrap();
    assert!(config.sources.is_empty());
    assert_eq!(config.health_interval, Duration::from_secs(15));
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(
        "health_interval = 30\n\n[[source]]\nid = \"notes\"\nkind = \"workspace\"\n\
         path = \"/srv/notes\"\nmode = \"read-write\"\nlabel = \"My notes\"\n\
         max_read_bytes = 1_000\n\n[[source]]\nid = \"media\"\nkind = \"workspace\"\npath = '/m'\n",
    )
    .unwrap();
    assert_eq!(config.health_interval, Duration::from_secs(30));
    let [notes, media] = config.sources.as_slice() else { panic!("two sources") };
    assert_eq!((notes.id.as_str(), notes.line), ("notes", 6));
    assert_eq!(notes.label.as_deref(), Some("My notes"));
    let SourceKind::Workspace(folder) = &notes.kind;
    assert_eq!((folder.mode, folder.max_read_bytes), (Mode::ReadWrite, 1000));
    let SourceKind::Workspace(folder) = &media.kind;
    assert_eq!((folder.mode, folder.path.as_path()), (Mode::Read, Path::new("/m")));
}

#[test]
fn every_mistake_names_its_file_and_line() {
    let source = "[[source]]\nid = \"a\"\nkind = \"workspace\"\npath = \"/a\"\n";
    let table = [
        ("x = = 1\n".to_owned(), 1, "not valid TOML"),
        ("\n\n[[source]\n".to_owned(), 3, "not valid TOML"),
        ("health_interval = 15\nhealth_intervall = 3\n".to_owned(), 2, "is not known here"),
        ("\nhealth_interval = 0\n".to_owned(), 2, "from 1 to 60"),
        ("health_interval = \"15\"\n".to_owned(), 1, "must be a whole number"),
        ("health_interval = -1\n".to_owned(), 1, "must be a whole number"),
        ("source = 3\n".to_owned(), 1, "begin each one with [[source]]"),
        (format!("{source}modus = \"read\"\n"), 5, "\"modus\" is not known here"),
        (format!("{source}mode = \"rw\"\n"), 5, "is no mode"),
        (format!("{source}mode = 3\n"), 5, "must be text"),
        (format!("{source}\n{source}"), 7, "is already on line 4"),
        (source.replace("workspace", "folder"), 3, "is no kind of source"),
        (source.replace("\"a\"", "\"A b\""), 2, "is not a source name"),
        (source.replace("path", "# path"), 1, "has no \"path\""),
        (source.replace("id", "# id"), 1, "has no \"id\""),
        (format!("{source}id = \"b\"\n"), 5, "not valid TOML"),
    ];
    for (text, line, words) in table {
        let error = error(&text);
        assert!(error.starts_with(&format!("/etc/plexus/proxy.toml:{line}: ")), "{text}\n{error}");
        assert!(error.contains(words), "{text}\n{error}");
    }
}

#[test]
fn a_name_for_itself_is_refused_with_its_own_words() {
    for key in ["workload", "tenant"] {
        let error = error(&format!("{key} = \"nas\"\n"));
        assert!(error.contains("a proxy does not know its name"), "{error}");
        assert!(error.contains("bound to its key when it joins"), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_too_long_or_no_text_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("proxy.toml");
    let load = || Config::load(&file).unwrap_err();
    assert!(load().to_string().contains("no such file"));
    std::fs::write(&file, b"# one\n# two \xff\n").unwrap();
    assert_eq!(load().line, Some(2));
    std::fs::write(&file, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert!(load().to_string().contains("longer than 1048576 bytes"));
    std::fs::write(&file, "").unwrap();
    assert!(Config::load(&file).is_ok());
}
