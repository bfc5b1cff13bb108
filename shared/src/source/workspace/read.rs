//! `file.read`: a byte range of one file, as text or base64.
//!
//! A text range never splits a character: it begins at the first whole character at or after the
//! offset asked for and ends after the last one that fits, and `offset` and `length` say what was
//! really given. `offset + length` is therefore always where to go on.

use std::io::{Read, Seek, SeekFrom};

use cap_std::fs::Dir;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::error::CallError;
use super::handle;
use super::path::RelPath;
use crate::clock::Timestamp;

/// How much is read when the agent does not say.
pub(super) const DEFAULT_LENGTH: u64 = 1024 * 1024;
/// The most bytes the text may take in JSON, escapes included.
const MAX_ESCAPED: usize = 12 * 1024 * 1024;
/// The bytes by which a character can reach past the range.
const LOOKAHEAD: u64 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wanted {
    #[default]
    Auto,
    Text,
    Base64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Input {
    path: String,
    #[serde(default)]
    offset: u64,
    length: Option<u64>,
    #[serde(default)]
    encoding: Wanted,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    path: String,
    size: u64,
    offset: u64,
    length: usize,
    encoding: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<Timestamp>,
    etag: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// Reads what `input` asks for, at most `limit` bytes.
pub(super) fn read(root: &Dir, limit: u64, input: &Input) -> Result<Output, CallError> {
    let path = RelPath::parse(&input.path)?;
    let length = input.length.unwrap_or(DEFAULT_LENGTH.min(limit));
    if length > limit {
        return Err(CallError::TooLarge(format!("one read gives at most {limit} bytes")));
    }
    let (mut file, found) = handle::open_file(root, &path)?;
    let size = found.len();
    let wanted = length.saturating_add(LOOKAHEAD).min(size.saturating_sub(input.offset));
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    if wanted > 0 {
        file.seek(SeekFrom::Start(input.offset)).map_err(|error| path.failed(&error))?;
        file.take(wanted).read_to_end(&mut bytes).map_err(|error| path.failed(&error))?;
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let text = || text_part(&bytes, length, input.offset > 0);
    let part = match input.encoding {
        Wanted::Base64 => base64_part(&bytes, length),
        Wanted::Auto => text().unwrap_or_else(|| base64_part(&bytes, length)),
        Wanted::Text => text().ok_or_else(|| CallError::Binary(path.given()))?,
    };
    let offset = input.offset.saturating_add(part.skipped);
    let end = offset.saturating_add(u64::try_from(part.length).unwrap_or(u64::MAX));
    Ok(Output {
        path: path.as_str().to_owned(),
        size,
        offset,
        length: part.length,
        encoding: part.encoding,
        content: part.content,
        mtime: handle::modified(&found),
        etag: handle::etag(&found),
        truncated: end < size,
    })
}

/// What of the bytes read is given.
struct Part {
    skipped: u64,
    length: usize,
    encoding: &'static str,
    content: String,
}

fn base64_part(bytes: &[u8], length: usize) -> Part {
    let bytes = bytes.get(..length).unwrap_or(bytes);
    Part { skipped: 0, length: bytes.len(), encoding: "base64", content: BASE64.encode(bytes) }
}

/// The whole characters among the first `length` of `bytes`, which reach a little further; `None`
/// when they are not text. Only a range from the middle of a file may begin within a character.
fn text_part(bytes: &[u8], length: usize, from_middle: bool) -> Option<Part> {
    let inner = |byte: &&u8| from_middle && (0x80..0xc0).contains(*byte);
    let skipped = bytes.iter().take(length.min(3)).take_while(inner).count();
    let rest = bytes.get(skipped..)?;
    let room = length.saturating_sub(skipped).min(rest.len());
    let valid = match std::str::from_utf8(rest) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    // What follows the range may be anything; a character begun within it must be whole.
    if valid < room {
        return None;
    }
    let text = std::str::from_utf8(rest.get(..valid)?).ok()?;
    let end = match text.floor_char_boundary(room) {
        // Shorter than its first character: give that, or a reader could never go on.
        0 if room > 0 => text.chars().next().map_or(0, char::len_utf8),
        end => end,
    };
    let text = fitting(text.get(..end)?);
    let part = Part {
        skipped: u64::try_from(skipped).ok()?,
        length: text.len(),
        encoding: "text",
        content: text.to_owned(),
    };
    (!text.contains('\0')).then_some(part)
}

/// The beginning of `text` whose JSON form is small enough.
fn fitting(text: &str) -> &str {
    let mut budget = MAX_ESCAPED;
    for (at, char) in text.char_indices() {
        match budget.checked_sub(escaped_len(char)) {
            Some(left) => budget = left,
            None => return text.get(..at).unwrap_or_default(),
        }
    }
    text
}

fn escaped_len(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => char.len_utf8(),
    }
}
