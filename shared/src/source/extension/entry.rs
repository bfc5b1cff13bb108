//! Reading one entry of a manifest.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::manifest::{Declared, Run};
use super::read::{Known, MAX_LIST, Problems, transport};
use super::route;
use crate::gate::schema::InputSchema;
use crate::ids::CapabilityId;
use crate::model::entry::{EntryKind, IoSchema, Member, SkillBody, SkillRef, TransportKind};
use crate::model::plain;
use crate::model::verb::VerbSet;

/// The longest skill, in bytes.
const MAX_BODY: usize = 128 << 10;

/// The entry, when enough of it can be read to say what it is.
pub(super) fn declared(
    entry: &Map<String, Value>,
    io: Option<IoSchema>,
    at: &str,
    default: TransportKind,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Option<Declared> {
    let name = entry.get("name").and_then(Value::as_str)?.to_owned();
    let (kind, grants, label) = known.entries.get(&name)?.clone();
    let id: CapabilityId = format!("{}.{name}", known.slug).parse().ok()?;
    if (kind == EntryKind::Skill) != grants.is_empty() {
        problems
            .at(format!("{at}/grants"), "a capability or workflow needs verbs, a skill has none");
    }
    let describe = entry.get("describe").and_then(Value::as_str).unwrap_or_default().to_owned();
    if describe.is_empty() || describe.len() > 16_384 {
        problems.at(format!("{at}/describe"), "it needs 1 to 16384 bytes");
    }
    schema(io.as_ref(), at, problems);
    let transport = own_transport(entry, kind, default, at, problems);
    let members = members(entry, kind, at, known, problems);
    let body = body(entry, kind, at, problems);
    let skills = skills(entry, at, known, problems);
    let input = io.as_ref().and_then(|io| io.input.as_deref());
    let input: Option<Value> = input.and_then(|raw| plain::read(raw.get().as_bytes()).ok());
    let run = match transport? {
        TransportKind::Skill => {
            if entry.contains_key("route") {
                problems.at(format!("{at}/route"), "a skill is read, not called");
            }
            Run::Skill
        }
        TransportKind::Workflow => route::workflow(entry, &members, at, known, problems),
        _ => Run::Cli(Box::new(route::cli(entry, input.as_ref(), at, known, problems)?)),
    };
    let version = problems.read(entry, at, "version", "a text");
    let transport = transport?;
    Some(Declared {
        name,
        id,
        kind,
        label,
        describe,
        io,
        grants,
        transport,
        members,
        body,
        skills,
        version,
        run,
    })
}

fn schema(io: Option<&IoSchema>, at: &str, problems: &mut Problems) {
    let Some(io) = io else { return };
    if let (_, Some(why)) = InputSchema::compile(io.input.as_deref()) {
        problems.at(format!("{at}/io/input"), why);
    }
    let output = io.output.as_ref().map(|raw| plain::read(raw.get().as_bytes()));
    if output.is_some_and(|read| !matches!(read, Ok(Value::Object(_) | Value::Bool(_)))) {
        problems.at(format!("{at}/io/output"), "it is not a JSON Schema");
    }
}

fn own_transport(
    entry: &Map<String, Value>,
    kind: EntryKind,
    default: TransportKind,
    at: &str,
    problems: &mut Problems,
) -> Option<TransportKind> {
    let fitting = match kind {
        EntryKind::Capability => default,
        EntryKind::Skill => TransportKind::Skill,
        EntryKind::Workflow => TransportKind::Workflow,
    };
    let said = match entry.contains_key("transport") {
        true => transport(entry, at, problems)?,
        false => fitting,
    };
    let fits = match kind {
        EntryKind::Capability => !matches!(said, TransportKind::Skill | TransportKind::Workflow),
        EntryKind::Skill | EntryKind::Workflow => said == fitting,
    };
    if !fits {
        problems.at(format!("{at}/transport"), "it does not suit the entry's kind");
        return None;
    }
    Some(said)
}

fn members(
    entry: &Map<String, Value>,
    kind: EntryKind,
    at: &str,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Vec<Member> {
    #[derive(Deserialize)]
    struct Said {
        id: String,
        verbs: VerbSet,
    }
    let list = problems.list(entry, at, "members");
    if (kind == EntryKind::Workflow) == list.is_empty() || list.len() > MAX_LIST {
        let why = "a workflow has 1 to 64 members, nothing else has any";
        problems.at(format!("{at}/members"), why);
    }
    let mut members: Vec<Member> = Vec::new();
    for (index, member) in list.iter().take(MAX_LIST).enumerate() {
        let at = format!("{at}/members/{index}");
        let Ok(Said { id, verbs }) = Said::deserialize(member) else {
            problems.at(at, "a member has an id and verbs");
            continue;
        };
        let Some(id) = known.id(&id) else {
            problems.at(format!("{at}/id"), "there is no such entry");
            continue;
        };
        match known.own(&id) {
            Some(None) => problems.at(format!("{at}/id"), "there is no such entry"),
            Some(Some((EntryKind::Skill, ..))) => {
                problems.at(format!("{at}/id"), "a skill is read, not called");
            }
            Some(Some((_, has, _))) if *has != verbs => {
                problems.at(format!("{at}/verbs"), format!("a call of it needs {has}"));
            }
            Some(Some(_)) => {}
            None if !known.cross => {
                let why = "it is another source's; the manifest must say allowCrossSource";
                problems.at(format!("{at}/id"), why);
            }
            None if verbs.is_empty() => problems.at(format!("{at}/verbs"), "it needs verbs"),
            None => {}
        }
        if members.iter().any(|member| member.id == id) {
            problems.at(format!("{at}/id"), "it is a member already; a route may name it again");
        }
        members.push(Member { id, verbs });
    }
    members
}

fn body(
    entry: &Map<String, Value>,
    kind: EntryKind,
    at: &str,
    problems: &mut Problems,
) -> Option<SkillBody> {
    let body: Option<SkillBody> = problems.read(entry, at, "body", "a skill's text");
    let pointer = format!("{at}/body");
    if (kind == EntryKind::Skill) != entry.contains_key("body") {
        problems.at(&pointer, "a skill needs a body, nothing else has one");
    }
    match &body {
        Some(SkillBody::Markdown { markdown }) if markdown.len() > MAX_BODY => {
            problems.at(pointer, format!("it has more than {MAX_BODY} bytes"));
        }
        Some(SkillBody::Ref { r#ref }) if !r#ref.starts_with('/') || r#ref.starts_with("//") => {
            problems.at(pointer, "it is not a path of this gateway");
        }
        _ => {}
    }
    body
}

/// The skills that teach an entry: under `skills` or `attachSkills`, by name or id.
fn skills(
    entry: &Map<String, Value>,
    at: &str,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Vec<SkillRef> {
    let mut skills = Vec::new();
    for member in ["skills", "attachSkills"] {
        let list = problems.list(entry, at, member);
        if list.len() > MAX_LIST {
            problems.at(format!("{at}/{member}"), format!("it has more than {MAX_LIST} entries"));
        }
        for (index, skill) in list.iter().take(MAX_LIST).enumerate() {
            let text = skill.as_str().or_else(|| skill.get("id")?.as_str()).unwrap_or_default();
            let id = known.id(text);
            match id.as_ref().and_then(|id| known.own(id)).flatten() {
                Some((EntryKind::Skill, _, label)) => {
                    let label = label.clone();
                    skills.extend(id.map(|id| SkillRef { id, label }));
                }
                _ => problems.at(format!("{at}/{member}/{index}"), "there is no such skill here"),
            }
        }
    }
    skills
}
