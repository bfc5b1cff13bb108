//! What the program prints: results on standard output, everything else on standard error.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result, as `text` or as `value`.
    pub(super) fn result(self, text: &str, value: &Value) {
        let line = if self.json { value.to_string() } else { text.to_owned() };
        // Whoever reads this may have gone; there is nobody left to tell.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says something that is no result.
    pub(super) fn note(self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Prints a failure; gives its exit code.
    pub(super) fn failure(self, failure: &Failure) -> ExitCode {
        let Failure { class, code, message } = failure;
        if self.json {
            self.result("", &json!({"ok": false, "error": {"code": code, "message": message}}));
        } else {
            self.note(&format!("plexus-proxy: {message}"));
        }
        ExitCode::from(class.exit_code())
    }
}
