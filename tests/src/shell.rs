//! The owner at the command line: what is typed, and what is said.

use std::ffi::OsString;
use std::path::PathBuf;

use plexus_shared::transport::child::Program;
use serde_json::Value;

use crate::{PATIENCE, Stage, binary};

/// A command line on a stage. It remembers all that was ever said.
pub struct Shell<'a> {
    stage: &'a Stage,
    /// Everything on standard output and standard error, and no word that was typed.
    pub heard: String,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// The one document it printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl<'a> Shell<'a> {
    /// A command line on `stage`.
    pub fn on(stage: &'a Stage) -> Self {
        Self { stage, heard: String::new() }
    }

    /// Runs `plexus LINE`; single quotation marks hold words together.
    pub async fn plexus(&mut self, line: &str) -> Said {
        self.run(binary("plexus"), &split(line)).await
    }

    /// Runs `plexus LINE`, which must succeed.
    pub async fn done(&mut self, line: &str) -> String {
        let said = self.plexus(line).await;
        assert_eq!(said.code, 0, "plexus {line}: {said:?}");
        said.out
    }

    /// Runs `plexus LINE --json`: its exit code and document.
    pub async fn json(&mut self, line: &str) -> (i32, Value) {
        let said = self.plexus(&format!("{line} --json")).await;
        (said.code, said.json())
    }

    /// Runs `plexus LINE` with `input` on its standard input.
    pub async fn fed(&mut self, line: &str, input: &str) -> Said {
        let file = self.stage.path("stdin");
        std::fs::write(&file, input).unwrap();
        let mut words =
            vec!["-c".to_owned(), "i=$1; shift; exec \"$0\" \"$@\" < \"$i\"".to_owned()];
        words.extend([binary("plexus"), file].map(|path| path.display().to_string()));
        words.extend(split(line));
        self.run("/bin/sh".into(), &words).await
    }

    async fn run(&mut self, path: PathBuf, words: &[String]) -> Said {
        let log = self.stage.path("stderr");
        let _ = std::fs::remove_file(&log);
        let home: OsString = self.stage.path("home").into();
        let program = Program {
            path,
            args: words.iter().map(Into::into).collect(),
            env: vec![("PLEXUS_HOME".into(), home)],
            log: log.clone(),
        };
        let running = program.start().expect("the command starts");
        let (status, out) =
            running.finish(PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
        let err = std::fs::read_to_string(&log).unwrap_or_default();
        self.heard.push_str(&out);
        self.heard.push_str(&err);
        Said { code: status.code().unwrap_or(-1), out, err }
    }
}

fn split(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
