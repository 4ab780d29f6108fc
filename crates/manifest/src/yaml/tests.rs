//! Trees by example, and the second opinion: what both YAML readers accept means the same to both.

use proptest::prelude::*;

use super::*;

fn json(text: &str) -> serde_json::Value {
    let (node, faults) = read(text);
    assert_eq!(faults, [], "{text}");
    node.unwrap().to_json()
}

#[test]
fn reads_values_aliases_and_merge_keys() {
    for (text, expected) in [
        ("a: 1", serde_json::json!({"a": 1})),
        ("a:\nb: ~\nc: ''", serde_json::json!({"a": null, "b": null, "c": ""})),
        ("[a, 'b', \"c\\n\"]", serde_json::json!(["a", "b", "c\n"])),
        ("a: |\n  x\n  y\n", serde_json::json!({"a": "x\ny\n"})),
        ("a: !!str 1\nb: ! 2", serde_json::json!({"a": "1", "b": "2"})),
        ("a: &x {k: 1}\nb: *x", serde_json::json!({"a": {"k": 1}, "b": {"k": 1}})),
        (
            "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}",
            serde_json::json!({"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}),
        ),
        ("b: {<<: [{k: 1}, {k: 2, m: 3}]}", serde_json::json!({"b": {"k": 1, "m": 3}})),
        ("'<<': 1", serde_json::json!({"<<": 1})),
        ("\u{feff}a: 1", serde_json::json!({"a": 1})),
    ] {
        assert_eq!(json(text), expected, "{text}");
    }
}

#[test]
fn every_node_knows_its_place() {
    let text = "dev:\n  api: # note\n    image: 'a'\n    sync:\n      - x\n      - ü: 1\n    empty:\n    flow: {a: 1}\n";
    let (node, _) = read(text);
    let root = node.unwrap();
    let api = root.field("dev").and_then(|dev| dev.field("api")).unwrap();
    let at = |name: &str| {
        let span = api.field(name).unwrap().span;
        &text[span.start..span.end]
    };
    assert_eq!((at("image"), at("sync"), at("empty"), at("flow")), ("'a'", "x", "empty", "{a: 1}"));
    let Value::Sequence(items) = &api.field("sync").unwrap().value else { panic!("a list") };
    assert_eq!(&text[items[1].span.start..items[1].span.end], "ü");
    assert_eq!(&text[api.span.start..api.span.end], "image");
}

#[test]
fn all_repeated_keys_are_found_each_at_its_second_place() {
    let (node, faults) = read("a: 1\nb: {c: 1, c: 2}\na: 3\nl: [{d: 1, d: 1}]\n");
    let told: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.span.start)).collect();
    assert_eq!(told, [("b.c", 15), ("a", 21), ("l[0].d", 37)]);
    assert_eq!(node.unwrap().field("a").unwrap().to_json(), serde_json::json!(1), "the first one stays");
}

#[test]
fn depth_is_bounded_also_through_aliases() {
    let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
    let of = |outer: usize, inner: usize| {
        let (node, faults) = read(&format!("a: &a {}\nb: {}\n", nested(inner, "x"), nested(outer, "*a")));
        assert_eq!(node.is_none(), !faults.is_empty());
        faults.into_iter().map(|fault| fault.message).next()
    };
    let refused = Some(format!("this is nested more than {MAX_DEPTH} levels deep"));
    // The mapping itself is one level.
    assert_eq!(of(15, 16), None);
    assert_eq!(of(16, 16), refused);
    assert_eq!(of(0, 31), None);
    assert_eq!(of(0, 32), refused);
}

/// A document of everything that a manifest may hold, in one of several styles.
fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "[a-z][a-z ]{0,5}[a-z]",
        "[0-9]{1,4}",
        "'[a-z:# {}]{0,6}'",
        "\"[a-z:# ]{0,6}\"",
        Just("~".to_owned()),
        Just("true".to_owned()),
        Just("1.5".to_owned()),
    ];
    let flow = scalar.clone().prop_recursive(3, 20, 4, |inner| {
        let pair = ("[a-z]{1,3}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map("[a-z]{1,3}", pair, 0..4).prop_map(|map| {
                let pairs: Vec<_> =
                    map.into_iter().map(|(key, (_, value))| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    });
    let list =
        prop::collection::vec(flow.clone(), 1..4).prop_map(|items| format!("\n  - {}", items.join("\n  - ")));
    let block =
        prop_oneof![flow, list, "[a-z]{1,5}(\n  [a-z]{1,5}){0,2}".prop_map(|text| format!("|\n  {text}"))];
    prop::collection::btree_map("[a-z]{1,5}", block, 1..6).prop_map(|map| {
        map.into_iter().flat_map(|(key, value)| [key, ": ".into(), value, "\n".into()]).collect()
    })
}

/// The words that the two readers type differently: YAML 1.1's booleans, and octal with a leading zero.
fn differs(text: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off"];
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        words.contains(&word) || (word.len() > 1 && word.starts_with('0') && word.parse::<u64>().is_ok())
    })
}

proptest! {
    #[test]
    fn both_readers_mean_the_same(text in document().prop_filter("known differences", |text| !differs(text))) {
        let theirs: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let theirs = serde_json::to_value(theirs).unwrap();
        prop_assert_eq!(json(&text), theirs, "{}", text);
    }
}
