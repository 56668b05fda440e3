//! Conversion of `OpenMetrics` to Prometheus' text format 0.0.4, in which a counter may have any name.

use std::fmt::Write as _;

/// Removes `# EOF`, `# UNIT`, and the suffix `_total` that the encoder adds to counters.
pub(super) fn to_text_0_0_4(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut counter = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            counter = rest.strip_suffix(" counter");
        }
        let sample =
            counter.and_then(|name| line.strip_prefix(name)?.strip_prefix("_total").map(|rest| (name, rest)));
        let written = match sample {
            Some((name, rest)) => writeln!(text, "{name}{rest}"),
            None => writeln!(text, "{line}"),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_lose_what_the_encoder_added_and_gauges_keep_what_they_are_called() {
        let open_metrics = "# HELP a A.\n# TYPE a counter\na_total{type=\"x\"} 1\n# TYPE b_total gauge\n# UNIT b seconds\n\
                            b_total 2\n# EOF\n";
        let text = "# HELP a A.\n# TYPE a counter\na{type=\"x\"} 1\n# TYPE b_total gauge\nb_total 2\n";
        assert_eq!(to_text_0_0_4(open_metrics), text);
    }
}
