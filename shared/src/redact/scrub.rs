//! One string: what must be hidden in it is found in the whole of it, what is kept is clipped.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{MAX_CHARS, REDACTED, Rules};

/// The shortest text any of the patterns matches.
const SHORTEST_MATCH: usize = 6;

/// Credentials of ours, bearer tokens, credential headers. None looks ahead without bound, so a
/// search costs one pass.
#[allow(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"plx_(?:live|agent|enroll)_[0-9a-fA-F]+",
        r"|plxj_[a-z2-7]+",
        r"|(?:(?i-u:bearer)[ \t]{1,8})+[^ \t\r\n]+",
        r#"|(?i-u:authorization|cookie)["']?[ \t]{0,4}[:=][ \t]{0,4}["']?[^\r\n"']+"#,
    ))
    .expect("the credential pattern is well formed")
});

/// JWTs. Apart from the others because deciding one may take reading far ahead: searched on its own
/// it reads no byte twice.
#[allow(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static JWT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"eyJ[A-Za-z0-9_-]*\.eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)+")
        .expect("the JWT pattern is well formed")
});

/// `text` without its secrets, clipped.
pub(super) fn text(rules: &Rules, text: &str) -> String {
    let (body, mark) = split_mark(text);
    let mut out = String::with_capacity(text.len().min(2 * MAX_CHARS));
    let mut room = MAX_CHARS;
    let mut finder = Finder::new(rules, body);
    let mut position = 0;
    loop {
        let hidden = finder.next(position);
        let end = hidden.as_ref().map_or(body.len(), |hidden| hidden.start);
        let plain = &body[position..end];
        if let Some((cut, _)) = plain.char_indices().nth(room) {
            out.push_str(&plain[..cut]);
            return clipped(out, &text[position + cut..]);
        }
        out.push_str(plain);
        room -= plain.chars().count();
        let Some(hidden) = hidden else {
            out.push_str(mark);
            return out;
        };
        if room < REDACTED.len() {
            return clipped(out, &text[hidden.start..]);
        }
        out.push_str(REDACTED);
        room -= REDACTED.len();
        position = hidden.end;
    }
}

/// Whether `text` holds one of the call's secrets.
pub(super) fn holds_needle(rules: &Rules, text: &str) -> bool {
    rules.needles.iter().any(|needle| text.contains(needle.as_str()))
}

fn clipped(mut out: String, rest: &str) -> String {
    out.push_str(&format!("…[+{} chars]", rest.chars().count()));
    out
}

/// Parts `text` from the mark an earlier clip left at its end.
fn split_mark(text: &str) -> (&str, &str) {
    let split = || {
        let digits = text.strip_suffix(" chars]")?;
        let head = digits.trim_end_matches(|c: char| c.is_ascii_digit());
        let body = head.strip_suffix("…[+")?;
        (head.len() < digits.len()).then(|| text.split_at(body.len()))
    };
    split().unwrap_or((text, ""))
}

/// Finds what to hide from left to right, each kind searched only as far as it must be.
struct Finder<'a> {
    text: &'a str,
    kinds: Vec<(Kind<'a>, Option<Range<usize>>)>,
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    Shape(&'a Regex),
    Value(&'a str),
}

impl<'a> Finder<'a> {
    fn new(rules: &'a Rules, text: &'a str) -> Self {
        let mut kinds = Vec::with_capacity(rules.needles.len() + 2);
        if text.len() >= SHORTEST_MATCH {
            kinds.extend([Kind::Shape(&CREDENTIALS), Kind::Shape(&JWT)]);
        }
        kinds.extend(rules.needles.iter().map(|needle| Kind::Value(needle.as_str())));
        let first = |kind: Kind<'a>| kind.find(text, 0).map(|hit| (kind, Some(hit)));
        Self { text, kinds: kinds.into_iter().filter_map(first).collect() }
    }

    /// The first stretch from `from` on that must be hidden, with all that overlaps or touches it.
    fn next(&mut self, from: usize) -> Option<Range<usize>> {
        let mut start = usize::MAX;
        for (kind, hit) in &mut self.kinds {
            if hit.as_ref().is_some_and(|hit| hit.start < from) {
                *hit = kind.find(self.text, from);
            }
            start = start.min(hit.as_ref().map_or(usize::MAX, |hit| hit.start));
        }
        if start == usize::MAX {
            return None;
        }
        let mut end = start;
        loop {
            let before = end;
            for (kind, hit) in &mut self.kinds {
                while let Some(found) = hit.as_ref().filter(|found| found.start <= end) {
                    end = end.max(found.end);
                    *hit = kind.find(self.text, kind.resume(self.text, found));
                }
            }
            if end == before {
                return Some(start..end);
            }
        }
    }
}

impl Kind<'_> {
    fn find(self, text: &str, from: usize) -> Option<Range<usize>> {
        match self {
            Self::Shape(shape) => shape.find_at(text, from).map(|hit| hit.range()),
            Self::Value(value) => {
                let start = from + text.get(from..)?.find(value)?;
                Some(start..start + value.len())
            }
        }
    }

    /// Where to search on after `hit`: a value may overlap itself.
    fn resume(self, text: &str, hit: &Range<usize>) -> usize {
        match self {
            Self::Shape(_) => hit.end,
            Self::Value(_) => {
                hit.start + text[hit.start..].chars().next().map_or(1, char::len_utf8)
            }
        }
    }
}
