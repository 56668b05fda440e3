//! Envoy's `NodeMatcher`, without regular expressions: callers cannot run expressions here.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/node.proto>

use pilot_proto::envoy::r#type::matcher::v3::double_matcher::MatchPattern as Number;
use pilot_proto::envoy::r#type::matcher::v3::list_matcher::MatchPattern as List;
use pilot_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern as Text;
use pilot_proto::envoy::r#type::matcher::v3::struct_matcher::path_segment::Segment;
use pilot_proto::envoy::r#type::matcher::v3::value_matcher::MatchPattern as Pattern;
use pilot_proto::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher, StructMatcher, ValueMatcher};
use pilot_proto::google::protobuf::value::Kind;
use pilot_proto::google::protobuf::{Struct, Value};

/// Reason to reject a matcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// It has a regular expression, or an extension.
    #[error("node_matchers: only exact, prefix, suffix and contains match strings here")]
    Pattern,
    /// It has no condition.
    #[error("node_matchers: a matcher says nothing")]
    Empty,
}

/// Returns `true` if any of the matchers matches the node; without matchers all nodes match.
pub(super) fn any(matchers: &[NodeMatcher], id: &str, metadata: &Struct) -> Result<bool, Unusable> {
    let mut meant = matchers.is_empty();
    for matcher in matchers {
        meant |= node(matcher, id, metadata)?;
    }
    Ok(meant)
}

fn node(matcher: &NodeMatcher, id: &str, metadata: &Struct) -> Result<bool, Unusable> {
    let mut meant = matcher.node_id.as_ref().map_or(Ok(true), |matcher| text(matcher, id))?;
    for matcher in &matcher.node_metadatas {
        meant &= field(matcher, metadata)?;
    }
    Ok(meant)
}

fn text(matcher: &StringMatcher, given: &str) -> Result<bool, Unusable> {
    let fold = |text: &str| if matcher.ignore_case { text.to_lowercase() } else { text.to_owned() };
    let given = fold(given);
    match &matcher.match_pattern {
        Some(Text::Exact(text)) => Ok(given == fold(text)),
        Some(Text::Prefix(text)) => Ok(given.starts_with(&fold(text))),
        Some(Text::Suffix(text)) => Ok(given.ends_with(&fold(text))),
        Some(Text::Contains(text)) => Ok(given.contains(&fold(text))),
        Some(Text::SafeRegex(_) | Text::Custom(_)) => Err(Unusable::Pattern),
        None => Err(Unusable::Empty),
    }
}

fn field(matcher: &StructMatcher, metadata: &Struct) -> Result<bool, Unusable> {
    let mut found: Option<&Value> = None;
    let mut level = Some(metadata);
    for segment in &matcher.path {
        let Some(Segment::Key(key)) = &segment.segment else { return Err(Unusable::Empty) };
        found = level.and_then(|fields| fields.fields.get(key));
        level = match found.and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(fields)) => Some(fields),
            _ => None,
        };
    }
    value(matcher.value.as_ref().ok_or(Unusable::Empty)?, found)
}

fn value(matcher: &ValueMatcher, given: Option<&Value>) -> Result<bool, Unusable> {
    let kind = given.and_then(|value| value.kind.as_ref());
    Ok(match (matcher.match_pattern.as_ref().ok_or(Unusable::Empty)?, kind) {
        (Pattern::PresentMatch(present), _) => given.is_some() == *present,
        (Pattern::NullMatch(_), Some(Kind::NullValue(_))) => true,
        (Pattern::BoolMatch(wanted), Some(Kind::BoolValue(given))) => wanted == given,
        (Pattern::DoubleMatch(matcher), Some(Kind::NumberValue(given))) => match &matcher.match_pattern {
            // The API demands an exact double.
            Some(Number::Exact(wanted)) => given.total_cmp(wanted).is_eq(),
            Some(Number::Range(range)) => (range.start..range.end).contains(given),
            None => return Err(Unusable::Empty),
        },
        (Pattern::StringMatch(matcher), given) => {
            let given = match given {
                Some(Kind::StringValue(given)) => Some(given),
                _ => None,
            };
            // An unsupported matcher is an error for every input.
            let meant = text(matcher, given.map_or("", String::as_str))?;
            given.is_some() && meant
        }
        (Pattern::ListMatch(matcher), Some(Kind::ListValue(list))) => {
            let Some(List::OneOf(matcher)) = &matcher.match_pattern else { return Err(Unusable::Empty) };
            let mut meant = false;
            for item in &list.values {
                meant |= value(matcher, Some(item))?;
            }
            meant
        }
        (Pattern::OrMatch(matchers), _) => {
            let mut meant = false;
            for matcher in &matchers.value_matchers {
                meant |= value(matcher, given)?;
            }
            meant
        }
        (
            Pattern::NullMatch(_) | Pattern::BoolMatch(_) | Pattern::DoubleMatch(_) | Pattern::ListMatch(_),
            _,
        ) => false,
    })
}

#[cfg(test)]
mod tests {
    use pilot_proto::node::NodeMetadata;
    use pilot_proto::proto3_json::from_value;
    use serde_json::{Value as Json, json};

    use super::*;

    fn check(matchers: &Json, expected: Result<bool, Unusable>) {
        let metadata = json!({
            "NAMESPACE": "shop", "LABELS": {"app": "cart", "tier": "back"}, "DEPTH": 3, "LIST": ["a", "b"], "ON": true,
        });
        let metadata: NodeMetadata = serde_json::from_value(metadata).unwrap();
        let matchers: Vec<NodeMatcher> =
            matchers.as_array().unwrap().iter().map(|matcher| from_value(matcher).unwrap()).collect();
        let found = any(&matchers, "sidecar~10.0.0.1~cart.shop~shop.svc", &metadata.to_struct());
        assert_eq!(found, expected, "{matchers:?}");
    }

    fn field(path: &[&str], value: &Json) -> Json {
        let path: Vec<Json> = path.iter().map(|key| json!({"key": key})).collect();
        json!([{"node_metadatas": [{"path": path, "value": value}]}])
    }

    #[test]
    fn without_a_matcher_all_are_meant() {
        check(&json!([]), Ok(true));
        check(&json!([{}]), Ok(true));
    }

    #[test]
    fn ids_are_matched_as_strings() {
        for (id, expected) in [
            (json!({"exact": "sidecar~10.0.0.1~cart.shop~shop.svc"}), true),
            (json!({"exact": "cart.shop"}), false),
            (json!({"prefix": "sidecar~"}), true),
            (json!({"suffix": "~shop.svc"}), true),
            (json!({"contains": "~CART."}), false),
            (json!({"contains": "~CART.", "ignore_case": true}), true),
        ] {
            check(&json!([{"node_id": id}]), Ok(expected));
            // Matchers are alternatives; the conditions of one must all hold.
            check(&json!([{"node_id": {"exact": "another"}}, {"node_id": id}]), Ok(expected));
            let mut both = field(&["NAMESPACE"], &json!({"string_match": {"exact": "bank"}}));
            both[0]["node_id"] = id;
            check(&both, Ok(false));
        }
    }

    #[test]
    fn metadata_is_matched_by_path_and_kind() {
        for (path, value, expected) in [
            (&["NAMESPACE"][..], json!({"string_match": {"exact": "shop"}}), true),
            (&["NAMESPACE"], json!({"bool_match": true}), false),
            (&["LABELS", "app"], json!({"string_match": {"prefix": "ca"}}), true),
            (&["LABELS", "app", "deeper"], json!({"string_match": {"prefix": ""}}), false),
            (&["LABELS", "nope"], json!({"present_match": true}), false),
            (&["LABELS", "nope"], json!({"present_match": false}), true),
            (&["DEPTH"], json!({"double_match": {"exact": 3.0}}), true),
            (&["DEPTH"], json!({"double_match": {"range": {"start": 3.0, "end": 4.0}}}), true),
            (&["DEPTH"], json!({"double_match": {"range": {"start": 1.0, "end": 3.0}}}), false),
            (&["LIST"], json!({"list_match": {"one_of": {"string_match": {"exact": "b"}}}}), true),
            (&["LIST"], json!({"list_match": {"one_of": {"string_match": {"exact": "c"}}}}), false),
            (
                &["ON"],
                json!({"or_match": {"value_matchers": [{"null_match": {}}, {"bool_match": true}]}}),
                true,
            ),
        ] {
            check(&field(path, &value), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        check(&json!([{"node_id": {"safe_regex": {"regex": ".*"}}}]), Err(Unusable::Pattern));
        check(&json!([{"node_id": {}}]), Err(Unusable::Empty));
        check(
            &field(&["NOPE"], &json!({"string_match": {"safe_regex": {"regex": "."}}})),
            Err(Unusable::Pattern),
        );
        check(&json!([{"node_metadatas": [{"path": [{"key": "NAMESPACE"}]}]}]), Err(Unusable::Empty));
    }
}
