//! Summary of a TLS context as text: certificates, roots, ALPN.

use pilot_proto::envoy::config::core::v3::{DataSource, data_source};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, TlsParameters, tls_parameters::TlsProtocol,
};
use pilot_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

/// Returns the settings that differ from Envoy's defaults.
pub(super) fn words(context: &CommonTlsContext) -> Vec<String> {
    let mut said = Vec::new();
    let files = context.tls_certificates.iter().map(|pair| source(pair.certificate_chain.as_ref()));
    let secrets = context.tls_certificate_sds_secret_configs.iter().map(|secret| secret.name.clone());
    said.extend(files.chain(secrets).map(|name| format!("shows {name}")));
    match &context.validation_context_type {
        Some(ValidationContextType::ValidationContext(own)) => said.extend(validation(own, None)),
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            said.push(format!("trusts {}", secret.name));
        }
        Some(ValidationContextType::CombinedValidationContext(both)) => {
            let secret = both.validation_context_sds_secret_config.as_ref();
            let own = both.default_validation_context.clone().unwrap_or_default();
            said.extend(validation(&own, secret.map(|secret| secret.name.as_str())));
        }
        Some(_) => said.push("trusts what a plugin knows".to_owned()),
        None => {}
    }
    if !context.alpn_protocols.is_empty() {
        said.push(format!("offers {}", context.alpn_protocols.join(",")));
    }
    said.extend(context.tls_params.iter().flat_map(parameters));
    said
}

fn validation(context: &CertificateValidationContext, secret: Option<&str>) -> Vec<String> {
    let roots = context.trusted_ca.as_ref().map(|roots| source(Some(roots)));
    let roots = secret.map(str::to_owned).or(roots);
    let mut said: Vec<String> = roots.map(|roots| format!("trusts {roots}")).into_iter().collect();
    let names = context.match_typed_subject_alt_names.iter().filter_map(|name| {
        match name.matcher.as_ref()?.match_pattern.as_ref()? {
            MatchPattern::Exact(name) => Some(name.clone()),
            MatchPattern::Prefix(prefix) => Some(format!("{prefix}*")),
            MatchPattern::Suffix(suffix) => Some(format!("*{suffix}")),
            other => Some(format!("{other:?}")),
        }
    });
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        said.push(format!("expects {}", names.join(",")));
    }
    let pins = context.verify_certificate_spki.iter().chain(&context.verify_certificate_hash);
    said.extend(pins.map(|pin| format!("pins {pin}")));
    said.extend(context.crl.as_ref().map(|crl| format!("revokes by {}", source(Some(crl)))));
    said
}

fn parameters(parameters: &TlsParameters) -> Vec<String> {
    let version = |version: TlsProtocol| match version {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlSv10 => Some("1.0"),
        TlsProtocol::TlSv11 => Some("1.1"),
        TlsProtocol::TlSv12 => Some("1.2"),
        TlsProtocol::TlSv13 => Some("1.3"),
    };
    let least = version(parameters.tls_minimum_protocol_version()).map(|least| format!("TLS from {least}"));
    let most = version(parameters.tls_maximum_protocol_version()).map(|most| format!("TLS to {most}"));
    let ciphers = Some(parameters.cipher_suites.join(",")).filter(|suites| !suites.is_empty());
    let ciphers = ciphers.map(|suites| format!("ciphers {suites}"));
    let curves = Some(parameters.ecdh_curves.join(",")).filter(|curves| !curves.is_empty());
    let curves = curves.map(|curves| format!("curves {curves}"));
    [least, most, ciphers, curves].into_iter().flatten().collect()
}

/// Returns the location of a data source.
fn source(source: Option<&DataSource>) -> String {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(data_source::Specifier::Filename(path)) => path.clone(),
        Some(data_source::Specifier::EnvironmentVariable(name)) => format!("${name}"),
        Some(data_source::Specifier::InlineBytes(_) | data_source::Specifier::InlineString(_)) => {
            "what is written here".to_owned()
        }
        None => "nothing".to_owned(),
    }
}
