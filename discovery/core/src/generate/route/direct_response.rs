//! Direct responses of the proxy.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPDirectResponse>

use pilot_proto::envoy::config::core::v3::{DataSource, data_source};
use pilot_proto::envoy::config::route::v3::DirectResponseAction;

use super::MAX_BODY;
use super::context::RuleError;
use crate::api::virtual_service::{DirectResponse, HttpBody};

/// Translates `directResponse`. Envoy rejects the whole route configuration for an invalid status or a body that is too
/// long.
pub(super) fn direct_response(response: &DirectResponse) -> Result<DirectResponseAction, RuleError> {
    if !(200..600).contains(&response.status) {
        return Err("directResponse.status is not 200 to 599");
    }
    let body = response.body.as_ref().map(body).transpose()?.flatten();
    Ok(DirectResponseAction { status: response.status, body, ..DirectResponseAction::default() })
}

fn body(body: &HttpBody) -> Result<Option<DataSource>, RuleError> {
    let specifier = match (&body.string, &body.bytes) {
        (Some(text), _) => data_source::Specifier::InlineString(text.clone()),
        (None, Some(text)) => {
            let bytes = base64(text).ok_or("directResponse.body.bytes is not base64")?;
            data_source::Specifier::InlineBytes(bytes.into())
        }
        (None, None) => return Ok(None),
    };
    let length = match &specifier {
        data_source::Specifier::InlineString(text) => text.len(),
        data_source::Specifier::InlineBytes(bytes) => bytes.len(),
        _ => 0,
    };
    match length {
        // Envoy rejects an empty data source.
        0 => Ok(None),
        _ if length > MAX_BODY as usize => Err("directResponse.body is longer than 1 MiB"),
        _ => Ok(Some(DataSource { specifier: Some(specifier), ..DataSource::default() })),
    }
}

/// Decodes base64 as protobuf's JSON permits it: standard or URL-safe alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut pending) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0_u32);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            bytes.push(u8::try_from(bits >> pending & 0xff).ok()?);
        }
    }
    // A single leftover digit has six bits, less than a byte.
    (pending < 6).then_some(bytes)
}
