//! What a workspace says of itself: written for the agent that decides.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::config::{Mode, WorkspaceConfig, WorkspaceError};
use super::path::MAX_BYTES;
use super::{Operation, list, read};
use crate::ids::SourceId;
use crate::model::entry::{Definition, EntryKind, IoSchema, TransportKind};
use crate::model::verb::{Verb, VerbSet};

const LIST: &str = "Lists the files and folders in the workspace \"{label}\". \
    Use when you need to know what there is before you read or write. \
    Paths are relative to the workspace, with /; leave path out for the workspace itself. \
    Entries are sorted by name, a folder before what it holds; symbolic links are shown, not followed. \
    With recursive, up to 16 levels are listed. When nextCursor is there, pass it as cursor, with the \
    same path and recursive, for the next page. skipped counts what cannot be named or looked into.";

const READ: &str = "Reads a file of the workspace \"{label}\", whole or a range of its bytes. \
    Use when you need a file's content, or its etag before you write. \
    Text comes as text, anything else as base64; ask for one with encoding. \
    At most 1 MiB is given unless length says more; when truncated is true, go on at offset + length \
    of the answer. A text range never splits a character, so offset and length may differ from those \
    asked for. The etag changes when the file does.";

const WRITE: &str = "Writes a file of the workspace \"{label}\": replaces it whole, or appends to it. \
    Use when the owner wants a file created or changed. \
    Replacing is atomic: others see the old content or the new. Pass the etag you read as ifMatch, or \
    ifAbsent for a new file, and the write is refused as changed rather than overwriting someone \
    else's work. Symbolic links, hard-linked files and read-only files are not written.";

/// The operations the mode allows, each with its entry.
pub(super) fn offers(
    id: &SourceId,
    label: &str,
    config: &WorkspaceConfig,
) -> Result<Vec<(Operation, Definition)>, WorkspaceError> {
    let entry = |operation: Operation| -> Result<(Operation, Definition), WorkspaceError> {
        let (name, title, describe, verb) = match operation {
            Operation::List => ("file.list", "list files", LIST, Verb::Read),
            Operation::Read => ("file.read", "read a file", READ, Verb::Read),
            Operation::Write => ("file.write", "write a file", WRITE, Verb::Write),
        };
        let definition = Definition {
            id: format!("{}.{name}", id.slug()).parse()?,
            source: id.clone(),
            kind: EntryKind::Capability,
            label: format!("{label}: {title}"),
            describe: describe.replace("{label}", label),
            io: Some(io(operation, config)),
            grants: [verb].into_iter().collect::<VerbSet>(),
            transport: TransportKind::Ipc,
            skills: Vec::new(),
            members: Vec::new(),
            body: None,
            version: Some("1".to_owned()),
            extras: None,
        };
        Ok((operation, definition))
    };
    let operations: &[Operation] = match config.mode {
        Mode::Read => &[Operation::List, Operation::Read],
        Mode::ReadWrite => &[Operation::List, Operation::Read, Operation::Write],
    };
    operations.iter().map(|operation| entry(*operation)).collect()
}

fn io(operation: Operation, config: &WorkspaceConfig) -> IoSchema {
    let (input, output) = match operation {
        Operation::List => (list_input(), list_output()),
        Operation::Read => (read_input(config.max_read_bytes), read_output()),
        Operation::Write => (write_input(config.max_write_bytes), write_output()),
    };
    IoSchema { input: raw(&input), output: raw(&output) }
}

fn raw(schema: &Value) -> Option<Box<RawValue>> {
    to_raw_value(schema).ok()
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn path(about: &str) -> Value {
    json!({ "type": "string", "maxLength": MAX_BYTES, "description": about })
}

fn list_input() -> Value {
    let folder = "the folder, relative to the workspace; the workspace itself when left out";
    object(
        &[],
        &json!({
            "path": path(folder),
            "recursive": { "type": "boolean", "default": false },
            "limit": {
                "type": "integer", "minimum": 1, "maximum": list::MAX_LIMIT,
                "default": list::DEFAULT_LIMIT,
            },
            "cursor": { "type": "string", "description": "nextCursor of the page before" },
        }),
    )
}

fn list_output() -> Value {
    let entry = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "path": { "type": "string", "description": "relative to the workspace" },
            "type": { "enum": ["file", "directory", "symlink", "other"] },
            "size": { "type": "integer", "description": "in bytes; of files only" },
            "mtime": { "type": "string", "format": "date-time" },
        },
        "required": ["name", "path", "type"],
        "additionalProperties": false,
    });
    object(
        &["path", "entries"],
        &json!({
            "path": { "type": "string" },
            "entries": { "type": "array", "items": entry },
            "nextCursor": { "type": "string" },
            "skipped": { "type": "integer" },
        }),
    )
}

fn read_input(limit: u64) -> Value {
    object(
        &["path"],
        &json!({
            "path": path("the file, relative to the workspace"),
            "offset": { "type": "integer", "minimum": 0, "default": 0 },
            "length": {
                "type": "integer", "minimum": 0, "maximum": limit,
                "default": read::DEFAULT_LENGTH.min(limit),
            },
            "encoding": { "enum": ["auto", "text", "base64"], "default": "auto" },
        }),
    )
}

fn read_output() -> Value {
    object(
        &["path", "size", "offset", "length", "encoding", "content", "etag"],
        &json!({
            "path": { "type": "string" },
            "size": { "type": "integer", "description": "of the whole file, in bytes" },
            "offset": { "type": "integer", "description": "where content begins, in bytes" },
            "length": { "type": "integer", "description": "bytes of the file content stands for" },
            "encoding": { "enum": ["text", "base64"] },
            "content": { "type": "string" },
            "mtime": { "type": "string", "format": "date-time" },
            "etag": { "type": "string" },
            "truncated": { "type": "boolean", "description": "true when the file goes on" },
        }),
    )
}

fn write_input(limit: u64) -> Value {
    let content = format!("at most {limit} bytes, once decoded");
    object(
        &["path", "content"],
        &json!({
            "path": path("the file, relative to the workspace"),
            "content": { "type": "string", "description": content },
            "encoding": { "enum": ["text", "base64"], "default": "text" },
            "mode": { "enum": ["replace", "append"], "default": "replace" },
            "createParents": { "type": "boolean", "default": false },
            "ifMatch": { "type": "string", "description": "write only if the file has this etag" },
            "ifAbsent": { "type": "boolean", "default": false },
        }),
    )
}

fn write_output() -> Value {
    object(
        &["path", "size", "etag", "created"],
        &json!({
            "path": { "type": "string" },
            "size": { "type": "integer" },
            "etag": { "type": "string" },
            "created": { "type": "boolean" },
        }),
    )
}
