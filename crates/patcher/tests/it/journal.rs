//! The record on its Lease: its bytes, its way back into a record, and what hostile ones do.

use proptest::prelude::*;
use serde_json::{Value, json};
use towline_patcher::{
    AtZero, DevPlan, JOURNAL_ANNOTATION, MAX_JOURNAL_BYTES, Phase, Record, Restore, at_zero, clone_of,
    give_back, hold, how_to_undo, lease, lease_name, renew, restore, rewrite, take_over, verify,
};

use crate::deployments::{CANARY, any_json, plan, realistic};

fn record() -> Record {
    let original = realistic();
    let plan = DevPlan {
        container: Some("api".to_owned()),
        environment: vec![("SECRET".to_owned(), CANARY.to_owned())],
        ..plan()
    };
    let clone = clone_of(&original, &plan).unwrap();
    let record = Record::new(&original, &plan, &clone, "0.1.0").unwrap();
    assert!(record.is_of(&clone));
    record
}

fn parked() -> Record {
    let mut record = record();
    record.observe(&realistic());
    record
}

fn leased(record: &Record) -> Value {
    lease(&lease_name("Deployment", "api"), record, "alice@laptop", "2024-05-03T10:00:00.000000Z", 60)
}

fn journal(lease: &Value) -> &str {
    lease["metadata"]["annotations"][JOURNAL_ANNOTATION].as_str().unwrap()
}

#[test]
fn golden_bytes() {
    let mut record = parked();
    record.re_parked(1_700_000_000);
    insta::assert_snapshot!("journal", journal(&leased(&record)));
    insta::assert_snapshot!("how_to_undo", how_to_undo(&record));
}

#[test]
fn round_trip() {
    for record in [record(), parked()] {
        let lease = leased(&record);
        let held = hold(&lease).unwrap();
        assert_eq!(held.record, record);
        assert_eq!((held.holder.as_str(), held.duration_seconds), ("alice@laptop", 60));
        assert_eq!(held.renew_time.as_deref(), Some("2024-05-03T10:00:00.000000Z"));
    }
}

#[test]
fn a_lease_is_renewed_rewritten_and_taken_over() {
    let mut lease = leased(&record());
    lease["metadata"]["resourceVersion"] = json!("5");
    lease["metadata"]["labels"]["theirs"] = json!("kept");
    let renewed = renew(&lease, "later");
    assert_eq!(hold(&renewed).unwrap().renew_time.as_deref(), Some("later"));
    let mut back = renewed.clone();
    back["spec"]["renewTime"] = lease["spec"]["renewTime"].clone();
    assert_eq!(back, lease, "nothing else is changed");

    let mut record = record();
    record.phase = Phase::Restoring;
    let taken = rewrite(&take_over(&lease, "bob", "later", 30), &record);
    let held = hold(&taken).unwrap();
    assert_eq!(
        (held.record.phase, held.holder.as_str(), held.duration_seconds),
        (Phase::Restoring, "bob", 30)
    );
    assert_eq!((held.resource_version.as_str(), &taken["spec"]["leaseTransitions"]), ("5", &json!(1)));
    assert_eq!(taken["metadata"]["labels"]["theirs"], "kept");
}

#[test]
fn no_secret_in_the_record() {
    let record = parked();
    for text in [leased(&record).to_string(), how_to_undo(&record), format!("{record:?}")] {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn the_way_back_by_hand_follows_the_way_in() {
    let lines = |record: &Record| -> Vec<String> {
        how_to_undo(record)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().skip(3).take(3).collect::<Vec<_>>().join(" "))
            .collect()
    };
    let clone = "delete deployment api-towline-k3v7";
    let lease = "delete lease towline.deployment.api";
    assert_eq!(lines(&record()), [clone, lease], "nothing to scale before the original was touched");
    let mut record = parked();
    assert_eq!(lines(&record), [clone, "scale deployment api", lease], "its volume is exclusive");
    record.down_first = None;
    assert_eq!(lines(&record), ["scale deployment api", clone, lease]);
}

#[test]
fn hostile_leases_are_errors() {
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut lease = leased(&parked());
        change(&mut lease);
        let error = hold(&lease).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.len() < 400 && !error.contains('\x1b'), "{error}");
    };
    let field = |key: &'static str, value: Value| {
        move |lease: &mut Value| {
            let mut journal: Value = serde_json::from_str(journal(lease)).unwrap();
            journal[key] = value.clone();
            lease["metadata"]["annotations"][JOURNAL_ANNOTATION] = json!(journal.to_string());
        }
    };
    let raw = |text: String| {
        move |lease: &mut Value| lease["metadata"]["annotations"][JOURNAL_ANNOTATION] = json!(text)
    };
    check(&|lease| *lease = json!([]), "no annotation");
    check(&|lease| lease["metadata"]["annotations"] = json!("x"), "no annotation");
    check(&raw("x".repeat(MAX_JOURNAL_BYTES + 1)), "more than 16384");
    check(&raw("[".repeat(9000)), "cannot be read");
    check(&raw("{}".to_owned()), "no version");
    check(&field("v", json!(3)), "has version 3, this tool reads up to 2");
    check(&field("v", json!(0)), "has version 0, this tool reads up to 2");
    check(&field("\x1b[31m", json!(2)), "unknown field");
    check(&field("session", json!("a b; rm")), "no session id");
    check(&field("clone", json!("x; rm -rf /")), "clone is no name");
    check(&field("clone", json!("api")), "clone is the original");
    check(&field("name", json!("other")), "another workload");
    check(&field("namespace", json!("other")), "another workload");
    check(&field("namespace", json!("$(x)")), "namespace is no name");
    check(&field("configMap", json!("`x`")), "configMap is no name");
    check(&field("kind", json!("De ployment")), "kind is no kind");
    check(&field("kind", json!("Node")), "another workload");
    check(&field("apiVersion", json!("../v1")), "apiVersion is no version");
    check(&field("plural", json!("../pods")), "plural is no name");
    check(&field("template", json!("/metadata")), "template leads out of the spec");
    let in_place = |field: Value| json!({"fields": [field], "specHash": ""});
    check(&field("inPlace", in_place(json!({"p": "/spec/template/x"}))), "clone is no name");
    let with = |touched: Value| {
        move |lease: &mut Value| {
            field("clone", json!(""))(lease);
            field("inPlace", in_place(touched.clone()))(lease);
        }
    };
    let no_session = "inPlace has a field that no session changes";
    check(&with(json!({"p": "/metadata/labels/x"})), no_session);
    check(&with(json!({"p": "/spec/serviceName"})), no_session);
    check(&with(json!({"p": "/spec/template"})), no_session);
    check(
        &with(json!({"p": "/spec/template/spec/containers/name=web/image", "b": "x", "v": "evil"})),
        no_session,
    );
    check(&with(json!({"p": "/spec/replicas", "v": -1})), no_session);
    check(&field("replicas", json!(-1)), "out of range");
    check(&field("replicas", json!(5_000_000_000_i64)), "out of range");
    check(&field("replicas", json!("3")), "cannot be read");
    check(
        &field("owners", json!([{"manager": "a", "operation": "Own", "apiVersion": "v1"}])),
        "neither Apply nor Update",
    );
}

#[test]
fn the_first_version_is_still_read() {
    let mut lease = leased(&parked());
    let first = journal(&lease).replacen("\"v\":2", "\"v\":1", 1);
    assert!(
        !first.contains("apiVersion\":\"apps/v1\",\"kind"),
        "a Deployment's record is as it was: {first}"
    );
    lease["metadata"]["annotations"][JOURNAL_ANNOTATION] = json!(first);
    assert_eq!(hold(&lease).unwrap().record, parked());
}

#[test]
fn restores_only_what_is_still_ours() {
    let record = parked();
    let live = |replicas: i64, owner: &str| {
        let mut original = realistic();
        original["spec"]["replicas"] = json!(replicas);
        original["metadata"]["managedFields"][0]["manager"] = json!(owner);
        original["metadata"]["managedFields"][0]["operation"] = json!("Update");
        original
    };
    let check = |original: Option<Value>, record: &Record, hpa, expected: &str| {
        let said = match restore(original.as_ref(), record, hpa) {
            Restore::Scale(patch) => format!("scale to {}", patch["spec"]["replicas"]),
            Restore::Nothing { reason } => reason,
            Restore::Gone => "gone".to_owned(),
            Restore::Replaced => "replaced".to_owned(),
        };
        assert_eq!(said, expected);
    };
    check(Some(live(0, "towline")), &record, None, "scale to 3");
    check(Some(live(0, "towline")), &record, Some((5, 9)), "scale to 5");
    check(Some(live(0, "towline")), &record, Some((1, 2)), "scale to 2");
    check(Some(live(0, "towline")), &record, Some((9, 2)), "scale to 9");
    check(Some(live(0, "kubectl")), &record, None, "was scaled to 0 by kubectl");
    check(Some(live(5, "kubectl")), &record, None, "was scaled to 5 by kubectl");
    check(Some(live(3, "kubectl")), &record, None, "has its replicas: 3");
    check(None, &record, None, "gone");
    let changed = |pointer: &str, value: Value| {
        let mut original = live(0, "towline");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        original.pointer_mut(parent).unwrap()[key] = value;
        Some(original)
    };
    check(changed("/metadata/uid", json!("other")), &record, None, "replaced");
    check(changed("/metadata/deletionTimestamp", json!("now")), &record, None, "is being deleted");
    // Where nobody keeps owners it must not stay down.
    check(changed("/metadata/managedFields", json!(null)), &record, None, "scale to 3");
    check(Some(live(0, "towline")), &self::record(), None, "was not scaled down");
    assert_eq!(at_zero(&live(0, "towline")), Some(AtZero::Towline));
    assert_eq!(at_zero(&live(0, "kubectl")), Some(AtZero::Other));
    assert_eq!(at_zero(&live(1, "kubectl")), None);
}

#[test]
fn a_write_without_an_answer_does_not_empty_the_record() {
    let mut record = parked();
    let mut after = realistic();
    after["spec"]["replicas"] = json!(0);
    after["metadata"]["managedFields"] = json!([]);
    record.observe(&after);
    assert_eq!((record.replicas, record.owners.len()), (3, 1));
}

#[test]
fn ownership_is_given_back_after_an_autoscaler_bounded_the_number() {
    let record = parked();
    let mut original = realistic();
    original["spec"]["replicas"] = json!(5);
    original["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:template": {}}});
    let ours = json!({
        "manager": "towline", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "time": "2024-05-03T10:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}},
    });
    original["metadata"]["managedFields"].as_array_mut().unwrap().push(ours);
    let patch = give_back(&original, &record).unwrap();
    assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "4711"}));
    assert_eq!(patch[1]["value"], realistic()["metadata"]["managedFields"]);
    original["metadata"]["managedFields"] = patch[1]["value"].clone();
    assert_eq!(give_back(&original, &record), None);
    assert_eq!(verify(Some(&original), &record, Some((5, 9))), []);
    assert_eq!(verify(Some(&original), &record, None).len(), 1);
    original["spec"]["replicas"] = json!(0);
    assert_eq!(give_back(&original, &record), None, "not while it is parked");
}

#[test]
fn ownership_is_not_given_over_a_decision() {
    let record = parked();
    let mut original = realistic();
    original["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:template": {}}});
    let mut theirs = realistic()["metadata"]["managedFields"][0].clone();
    theirs["manager"] = json!("kubectl");
    theirs["fieldsV1"] = json!({"f:spec": {"f:replicas": {}}});
    original["metadata"]["managedFields"].as_array_mut().unwrap().push(theirs);
    assert_eq!(give_back(&original, &record), None, "they set the same number, but they did");
}

#[test]
fn we_are_never_an_owner_to_give_back_to() {
    let mut original = realistic();
    original["metadata"]["managedFields"][0]["manager"] = json!("towline");
    let mut record = record();
    record.observe(&original);
    assert_eq!(record.owners, [], "an earlier session could not give it back");
}

#[test]
fn what_was_seen_before_our_write_is_past() {
    let mut original = realistic();
    original["metadata"]["generation"] = json!(7);
    let mut record = record();
    assert!(!record.is_past(&original), "nothing was written yet");
    record.observe(&original);
    assert!(record.is_past(&original));
    original["metadata"]["generation"] = json!(8);
    assert!(!record.is_past(&original));
    original["metadata"]["generation"] = json!("x");
    assert!(!record.is_past(&original));
}

#[test]
fn three_times_in_ten_minutes() {
    let mut record = parked();
    let now = 1_700_000_000;
    for second in 0..3 {
        assert!(record.may_re_park(now + second));
        record.re_parked(now + second);
    }
    assert!(!record.may_re_park(now + 3));
    assert!(!record.may_re_park(now + 599));
    assert!(record.may_re_park(now + 600));
    record.re_parked(now + 600);
    assert_eq!(record.re_parks.len(), 3);
    assert!(!record.may_re_park(now + 600));
}

#[test]
fn very_many_owners_fit() {
    let mut original = realistic();
    let entry = original["metadata"]["managedFields"][0].clone();
    let many: Vec<_> = (0..500)
        .map(|number| {
            let mut entry = entry.clone();
            entry["manager"] = json!(format!("{number}{}", "\u{1F40B}".repeat(31)));
            entry
        })
        .collect();
    original["metadata"]["managedFields"] = json!(many);
    let mut record = record();
    record.observe(&original);
    let lease = leased(&record);
    assert!(journal(&lease).len() <= MAX_JOURNAL_BYTES && record.owners.len() > 10);
    assert_eq!(hold(&lease).unwrap().record, record);
}

proptest! {
    #[test]
    fn any_json_as_a_journal_never_panics(value in any_json(), key in "[a-zA-Z]{1,14}") {
        let mut lease = leased(&parked());
        let mut fields: Value = serde_json::from_str(journal(&lease)).unwrap();
        fields[&key] = value.clone();
        for journal in [value.to_string(), fields.to_string()] {
            lease["metadata"]["annotations"][JOURNAL_ANNOTATION] = json!(journal);
            if let Ok(held) = hold(&lease) {
                let text = how_to_undo(&held.record);
                let safe = |c: char| c.is_ascii_alphanumeric() || " \n#().-`=,;:".contains(c);
                prop_assert!(text.chars().all(safe), "{}", text);
            }
        }
    }

    #[test]
    fn any_json_as_an_original_never_panics(value in any_json()) {
        let record = parked();
        restore(Some(&value), &record, Some((1, 2)));
        give_back(&value, &record);
        verify(Some(&value), &record, None);
        towline_patcher::refusal(&value);
        let failed = clone_of(&value, &plan()).is_err();
        prop_assert!(failed);
    }
}
