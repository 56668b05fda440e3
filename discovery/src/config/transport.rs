//! Keepalive, TLS and limits of the gRPC ports.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pilot_proto::duration;

use super::Listen;
use super::args::DiscoveryArgs;

/// Of `--keepaliveMaxServerConnectionAge`, as Istio prints its default: the largest int64 of nanoseconds.
const INFINITY: &str = "2562047h47m16.854775807s";

/// Port of an instance in `PILOT_PEERS` that names none.
const MONITORING: u16 = 15014;

/// Keepalive and maximum age of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// Interval between pings of an idle connection.
    pub(crate) interval: Duration,
    /// Time until an unanswered ping ends the connection.
    pub(crate) timeout: Duration,
    /// Age at which the client is asked to reconnect, 10 % more or less; `None`: never.
    pub(crate) max_age: Option<Duration>,
    /// Time from the request to reconnect until the connection is closed.
    pub(crate) grace: Duration,
}

/// xDS over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    /// Address.
    pub(crate) listen: Listen,
    /// Certificate and its intermediates, in PEM.
    pub(crate) certificate: PathBuf,
    /// Private key, in PEM.
    pub(crate) key: PathBuf,
    /// Roots of client certificates, in PEM; `None`: no client certificate is requested.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Limits on clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// `ISTIO_GPRC_MAXSTREAMS`: HTTP/2 streams open on one connection. A proxy has one or two; a client with
    /// more opens another connection. 100 is the least that RFC 9113 recommends. Istio's
    /// 100,000 would let one connection reset streams, or hold headers, without an end.
    pub(crate) streams_per_connection: u32,
    /// `PILOT_MAX_STREAMS_PER_ADDRESS`: xDS streams open from one IP address. A pod has one or two; a gateway or a
    /// balancer may stand for a whole cluster. An idle one takes 35 KB and a descriptor: 10,000 take 350 MB.
    pub(crate) streams_per_address: usize,
    /// `PILOT_MAX_REQUESTS_PER_SECOND`: xDS streams opened in a second; `None` (or 0): by the number of cores.
    pub(crate) opens_per_second: Option<f64>,
    /// `ISTIO_GPRC_MAXRECVMSGSIZE`: bytes of a request.
    pub(crate) message: usize,
    /// `PILOT_MAX_NAMES_PER_REQUEST`: resources named in one field of a request. An ACK in `SotW` names every cluster of
    /// the mesh; what bounds the memory of a request is its size.
    pub(crate) names: usize,
    /// `PILOT_XDS_SEND_TIMEOUT`: how long a client may leave a message unread before its stream ends. Dead peers are
    /// found by pings within 40 s; this is for those that answer pings and do not read. 60 s let 40 MB, the largest
    /// configurations seen, through 6 Mbit/s. 0: for ever.
    pub(crate) send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: 100,
            streams_per_address: 10_000,
            opens_per_second: None,
            message: 4 << 20,
            names: 100_000,
            send: Duration::from_mins(1),
        }
    }
}

/// Reader of flags and variables that collects faults, one line each.
pub(super) struct Reader<'a> {
    /// Returns a variable of the environment, if it is not empty.
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: &'a mut Vec<String>,
}

// === impl Reader ===

impl Reader<'_> {
    pub(super) fn keepalive(&mut self, args: &DiscoveryArgs) -> Keepalive {
        Keepalive {
            interval: self.lasting("--keepaliveInterval", &args.keepalive_interval),
            timeout: self.lasting("--keepaliveTimeout", &args.keepalive_timeout),
            max_age: match args.keepalive_max_server_connection_age.as_str() {
                "" | INFINITY => None,
                text => Some(self.lasting("--keepaliveMaxServerConnectionAge", text)),
            },
            grace: self.span(
                "--keepaliveMaxServerConnectionAgeGrace",
                &args.keepalive_max_server_connection_age_grace,
            ),
        }
    }

    /// Returns `None` without a certificate: `--secureGRPCAddr` has a default, the key pair has none.
    pub(super) fn secure(&mut self, args: &DiscoveryArgs, listen: Option<Listen>) -> Option<Secure> {
        match (&args.tls_cert_file, &args.tls_key_file) {
            (Some(certificate), Some(key)) => Some(Secure {
                listen: listen?,
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: args.ca_cert_file.clone(),
            }),
            (None, None) => {
                if args.ca_cert_file.is_some() {
                    self.faults
                        .push("--caCertFile: there is no TLS without --tlsCertFile and --tlsKeyFile".into());
                }
                None
            }
            (Some(_), None) => {
                self.faults.push("--tlsKeyFile: the key of --tlsCertFile is missing".into());
                None
            }
            (None, Some(_)) => {
                self.faults.push("--tlsCertFile: the certificate of --tlsKeyFile is missing".into());
                None
            }
        }
    }

    pub(super) fn limits(&mut self) -> Limits {
        let send = (self.lookup)("PILOT_XDS_SEND_TIMEOUT").unwrap_or_else(|| "60s".to_owned());
        let send = self.span("PILOT_XDS_SEND_TIMEOUT", &send);
        let rate = self.number("PILOT_MAX_REQUESTS_PER_SECOND", 0.0);
        if !(0.0..=1e9).contains(&rate) {
            self.faults
                .push(format!("PILOT_MAX_REQUESTS_PER_SECOND: {rate} is not a rate from 0 to 1000000000"));
        }
        let default = Limits::default();
        Limits {
            streams_per_connection: self.positive("ISTIO_GPRC_MAXSTREAMS", default.streams_per_connection),
            streams_per_address: self.positive("PILOT_MAX_STREAMS_PER_ADDRESS", default.streams_per_address),
            opens_per_second: (rate > 0.0).then_some(rate),
            message: self.positive("ISTIO_GPRC_MAXRECVMSGSIZE", default.message),
            names: self.positive("PILOT_MAX_NAMES_PER_REQUEST", default.names),
            send: if send.is_zero() { Duration::MAX } else { send },
        }
    }

    /// Parses `PILOT_PEERS`: the monitoring ports of all instances, comma-separated, as `host:port` or a name, such as that of
    /// a headless service.
    pub(super) fn peers(&mut self) -> Vec<String> {
        let text = (self.lookup)("PILOT_PEERS").unwrap_or_default();
        let mut peers = Vec::new();
        for peer in text.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
            match peer.rsplit_once(':') {
                None => peers.push(format!("{peer}:{MONITORING}")),
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                    peers.push(peer.to_owned());
                }
                Some(_) => self.faults.push(format!("PILOT_PEERS: {peer:?} is neither a name nor host:port")),
            }
        }
        peers
    }

    fn span(&mut self, name: &str, text: &str) -> Duration {
        duration::parse(text).unwrap_or_else(|why| {
            self.faults.push(format!("{name}: {why}"));
            Duration::ZERO
        })
    }

    /// Parses a duration that must not be zero.
    fn lasting(&mut self, name: &str, text: &str) -> Duration {
        let (before, span) = (self.faults.len(), self.span(name, text));
        if span.is_zero() && self.faults.len() == before {
            self.faults.push(format!("{name}: {text} must not be zero"));
        }
        span
    }

    fn number<T: FromStr>(&mut self, name: &str, default: T) -> T {
        let Some(text) = (self.lookup)(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.faults.push(format!("{name}: {text:?} is not a valid number"));
            default
        })
    }

    fn positive<T: FromStr + PartialEq + Default + Copy>(&mut self, name: &str, default: T) -> T {
        let number = self.number(name, default);
        if number == T::default() {
            self.faults.push(format!("{name}: must not be 0"));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns limits and peers in this environment.
    fn read(environment: &[(&str, &str)]) -> Result<(Limits, Vec<String>), Vec<String>> {
        let mut faults = Vec::new();
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let mut reader = Reader { lookup: &lookup, faults: &mut faults };
        let read = (reader.limits(), reader.peers());
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    #[test]
    fn limits_are_parsed_and_zero_is_rejected() {
        let (defaults, _) = read(&[]).unwrap();
        assert_eq!((defaults.streams_per_connection, defaults.opens_per_second), (100, None));
        assert_eq!(defaults.send, Duration::from_mins(1));
        let given = [("PILOT_MAX_REQUESTS_PER_SECOND", "2.5"), ("PILOT_XDS_SEND_TIMEOUT", "0s")];
        let (given, _) = read(&given).unwrap();
        assert_eq!((given.opens_per_second, given.send), (Some(2.5), Duration::MAX));
        for (name, bad) in [
            ("PILOT_MAX_REQUESTS_PER_SECOND", "-1"),
            ("PILOT_MAX_REQUESTS_PER_SECOND", "NaN"),
            ("ISTIO_GPRC_MAXSTREAMS", "0"),
            ("ISTIO_GPRC_MAXSTREAMS", "5000000000"),
            ("ISTIO_GPRC_MAXRECVMSGSIZE", "4M"),
            ("PILOT_MAX_STREAMS_PER_ADDRESS", "-1"),
            ("PILOT_MAX_NAMES_PER_REQUEST", ""),
            ("PILOT_XDS_SEND_TIMEOUT", "later"),
        ] {
            let faults = read(&[(name, bad)]).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(name), "{name}={bad}: {faults:?}");
        }
    }

    #[test]
    fn peers_are_addresses_or_names() {
        let peers = |text| read(&[("PILOT_PEERS", text)]).map(|(_, peers)| peers);
        assert_eq!(peers(""), Ok(vec![]));
        assert_eq!(
            peers("istiod.istio-system.svc, 10.0.0.1:1,[::1]:2"),
            Ok(vec!["istiod.istio-system.svc:15014".into(), "10.0.0.1:1".into(), "[::1]:2".into()])
        );
        for bad in [":15014", "a:b", "a:0", "a:70000"] {
            assert!(peers(bad).is_err_and(|faults| faults[0].starts_with("PILOT_PEERS")), "{bad}");
        }
    }
}
