//! What a command says: lines for a person, or one JSON document for a program.
//!
//! Nothing else writes to the terminal. Much of what is shown was written by agents and workloads, so
//! every line is made printable here, on the way out: words that would move the cursor, colour the
//! screen or reverse the text can not.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Exit;
use super::client::ClientError;
use crate::trust::narration::{is_hidden, plain};

/// The longest line and the longest cell, in characters.
const MAX_LINE: usize = 1 << 16;
const MAX_CELL: usize = 1000;

/// Whom the command speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A person.
    Text,
    /// A program.
    Json,
}

/// What a command came to.
#[must_use = "an answer says nothing until it is delivered"]
pub(super) struct Answer {
    schema: &'static str,
    data: Value,
    lines: Vec<String>,
    script: String,
    notes: Vec<String>,
    exit: Exit,
}

impl Answer {
    /// An answer of command `schema` (`agents.list`) with the object `data`.
    pub(super) fn new(schema: &'static str, data: Value) -> Self {
        let (lines, script, notes) = (Vec::new(), String::new(), Vec::new());
        Self { schema, data, lines, script, notes, exit: Exit::Ok }
    }

    /// The answer of a command that has said everything already.
    pub(super) fn said() -> Self {
        Self::new("", Value::Null)
    }

    /// With a line for a person; one line, whatever is in it.
    pub(super) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// With lines for a person.
    pub(super) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// With a table for a person; with `otherwise` when there is nothing in it.
    pub(super) fn table<const N: usize>(self, table: Table<N>, otherwise: &str) -> Self {
        match table.rows.is_empty() {
            true => self.line(otherwise),
            false => self.lines(table.lines()),
        }
    }

    /// With a text of our own, for another program than a JSON reader: printed as it is.
    pub(super) fn script(mut self, script: String) -> Self {
        self.script = script;
        self
    }

    /// With a remark on stderr, whoever reads stdout.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Ending with `exit`.
    pub(super) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    fn print(&self, format: Format) -> io::Result<()> {
        match format {
            _ if self.schema.is_empty() => Ok(()),
            Format::Json => say_json(self.schema, &self.data, Layout::Pretty),
            Format::Text => {
                self.lines.iter().try_for_each(|line| say(line))?;
                write!(io::stdout(), "{}", self.script)
            }
        }
    }
}

/// Why a command was not carried out, and what to do next.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    code: String,
    message: String,
    detail: Option<Box<Value>>,
}

/// One of the things that are wrong with a document, and where.
#[derive(Deserialize)]
pub(super) struct Problem {
    pointer: String,
    reason: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.pointer, self.reason)
    }
}

impl Failure {
    /// A failure that ends with `exit`; `code` is for programs.
    pub(super) fn new(exit: Exit, code: &str, message: impl Display) -> Self {
        Self { exit, code: code.to_owned(), message: message.to_string(), detail: None }
    }

    /// Each thing that is wrong, where there are many.
    fn problems(&self) -> Vec<Problem> {
        let problems = self.detail.as_ref().and_then(|detail| detail.get("problems"));
        problems.and_then(|list| Vec::deserialize(list).ok()).unwrap_or_default()
    }

    /// The command was used wrongly.
    pub(super) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// What the command ends with.
    #[cfg(test)]
    pub(super) fn ends_with(&self) -> Exit {
        self.exit
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let detail = error.detail().cloned().map(Box::new);
        let (exit, code) = (error.exit(), error.code().to_owned());
        Self { exit, code, message: error.to_string(), detail }
    }
}

/// Says what the command came to, and returns what it ends with.
pub(super) fn deliver(format: Format, result: Result<Answer, Failure>) -> Exit {
    let (exit, printed) = match result {
        Ok(answer) => {
            let printed = answer.print(format);
            answer.notes.iter().for_each(|note| complain(note));
            (answer.exit, printed)
        }
        Err(failure) => {
            let problems = failure.problems();
            let Failure { exit, code, message, detail } = failure;
            let mut data = json!({"error": {"code": code, "message": message}});
            if let Some(detail) = detail {
                data["error"]["detail"] = *detail;
            }
            complain(&message);
            problems.iter().for_each(|problem| complain(&format!("  {problem}")));
            let printed = match format {
                Format::Json => say_json("error", &data, Layout::Pretty),
                Format::Text => Ok(()),
            };
            (exit, printed)
        }
    };
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the answer could not be written out: {error}"));
            Exit::Failed
        }
        _ => exit,
    }
}

/// Tells the owner what went wrong, or what to know.
pub(super) fn complain(why: &str) {
    // When stderr is gone there is no one left to tell.
    let _ = writeln!(io::stderr(), "plexus: {}", plain(why, MAX_LINE));
}

/// Tells the owner how a command is used.
pub(super) fn complain_usage(text: &str) {
    let _ = write!(io::stderr(), "plexus: {text}");
}

/// Writes one line to stdout.
///
/// # Errors
/// When no one reads it, or it can't be written.
pub(super) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", plain(line, MAX_LINE))
}

/// How a JSON document is laid out.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// For the only document of a command.
    Pretty,
    /// For one of many: on one line.
    Line,
}

/// Writes the object `data` as a document of `plexus.<schema>/1`.
///
/// # Errors
/// When no one reads it, or it can't be written.
pub(super) fn say_json(schema: &str, data: &Value, layout: Layout) -> io::Result<()> {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(format!("plexus.{schema}/1")));
    if let Value::Object(data) = data {
        document.extend(data.clone());
    }
    let text = match layout {
        Layout::Pretty => serde_json::to_string_pretty(&document)?,
        Layout::Line => serde_json::to_string(&document)?,
    };
    writeln!(io::stdout(), "{text}")
}

/// Rows under a head, in columns as wide as they need to be.
pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<Row<N>>,
}

enum Row<const N: usize> {
    Cells([String; N]),
    Remark(String),
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(super) fn new(head: [&'static str; N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row. An empty cell that is not meant to continue the row above shows as `-`.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells.map(|cell| plain(&cell, MAX_CELL))));
    }

    /// Adds a line that belongs to the row above it.
    pub(super) fn remark(&mut self, remark: impl Into<String>) {
        self.rows.push(Row::Remark(format!("    {}", remark.into())));
    }

    /// The table as lines.
    pub(super) fn lines(self) -> Vec<String> {
        let mut widths = self.head.map(str::len);
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        let lay = |cells: &[String; N]| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = lay(&self.head.map(ToOwned::to_owned));
        let rows = self.rows.iter().map(|row| match row {
            Row::Cells(cells) => lay(cells),
            Row::Remark(remark) => remark.clone(),
        });
        std::iter::once(head).chain(rows).collect()
    }
}

/// `text`, or `-` where there is none.
pub(super) fn or_dash(text: impl Display) -> String {
    Some(text.to_string()).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// `text` with each character spelled out that shows as nothing or as a blank, or that moves others:
/// `\u202e`. Other than [`plain`], which takes them out, this keeps what was said apart from what looks
/// like it; of a JSON text it makes the same JSON.
pub(super) fn visible(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_hidden(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// At most `max` characters of `text`, and how many more there are.
pub(super) fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => {
            let (shown, left) = text.split_at(end);
            format!("{shown}… {} more characters", left.chars().count())
        }
    }
}

/// `1 agent`, `2 agents`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Words the model serialises as one string: `first-party`, `high`, `ok`.
pub(super) fn word(value: impl serde::Serialize) -> String {
    match json!(value) {
        Value::String(word) => word,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_trails() {
        let mut table = Table::new(["ID", "AGENT", "WHY"]);
        table.row(["a".into(), "käthe".into(), "because".into()]);
        table.remark("said so");
        table.row(["longer".into(), "b".into(), String::new()]);
        let expected = ["ID      AGENT  WHY", "a       käthe  because", "    said so", "longer  b"];
        assert_eq!(table.lines(), expected);
    }

    #[test]
    fn a_cell_can_not_leave_its_row() {
        let mut table = Table::new(["ID", "LABEL"]);
        table.row(["a\nb".into(), "\u{1b}[2J\u{202e}x".into()]);
        assert_eq!(table.lines()[1], "a b   [2Jx");
    }

    #[test]
    fn what_hides_is_spelled_out_and_a_json_text_stays_the_same_json() {
        let hidden = "a\u{202e}\u{200b}\u{a0}\u{85}\u{7f}\u{e0041}\u{2028}é b";
        let spelled = "a\\u202e\\u200b\\u00a0\\u0085\\u007f\\udb40\\udc41\\u2028é b";
        assert_eq!(visible(hidden), spelled);
        let text = json!({ "x\n\u{feff}": hidden }).to_string();
        let read: serde_json::Result<Value> = serde_json::from_str(&visible(&text));
        assert_eq!(read.ok(), serde_json::from_str(&text).ok());
        assert_eq!(clip("äbcde", 2), "äb… 3 more characters");
        assert_eq!(clip("äb", 2), "äb");
    }

    #[test]
    fn words_are_the_wires_words() {
        use plexus_shared::model::trust::Provenance;
        assert_eq!(word(Provenance::FirstParty), "first-party");
        assert_eq!(count(1, "agent", "agents"), "1 agent");
        assert_eq!(or_dash(""), "-");
    }
}
