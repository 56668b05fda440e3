//! Formats of access logs.

use pilot_proto::envoy::config::core::v3::{
    DataSource, JsonFormatOptions, SubstitutionFormatString, TypedExtensionConfig, data_source,
    substitution_format_string::Format,
};
use pilot_proto::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use pilot_proto::google::protobuf::Struct;
use pilot_proto::node::from_json;
use serde_json::{Map, Value};

use crate::generate::proto::{extension, string};

/// Istio's default text format. <https://istio.io/latest/docs/tasks/observability/logs/access-log/>
pub(super) const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// Istio's default JSON fields.
const FIELDS: &[(&str, &str)] = &[
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// Representation of commands without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyValue {
    /// Omitted.
    Omitted,
    /// `-`.
    Dashed,
}

/// Returns a text format, terminated by a newline; empty: Istio's default.
pub(super) fn text(configured: &str, empty: EmptyValue) -> SubstitutionFormatString {
    let line = match configured {
        "" => TEXT.to_owned(),
        ended if ended.ends_with('\n') => ended.to_owned(),
        open => format!("{open}\n"),
    };
    SubstitutionFormatString {
        formatters: formatters([line.as_str()]),
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(line)),
            ..DataSource::default()
        })),
        omit_empty_values: empty == EmptyValue::Omitted,
        ..SubstitutionFormatString::default()
    }
}

/// Returns a JSON format; without fields: Istio's default.
pub(super) fn object(configured: Option<&Map<String, Value>>, empty: EmptyValue) -> SubstitutionFormatString {
    let fields = match configured.map(fields).filter(|fields| !fields.fields.is_empty()) {
        Some(fields) => fields,
        None => {
            Struct { fields: FIELDS.iter().map(|(name, text)| ((*name).to_owned(), string(text))).collect() }
        }
    };
    let configured = configured.into_iter().flat_map(Map::values).filter_map(Value::as_str);
    SubstitutionFormatString {
        formatters: formatters(configured),
        format: Some(Format::JsonFormat(fields)),
        json_format_options: Some(JsonFormatOptions::default()),
        omit_empty_values: empty == EmptyValue::Omitted,
        ..SubstitutionFormatString::default()
    }
}

/// Returns the formatter extensions that the commands need; `REQ_WITHOUT_QUERY` is the only one that is not built in.
pub(super) fn formatters<'a>(configured: impl IntoIterator<Item = &'a str>) -> Vec<TypedExtensionConfig> {
    let used = configured.into_iter().any(|text| text.contains("%REQ_WITHOUT_QUERY"));
    let formatter = || extension("envoy.formatter.req_without_query", &ReqWithoutQuery {});
    used.then(formatter).into_iter().collect()
}

/// Converts fields without null values, which Envoy rejects.
fn fields(configured: &Map<String, Value>) -> Struct {
    let some = configured.iter().filter(|(_, value)| !value.is_null());
    Struct { fields: some.map(|(name, value)| (name.clone(), from_json(value))).collect() }
}
