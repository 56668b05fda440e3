//! Parses the call on the command line of `pilot-discovery simulate`.

use anyhow::{Context as _, bail};
use clap::Parser as _;
use pilot_core::simulate::{CallSpec, Certificate, Tls};

use crate::config::args::CallArgs;

/// Parsed call.
#[derive(Debug)]
pub(super) struct ParsedCall {
    /// Call.
    pub(super) line: CallSpec,
    /// Output format.
    pub(super) output: Option<String>,
}

/// Parses `[METHOD] URL` and the options after it.
pub(super) fn parse(words: &[String]) -> anyhow::Result<ParsedCall> {
    let args = CallArgs::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        anyhow::anyhow!("{}", first.trim_start_matches("error: "))
    })?;
    let mut line: CallSpec = args.target.join(" ").parse()?;
    for header in &args.headers {
        let (name, value) =
            header.split_once(':').with_context(|| format!("-H {header:?}: is not 'name: value'"))?;
        let (name, value) = (name.trim(), value.trim());
        let Some(request) = &mut line.request else { bail!("-H {header:?}: a call of bytes has no headers") };
        if name.eq_ignore_ascii_case("host") {
            value.clone_into(&mut request.authority);
        } else {
            request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    let about_tls = args.sni.is_some() || !args.alpn.is_empty() || args.cert;
    if args.tls && line.tls.is_none() {
        line.tls = Some(Tls { sni: line.host.clone(), ..Tls::default() });
    }
    match &mut line.tls {
        Some(tls) => {
            if let Some(sni) = args.sni {
                tls.sni = sni;
            }
            if !args.alpn.is_empty() {
                tls.alpn = args.alpn;
            }
            if args.cert {
                tls.certificate = Certificate::Shown;
            }
        }
        None if about_tls => {
            bail!("--sni, --alpn and --cert require https://, tls:// or --tls")
        }
        None => {}
    }
    line.to = args.to.map(|to| to.parse()).transpose().context("--to")?;
    line.from = args.client;
    Ok(ParsedCall { line, output: args.output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> anyhow::Result<ParsedCall> {
        let words: Vec<String> = words.split(' ').map(|word| word.replace('_', " ")).collect();
        parse(&words)
    }

    #[test]
    fn call_is_parsed_as_by_curl() {
        let call =
            read("POST http://reviews:9080/x -H End-User:_jason -H host:_other --to 10.0.0.1:1 -o json")
                .unwrap();
        let request = call.line.request.unwrap();
        assert_eq!(
            (request.method.as_str(), request.authority.as_str(), request.path.as_str()),
            ("POST", "other", "/x")
        );
        assert_eq!(request.headers, [("end-user".to_owned(), "jason".to_owned())]);
        assert_eq!(call.line.to.unwrap().to_string(), "10.0.0.1:1");
        assert_eq!(call.output.as_deref(), Some("json"));

        let tls = read("http://a.com:8080 --tls --alpn h2,istio --cert").unwrap().line.tls.unwrap();
        assert_eq!((tls.sni.as_str(), tls.certificate), ("a.com", Certificate::Shown));
        assert_eq!(tls.alpn, ["h2", "istio"]);
        assert_eq!(read("https://a.com --sni b.com").unwrap().line.tls.unwrap().sni, "b.com");
        assert_eq!(read("http://a --client 10.0.0.9").unwrap().line.from.unwrap().to_string(), "10.0.0.9");
    }

    #[test]
    fn invalid_call_has_a_reason() {
        for (words, why) in [
            ("reviews", "is not a URL"),
            ("GET", "is not a URL"),
            ("http://a -H nothing", "name: value"),
            ("tcp://a:1 -H a:b", "has no headers"),
            ("http://a --sni b", "--sni, --alpn and --cert"),
            ("http://a --to b", "--to"),
            ("http://a --nonsense", "--nonsense"),
            ("GET http://a more words", "unexpected"),
        ] {
            let error = format!("{:#}", read(words).unwrap_err());
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}
