use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::audit::canonical::tests::any_json;
use crate::audit::line::{Body, Head, check};
use crate::audit::record::Stamp;
use crate::ids::{CorrelationId, EventId, SessionId, TokenId};
use crate::model::verb::{Verb, VerbSet};
use crate::redact::{MAX_BYTES, Redactor};

const NOW: Timestamp = Timestamp::from_millis(1_782_212_400_000);

fn written(record: &Record, origin: Option<Origin>) -> (String, Head) {
    let workload = origin.as_ref().map(|_| "local/nas".to_owned());
    let stamp = Stamp { id: EventId::fresh(NOW), at: NOW, tier: Tier::Primary, workload, origin };
    let head = Head { seq: 41, hash: "ab".repeat(32) };
    let mut line = Vec::new();
    let head = Body::new(record, &stamp).follow(&head, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    (String::from_utf8(line).unwrap(), head)
}

fn full(payload: &RawValue, text: &str, detail: &Value) -> Record {
    let agent = "claude-1".parse().unwrap();
    Record::new(EventType::Invoke)
        .jti(&TokenId::fresh(NOW))
        .session(&SessionId::fresh(NOW))
        .capability(text)
        .verbs(VerbSet::from_iter(Verb::ALL))
        .outcome(RecordOutcome::Denied)
        .detail(detail)
        .input(payload)
        .output(payload)
        .correlation(&CorrelationId::fresh(NOW))
        .attribution(Attribution {
            agent,
            principal: Some(text.to_owned()),
            grant_ref: Some(text.to_owned()),
            policy_ref: Some(text.to_owned()),
        })
        .agent(&"claude-1".parse().unwrap())
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn a_line_has_every_member_and_reads_back_as_the_event_it_is() {
    let id = EventId::fresh(crate::clock::Timestamp::from_millis(7));
    let origin = Origin { id, seq: 7, hash: "cd".repeat(32) };
    let record = full(&raw("{\"b\":1,\"a\":[2.5]}"), "notes.file.read", &json!({"z": 1, "y": "é"}));
    let (line, head) = written(&record, Some(origin.clone()));
    let event: Event = serde_json::from_str(&line).unwrap();
    assert_eq!(serde_json_canonicalizer::to_string(&event).unwrap(), line);
    assert_eq!(serde_json::to_value(&event).unwrap().as_object().unwrap().len(), 20);
    assert_eq!((event.seq, &event.hash), (42, &head.hash));
    assert_eq!(event.origin, Some(origin));
    assert_eq!(check(line.as_bytes()).unwrap().head, head);
}

#[test]
fn the_hash_is_that_of_the_canonical_line_without_it() {
    let (line, head) = written(&Record::new(EventType::Handshake), None);
    let mut value: Value = serde_json::from_str(&line).unwrap();
    value.as_object_mut().unwrap().remove("hash");
    let canonical = serde_json_canonicalizer::to_string(&value).unwrap();
    let hash = crate::secret::sha256(canonical.as_bytes());
    assert_eq!(data_encoding::HEXLOWER.encode(&hash), head.hash);
}

#[test]
fn the_largest_record_is_shorter_than_the_longest_line() {
    let row = json!(vec!["\u{1}\u{1f600}".repeat(300); 60]);
    let huge = json!(vec![row; 60]);
    let payload = raw(&huge.to_string());
    let (line, _) = written(&full(&payload, &"\u{1}".repeat(5000), &huge), None);
    assert!(line.len() > 3 * MAX_BYTES, "{}", line.len());
    assert!(line.len() < MAX_LINE_BYTES, "{}", line.len());
}

#[test]
fn a_secret_learned_late_is_hidden_in_what_was_said_before_too() {
    let record = full(&raw("[\"a hunter22 b\"]"), "hunter22", &json!({"x": "hunter22"}));
    let (line, _) = written(&record.clone(), None);
    assert!(line.contains("hunter22"));
    let (line, _) = written(&record.guard(["hunter22"].into_iter().collect()), None);
    assert!(!line.contains("hunter22"), "{line}");
}

proptest! {
    #[test]
    fn every_line_is_what_the_reference_canonicalizer_writes(
        payload in any_json(), detail in any_json(), text in any::<String>(), bare in any::<bool>(),
    ) {
        let record = if bare {
            Record::new(EventType::Invoke).detail(&detail)
        } else {
            full(&raw(&payload.to_string()), &text, &detail)
        };
        let (line, head) = written(&record, None);
        let event: Event = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&serde_json_canonicalizer::to_string(&event).unwrap(), &line);
        prop_assert_eq!(check(line.as_bytes()).unwrap().head, head);
    }

    #[test]
    fn no_planted_secret_reaches_a_line(secret in "[A-Z0-9!$%/+=]{6,40}", pad in 0_usize..520) {
        let redactor = Redactor::new([&secret].into_iter().collect());
        let text = format!("{} {secret}", "x".repeat(pad));
        let payload = raw(&json!([{&text: [&text]}]).to_string());
        let record = Record::guarded(EventType::Invoke, &redactor)
            .capability(&text)
            .detail(&json!({"message": &text}))
            .input(&payload)
            .output(&payload);
        let (line, _) = written(&record, None);
        prop_assert!(!line.contains(&secret), "{line}");
    }
}

#[test]
fn no_key_of_a_payload_means_anything_to_who_reads_the_line() {
    // What serde_json's own `Value` unfolds when it reads it.
    for inner in ["1", "not JSON", "{\\\"a\\\":1,\\\"a\\\":2}"] {
        let payload = raw(&format!("{{\"$serde_json::private::RawValue\":\"{inner}\"}}"));
        let detail = json!({"$serde_json::private::RawValue": inner});
        let (line, head) = written(&full(&payload, "notes.file.read", &detail), None);
        assert_eq!(check(line.as_bytes()).unwrap().head, head);
        let event: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json_canonicalizer::to_string(&event).unwrap(), line);
    }
}
