use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Train {
    name: String,
    max_2nd_class: Option<u32>,
    delay: i32,
    speed: f64,
    is_late: bool,
    kind: Kind,
    cars: Vec<Car>,
    seats: BTreeMap<String, u32>,
    cargo: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Car {
    door: Door,
    first_class: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    #[default]
    Unspecified,
    NightTrain,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Door {
    #[default]
    #[serde(rename = "")]
    Unset,
    Width(u32),
    OpenedBy(String),
}

fn read(value: &Value) -> (Train, Vec<String>) {
    let read = message("spec", value).unwrap();
    (read.value, read.unknown)
}

#[test]
fn every_spelling_that_protobuf_allows_says_the_same() {
    let train = Train {
        name: "n".into(),
        max_2nd_class: Some(80),
        delay: -3,
        speed: 0.5,
        kind: Kind::NightTrain,
        cars: vec![Car { door: Door::OpenedBy("x".into()), first_class: Some(false) }],
        ..Train::default()
    };
    for value in [
        json!({"name": "n", "max2ndClass": 80, "delay": -3, "speed": 0.5, "kind": "NIGHT_TRAIN",
            "cars": [{"door": {"openedBy": "x"}, "firstClass": false}]}),
        json!({"name": "n", "max_2nd_class": 80.0, "delay": -3.0, "speed": "0.5", "kind": 1,
            "cars": [{"door": {"opened_by": "x", "width": null}, "first_class": false}]}),
        json!({"name": "n", "max2ndClass": "80", "delay": "-3", "speed": "5e-1", "kind": 1.0, "seats": null,
            "cargo": null, "cars": [{"door": {"openedBy": "x"}, "firstClass": false}], "max_2nd_class": null}),
    ] {
        assert_eq!(message("spec", &value), Ok(Read { value: train.clone(), unknown: vec![] }), "{value}");
    }
}

#[test]
fn nothing_is_a_message_without_fields() {
    for value in [json!(null), json!({}), json!({"cars": null})] {
        assert_eq!(read(&value), (Train::default(), vec![]), "{value}");
    }
    assert_eq!(read(&json!({"cars": [{"door": {}}]})).0.cars, [Car::default()]);
}

#[test]
fn what_is_data_is_not_read_as_names() {
    let (train, unknown) = read(&json!({
        "seats": {"front_row": 1, "frontRow": "2", "gone": null},
        "cargo": {"snake_case": null, "list": [null, 1.0], "unknown": {}},
    }));
    assert_eq!(train.seats, BTreeMap::from([("front_row".into(), 1), ("frontRow".into(), 2)]));
    assert_eq!(train.cargo, Some(json!({"snake_case": null, "list": [null, 1.0], "unknown": {}})));
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn unknown_fields_are_noted_and_cost_nothing() {
    let (train, unknown) = read(&json!({
        "name": "n", "nam": 1, "Name": 1, "_name": 1, "name_": 1, "isLate": true, "is__late": 1, "Is_late": null,
        "cars": [{}, {"door": {"width": 2, "height": 3}, "": 1}],
    }));
    assert_eq!((train.name.as_str(), train.is_late, &train.cars[1].door), ("n", true, &Door::Width(2)));
    let mut expected =
        ["Is_late", "Name", "_name", "is__late", "nam", "name_", "cars[1].", "cars[1].door.height"]
            .map(|field| format!("spec.{field}"));
    let mut unknown = unknown;
    expected.sort();
    unknown.sort();
    assert_eq!(unknown, expected);
}

#[test]
fn a_wrong_value_is_named_by_its_path() {
    for (value, expected) in [
        (json!([]), "spec: is a list, not a mapping"),
        (json!({"name": 1}), "spec.name: is 1, not a text"),
        (json!({"name": true}), "spec.name: is true, not a text"),
        (json!({"isLate": "true"}), "spec.isLate: is \"true\", not true or false"),
        (json!({"delay": 1.5}), "spec.delay: is 1.5, not a whole number"),
        (json!({"delay": ""}), "spec.delay: is \"\", not a whole number"),
        (json!({"delay": " 1"}), "spec.delay: is \" 1\", not a whole number"),
        (json!({"delay": 1e300}), "spec.delay: "),
        (
            json!({"delay": 2_147_483_648_u32}),
            "spec.delay: 2147483648 is out of range: -2147483648 to 2147483647",
        ),
        (json!({"max_2nd_class": -1}), "spec.max_2nd_class: -1 is out of range: 0 to 4294967295"),
        (json!({"speed": "fast"}), "spec.speed: is \"fast\", not a number"),
        (json!({"speed": "NaN"}), "spec.speed: is \"NaN\", not a number"),
        (
            json!({"kind": "night_train"}),
            "spec.kind: is \"night_train\", not one of UNSPECIFIED, NIGHT_TRAIN",
        ),
        (json!({"kind": 2}), "spec.kind: is 2, not one of UNSPECIFIED, NIGHT_TRAIN"),
        (json!({"kind": {}}), "spec.kind: is a mapping, not one of UNSPECIFIED, NIGHT_TRAIN"),
        (json!({"cars": {}}), "spec.cars: is a mapping, not a list"),
        (json!({"cars": [null]}), "spec.cars[0]: is nothing, not a mapping"),
        (json!({"cars": [{}, {"firstClass": 0}]}), "spec.cars[1].firstClass: is 0, not true or false"),
        (json!({"cars": [{"door": "x"}]}), "spec.cars[0].door: is \"x\", not a mapping"),
        (
            json!({"cars": [{"door": {"width": "x"}}]}),
            "spec.cars[0].door.width: is \"x\", not a whole number",
        ),
        (
            json!({"cars": [{"door": {"width": 1, "openedBy": "x"}}]}),
            "spec.cars[0].door: has openedBy and width, of which one is allowed",
        ),
        (
            json!({"cars": [{"first_class": true, "firstClass": true}]}),
            "spec.cars[0].firstClass: is written twice, as firstClass and as first_class",
        ),
        (json!({"seats": []}), "spec.seats: is a list, not a mapping"),
        (json!({"seats": {"a.b": "x"}}), "spec.seats.a.b: is \"x\", not a whole number"),
    ] {
        let wrong = message::<Train>("spec", &value).unwrap_err().to_string();
        assert!(wrong.starts_with(expected), "{value}\n expected {expected}\n    found {wrong}");
    }
}
