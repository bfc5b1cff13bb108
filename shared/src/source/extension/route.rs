//! What a manifest says of how an entry is called.

use std::time::Duration;

use serde_json::{Map, Value};

use super::manifest::Run;
use super::read::{Known, Problems};
use crate::model::entry::Member;
use crate::transport::cli::argv::Template;
use crate::transport::cli::{DEFAULT_TIMEOUT, MAX_TIMEOUT, Route, Shape, environment};
use crate::transport::workflow::{Feed, Step};

/// The most steps of a workflow.
const MAX_STEPS: usize = 64;

/// The members of a route; anything but `allowed` is a problem, for it would be believed to do
/// something.
fn members_of<'a>(
    entry: &'a Map<String, Value>,
    at: &str,
    allowed: &[&str],
    problems: &mut Problems,
) -> Option<&'a Map<String, Value>> {
    let route = match entry.get("route") {
        None => return None,
        Some(Value::Object(route)) => route,
        Some(_) => {
            problems.at(format!("{at}/route"), "it is not an object");
            return None;
        }
    };
    for name in route.keys().filter(|name| !allowed.contains(&name.as_str())) {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        problems.at(format!("{at}/route/{escaped}"), "this transport knows no such member");
    }
    Some(route)
}

/// The route of a command.
pub(super) fn cli(
    entry: &Map<String, Value>,
    schema: Option<&Value>,
    at: &str,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    let allowed = ["bin", "argv", "env", "secrets", "timeoutMs", "output"];
    let Some(route) = members_of(entry, at, &allowed, problems) else {
        problems.at(format!("{at}/route"), "a cli capability says which binary it runs");
        return None;
    };
    let at = format!("{at}/route");
    let bin = route.get("bin").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !known.binaries.contains(&bin) {
        problems.at(format!("{at}/bin"), "it is not on the manifest's list of binaries");
    }
    let argv = problems.texts(route, &at, "argv");
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let template = Template::read(&argv, schema);
    for (index, why) in template.as_ref().err().into_iter().flatten() {
        problems.at(format!("{at}/argv/{index}"), why);
    }
    let env = problems.texts(route, &at, "env");
    for (index, name) in env.iter().enumerate() {
        if let Err(why) = environment::check_name(name) {
            problems.at(format!("{at}/env/{index}"), why);
        }
    }
    let secrets = secrets(route, &at, known, problems);
    let timeout = match problems.read::<u64>(route, &at, "timeoutMs", "a number of milliseconds") {
        None => DEFAULT_TIMEOUT,
        Some(ms) => {
            let timeout = Duration::from_millis(ms);
            if ms == 0 || timeout > MAX_TIMEOUT {
                let most = MAX_TIMEOUT.as_millis();
                problems.at(format!("{at}/timeoutMs"), format!("it is between 1 and {most}"));
            }
            timeout
        }
    };
    let shape = match route.get("output").map(Value::as_str) {
        None | Some(Some("text")) => Shape::Text,
        Some(Some("json")) => Shape::Json,
        Some(_) => {
            problems.at(format!("{at}/output"), "it is text or json");
            Shape::Text
        }
    };
    Some(Route { bin, argv: template.ok()?, env, secrets, timeout, shape })
}

/// The secrets a command gets: those its route names, or all of the manifest's.
fn secrets(
    route: &Map<String, Value>,
    at: &str,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    if !route.contains_key("secrets") {
        return known.secrets.to_vec();
    }
    let names = problems.texts(route, at, "secrets");
    let mut secrets = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match known.secrets.iter().find(|(_, declared)| declared == name) {
            Some(secret) => secrets.push(secret.clone()),
            None => {
                problems.at(format!("{at}/secrets/{index}"), "the manifest declares no such secret")
            }
        }
    }
    secrets
}

/// The route of a workflow.
pub(super) fn workflow(
    entry: &Map<String, Value>,
    members: &[Member],
    at: &str,
    known: &Known<'_>,
    problems: &mut Problems,
) -> Run {
    let in_order = || members.iter().map(|m| Step { member: m.id.clone(), input: None }).collect();
    let Some(route) = members_of(entry, at, &["parallel", "steps"], problems) else {
        return Run::Workflow { steps: in_order(), parallel: false };
    };
    let at = format!("{at}/route");
    let parallel = problems.read(route, &at, "parallel", "true or false").unwrap_or(false);
    if !route.contains_key("steps") {
        return Run::Workflow { steps: in_order(), parallel };
    }
    let list = problems.list(route, &at, "steps");
    if !(1..=MAX_STEPS).contains(&list.len()) {
        problems.at(format!("{at}/steps"), format!("there are 1 to {MAX_STEPS} steps"));
    }
    let mut steps = Vec::new();
    for (index, step) in list.iter().take(MAX_STEPS).enumerate() {
        let at = format!("{at}/steps/{index}");
        let Some(step) = step.as_object() else {
            problems.at(at, "it is not an object");
            continue;
        };
        for name in step.keys().filter(|name| !matches!(name.as_str(), "member" | "input")) {
            problems.at(&at, format!("a step knows no {name:?}"));
        }
        let id = step.get("member").and_then(Value::as_str).and_then(|text| known.id(text));
        let id = id.filter(|id| members.iter().any(|member| member.id == *id));
        let input = input(step, index, &at, problems);
        match id {
            Some(member) => steps.push(Step { member, input }),
            None => problems.at(format!("{at}/member"), "it is not one of the workflow's members"),
        }
    }
    Run::Workflow { steps, parallel }
}

fn input(
    step: &Map<String, Value>,
    index: usize,
    at: &str,
    problems: &mut Problems,
) -> Option<Vec<(String, Feed)>> {
    let fields = match step.get("input")? {
        Value::Object(fields) => fields,
        _ => {
            problems.at(format!("{at}/input"), "it is not an object");
            return None;
        }
    };
    let mut feeds = Vec::new();
    for (name, value) in fields {
        match feed(value, index) {
            Ok(feed) => feeds.push((name.clone(), feed)),
            Err(why) => {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                problems.at(format!("{at}/input/{escaped}"), why);
            }
        }
    }
    Some(feeds)
}

/// `{"$from": "0/pointer"}`, `{"$input": "/pointer"}`, or the value itself.
fn feed(value: &Value, step: usize) -> Result<Feed, &'static str> {
    let Some(object) = value.as_object() else { return Ok(Feed::Literal(value.clone())) };
    let pointer = |text: &str| text.is_empty() || text.starts_with('/');
    let from = object.get("$from").map(Value::as_str);
    let input = object.get("$input").map(Value::as_str);
    match (object.len(), from, input) {
        (1, Some(Some(text)), None) => {
            let at = text.find('/').unwrap_or(text.len());
            let (earlier, rest) = text.split_at(at);
            match earlier.parse::<usize>() {
                Ok(earlier) if earlier < step => Ok(Feed::Step(earlier, rest.to_owned())),
                _ => Err("$from is the number of an earlier step, then a JSON pointer"),
            }
        }
        (1, None, Some(Some(text))) if pointer(text) => Ok(Feed::Input(text.to_owned())),
        _ if object.keys().any(|key| key.starts_with('$')) => {
            Err("it is {\"$from\": \"0/pointer\"}, {\"$input\": \"/pointer\"}, or a plain value")
        }
        _ => Ok(Feed::Literal(value.clone())),
    }
}
