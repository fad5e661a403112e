//! The format of a scrape, chosen by its Accept field (RFC 9110 section 12.5.1). Pure.

use super::text::ExpositionFormat;

/// Chooses the format that the client prefers; plain text if it does not say.
///
/// OpenMetrics must be asked for by name, because clients without a preference send `*/*`. Nobody
/// is refused: a client that accepts neither gets plain text.
pub(super) fn format(accept: Option<&str>) -> ExpositionFormat {
    let (mut open_metrics, mut text) = (0.0f64, 0.0f64);
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('='));
        let (mut weight, mut version) = (1.0, None);
        for (name, value) in parameters {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "q" | "Q" => weight = value.parse().unwrap_or(0.0),
                name if name.eq_ignore_ascii_case("version") => version = Some(value),
                _ => {}
            }
        }
        if name.eq_ignore_ascii_case("application/openmetrics-text") {
            if version.is_none_or(|version| version == "1.0.0") {
                open_metrics = open_metrics.max(weight);
            }
        } else if ["text/plain", "text/*"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
            && version.is_none_or(|version| version == "0.0.4")
        {
            text = text.max(weight);
        }
    }
    if open_metrics > 0.0 && open_metrics >= text {
        ExpositionFormat::OpenMetrics
    } else {
        ExpositionFormat::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_who_asks_for_it_and_does_not_like_text_better() {
        use ExpositionFormat::{OpenMetrics, Text};
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let text_only = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        for (accept, expected) in [
            (None, Text),
            (Some(""), Text),
            (Some("*/*"), Text),
            (Some("text/html,*/*;q=0.8"), Text),
            (Some(prometheus_2), OpenMetrics),
            (Some(prometheus_3), OpenMetrics),
            (Some(protobuf), OpenMetrics),
            (Some(text_only), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (
                Some("Application/OpenMetrics-Text ; Version=\"1.0.0\""),
                OpenMetrics,
            ),
            (Some("application/openmetrics-text;version=0.0.1"), Text),
            (Some("application/openmetrics-text;version=2.0.0"), Text),
            (Some("application/openmetrics-text;q=0"), Text),
            (Some("application/openmetrics-text;q=nonsense"), Text),
            (Some("application/openmetrics-text;q=0.4, text/plain"), Text),
            (
                Some("application/openmetrics-text;q=0.4, text/*;q=0.3"),
                OpenMetrics,
            ),
            (
                Some("application/openmetrics-text, text/plain"),
                OpenMetrics,
            ),
            (Some(";;;=,,q=1"), Text),
        ] {
            assert_eq!(format(accept), expected, "{accept:?}");
        }
    }
}
