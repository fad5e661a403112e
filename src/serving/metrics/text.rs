//! Prometheus' text format 0.0.4 and OpenMetrics 1.0.0. Pure.
//!
//! The two differ little: OpenMetrics names a counter's family without `_total` and an info's
//! without `_info`, states units, and ends with `# EOF`. The samples are the same.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::vitals::{BOUNDS, HistogramSnapshot};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpositionFormat {
    /// Prometheus' own.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl ExpositionFormat {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            ExpositionFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
            ExpositionFormat::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows from 0; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times by bucket.
    Histogram,
    /// Text in labels, with the value 1; its samples end in `_info`.
    Info,
}

impl Kind {
    /// The suffix of its samples' names.
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    fn name(self, format: ExpositionFormat) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info if format == ExpositionFormat::OpenMetrics => "info",
            Kind::Gauge | Kind::Info => "gauge",
        }
    }
}

/// A sample's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SampleValue {
    Whole(u64),
    Real(f64),
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> Self {
        SampleValue::Whole(value)
    }
}

impl From<usize> for SampleValue {
    fn from(value: usize) -> Self {
        SampleValue::Whole(value as u64)
    }
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> Self {
        SampleValue::Whole(u64::from(value))
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        SampleValue::Real(value)
    }
}

impl From<Duration> for SampleValue {
    /// In seconds.
    fn from(value: Duration) -> Self {
        SampleValue::Real(value.as_secs_f64())
    }
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// The units that OpenMetrics states, by the endings of names.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// Writes families one after another. Writing to a String cannot fail.
#[derive(Debug)]
pub(super) struct Writer {
    format: ExpositionFormat,
    out: String,
}

impl Writer {
    /// Makes a writer with room for about so many bytes.
    pub(super) fn new(format: ExpositionFormat, bytes: usize) -> Self {
        Writer {
            format,
            out: String::with_capacity(bytes),
        }
    }

    /// Begins a family. `name` is without `_total` and `_info`; `help` has no quotes, backslashes
    /// or line ends.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let family = match self.format {
            ExpositionFormat::Text => kind.suffix(),
            ExpositionFormat::OpenMetrics => "",
        };
        let kind_name = kind.name(self.format);
        let _ = writeln!(self.out, "# HELP {name}{family} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{family} {kind_name}");
        if self.format == ExpositionFormat::OpenMetrics {
            let is_its = |unit: &&&str| name.rsplit('_').next() == Some(**unit);
            if let Some(unit) = UNITS.iter().find(is_its) {
                let _ = writeln!(self.out, "# UNIT {name} {unit}");
            }
        }
        Family {
            out: &mut self.out,
            name,
            kind,
        }
    }

    /// Writes a family with one sample and no labels.
    pub(super) fn one(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &str,
        value: impl Into<SampleValue>,
    ) {
        self.family(kind, name, help).sample(&[], value);
    }

    /// Ends the text.
    pub(super) fn finish(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
    kind: Kind,
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn sample(
        &mut self,
        labels: Labels<'_>,
        value: impl Into<SampleValue>,
    ) -> &mut Self {
        self.line(self.kind.suffix(), labels, None, value.into());
        self
    }

    /// Writes a histogram.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &HistogramSnapshot) {
        for ((_, bound), count) in BOUNDS.into_iter().zip(histogram.cumulative) {
            self.line("_bucket", labels, Some(bound), SampleValue::Whole(count));
        }
        let count = SampleValue::Whole(histogram.count);
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum.into());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: SampleValue) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        let all = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, label) in all {
            let _ = write!(self.out, "{before}{name}=\"{}\"", escape(label));
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        let _ = match value {
            SampleValue::Whole(value) => writeln!(self.out, " {value}"),
            SampleValue::Real(value) if value == f64::INFINITY => writeln!(self.out, " +Inf"),
            SampleValue::Real(value) if value == f64::NEG_INFINITY => writeln!(self.out, " -Inf"),
            SampleValue::Real(value) => writeln!(self.out, " {value}"),
        };
    }
}

/// Escapes a label's value, because a model's name may be any text.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Histogram;

    fn written(format: ExpositionFormat) -> String {
        let mut writer = Writer::new(format, 0);
        let name = "a \"b\"\\\nü";
        writer
            .family(Kind::Counter, "t_jobs", "Jobs.")
            .sample(&[("lane", "predict")], 7u64)
            .sample(&[("lane", "probe"), ("name", name)], 0u64);
        let busy = Duration::from_millis(1500);
        writer.one(Kind::Counter, "t_busy_seconds", "Busy.", busy);
        let mut gauge = writer.family(Kind::Gauge, "t_gauge", "Some.");
        for value in [0.1, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e-7, 3.0] {
            gauge.sample(&[], value);
        }
        writer.one(Kind::Info, "t_build", "Built.", true);
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(60));
        histogram.observe(Duration::from_secs(90));
        let mut family = writer.family(Kind::Histogram, "t_wait_seconds", "Waits.");
        family.histogram(&[("outcome", "ok")], &histogram.snapshot());
        writer.finish()
    }

    /// The lines, without the buckets between the first two and the last two.
    fn shown(text: &str) -> Vec<&str> {
        let shown = |line: &&str| {
            let ends = [
                "le=\"5e-05\"",
                "le=\"0.0001\"",
                "le=\"60.0\"",
                "le=\"+Inf\"",
            ];
            !line.contains("_bucket") || ends.iter().any(|end| line.contains(end))
        };
        text.lines().filter(shown).collect()
    }

    const SAMPLES_OF_JOBS: [&str; 2] = [
        "t_jobs_total{lane=\"predict\"} 7",
        r#"t_jobs_total{lane="probe",name="a \"b\"\\\nü"} 0"#,
    ];

    const SAMPLES_OF_GAUGE: [&str; 6] = [
        "t_gauge 0.1",
        "t_gauge NaN",
        "t_gauge +Inf",
        "t_gauge -Inf",
        "t_gauge 0.0000001",
        "t_gauge 3",
    ];

    const SAMPLES_OF_WAIT: [&str; 6] = [
        "t_wait_seconds_bucket{outcome=\"ok\",le=\"5e-05\"} 0",
        "t_wait_seconds_bucket{outcome=\"ok\",le=\"0.0001\"} 1",
        "t_wait_seconds_bucket{outcome=\"ok\",le=\"60.0\"} 1",
        "t_wait_seconds_bucket{outcome=\"ok\",le=\"+Inf\"} 2",
        "t_wait_seconds_sum{outcome=\"ok\"} 90.00006",
        "t_wait_seconds_count{outcome=\"ok\"} 2",
    ];

    #[test]
    fn text_is_as_prometheus_reads_it() {
        let text = written(ExpositionFormat::Text);
        let mut expected = vec!["# HELP t_jobs_total Jobs.", "# TYPE t_jobs_total counter"];
        expected.extend(SAMPLES_OF_JOBS);
        expected.extend([
            "# HELP t_busy_seconds_total Busy.",
            "# TYPE t_busy_seconds_total counter",
            "t_busy_seconds_total 1.5",
            "# HELP t_gauge Some.",
            "# TYPE t_gauge gauge",
        ]);
        expected.extend(SAMPLES_OF_GAUGE);
        expected.extend([
            "# HELP t_build_info Built.",
            "# TYPE t_build_info gauge",
            "t_build_info 1",
            "# HELP t_wait_seconds Waits.",
            "# TYPE t_wait_seconds histogram",
        ]);
        expected.extend(SAMPLES_OF_WAIT);
        assert_eq!(shown(&text), expected);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn open_metrics_names_families_apart_tells_units_and_ends() {
        let text = written(ExpositionFormat::OpenMetrics);
        let mut expected = vec!["# HELP t_jobs Jobs.", "# TYPE t_jobs counter"];
        expected.extend(SAMPLES_OF_JOBS);
        expected.extend([
            "# HELP t_busy_seconds Busy.",
            "# TYPE t_busy_seconds counter",
            "# UNIT t_busy_seconds seconds",
            "t_busy_seconds_total 1.5",
            "# HELP t_gauge Some.",
            "# TYPE t_gauge gauge",
        ]);
        expected.extend(SAMPLES_OF_GAUGE);
        expected.extend([
            "# HELP t_build Built.",
            "# TYPE t_build info",
            "t_build_info 1",
            "# HELP t_wait_seconds Waits.",
            "# TYPE t_wait_seconds histogram",
            "# UNIT t_wait_seconds seconds",
        ]);
        expected.extend(SAMPLES_OF_WAIT);
        expected.push("# EOF");
        assert_eq!(shown(&text), expected);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_label_may_be_any_text() {
        for (text, escaped) in [
            ("plain ü", "plain ü"),
            ("a\\b", "a\\\\b"),
            ("a\"b", "a\\\"b"),
            ("a\nb", "a\\nb"),
            ("\\n", "\\\\n"),
            ("", ""),
        ] {
            assert_eq!(escape(text), escaped, "{text:?}");
        }
    }
}
