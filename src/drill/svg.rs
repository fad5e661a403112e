//! What plots are made of: scales, and marks on a canvas that becomes an SVG. Pure.
//!
//! Text that is not ours is escaped by [`escape`], here and in the page around the plots.

use std::fmt::Write as _;

pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 300.0;
pub(super) const LEFT: f64 = 62.0;
pub(super) const RIGHT: f64 = 14.0;
pub(super) const TOP: f64 = 16.0;
pub(super) const BOTTOM: f64 = 46.0;

/// Makes text safe between tags and in quoted attributes; what moves a terminal or hides is replaced.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Maps a range of values to a range of places, by their logarithm or as they are.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// By logarithm; both ends of `from` are over 0 and differ.
    pub fn logarithmic(from: (f64, f64), to: (f64, f64)) -> Self {
        let least = from.0.max(1e-12);
        Scale {
            from: (least, from.1.max(least * 1.001)),
            to,
            logarithmic: true,
        }
    }

    /// As it is.
    pub fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        Scale {
            from: (from.0, from.1.max(from.0 + 1e-12)),
            to,
            logarithmic: false,
        }
    }

    /// Where a value stands; what lies outside stands at the edge.
    pub fn place(&self, value: f64) -> f64 {
        let (least, most) = self.from;
        let value = value.clamp(least, most);
        let share = match self.logarithmic {
            true => (value / least).ln() / (most / least).ln(),
            false => (value - least) / (most - least),
        };
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// The powers of ten within the range.
    pub fn decades(&self) -> Vec<f64> {
        let first = self.from.0.log10().ceil() as i32;
        let last = (self.from.1.log10() + 1e-9).floor() as i32;
        (first..=last).map(|power| 10_f64.powi(power)).collect()
    }
}

/// A time as it stands at an axis: `10 µs`, `1 ms`, `1 s`.
pub fn axis_time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    match value {
        value if value >= 10.0 || (value - value.round()).abs() < 0.05 => {
            format!("{value:.0} {unit}")
        }
        value => format!("{value:.1} {unit}"),
    }
}

/// An SVG under way.
pub(super) struct Canvas {
    text: String,
}

impl Canvas {
    pub(super) fn new(height: f64, title: &str, description: &str) -> Self {
        let label = escape(&format!("{title}. {description}"));
        Canvas {
            text: format!(
                "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\"><title>{}</title>",
                escape(title)
            ),
        }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = write!(
            self.text,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = write!(
            self.text,
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        );
    }

    pub(super) fn label(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let _ = write!(
            self.text,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(text)
        );
    }

    /// A mark of a series: round for the first, square for the second; hollow for a maximum.
    pub(super) fn mark(&mut self, series: usize, kind: &str, (x, y): (f64, f64), text: &str) {
        let class = format!("mark s{series} {kind}");
        let text = escape(text);
        let _ = match series {
            0 => write!(
                self.text,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{text}</title></circle>"
            ),
            _ => write!(
                self.text,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\"><title>{text}</title></rect>",
                x - 4.5,
                y - 4.5
            ),
        };
    }

    pub(super) fn bar(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        text: &str,
    ) {
        let _ = write!(
            self.text,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            width.max(0.0),
            escape(text)
        );
    }

    pub(super) fn times_at(&mut self, scale: &Scale) {
        for tick in scale.decades() {
            let y = scale.place(tick);
            self.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            self.label("tick end", (LEFT - 6.0, y + 4.0), &axis_time(tick));
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_harmless() {
        assert_eq!(
            escape("<script a='b'>&\"\u{1b}[2J"),
            "&lt;script a=&#39;b&#39;&gt;&amp;&quot;\u{fffd}[2J"
        );
    }

    #[test]
    fn scales_place_their_ends_and_keep_what_lies_outside_at_the_edge() {
        let close = |one: f64, other: f64| assert!((one - other).abs() < 1e-6, "{one} {other}");
        let log = Scale::logarithmic((0.001, 1.0), (300.0, 0.0));
        for (value, expected) in [
            (0.001, 300.0),
            (1.0, 0.0),
            (0.01, 200.0),
            (0.1, 100.0),
            (0.0, 300.0),
            (50.0, 0.0),
        ] {
            close(log.place(value), expected);
        }
        let linear = Scale::linear((0.0, 2.0), (0.0, 100.0));
        for (value, expected) in [(0.0, 0.0), (1.0, 50.0), (3.0, 100.0), (-1.0, 0.0)] {
            close(linear.place(value), expected);
        }
        // Nothing to show is no division by zero.
        assert!(
            Scale::logarithmic((0.0, 0.0), (0.0, 1.0))
                .place(1.0)
                .is_finite()
        );
        assert!(Scale::linear((1.0, 1.0), (0.0, 1.0)).place(1.0).is_finite());
    }

    #[test]
    fn axes_have_powers_of_ten_with_their_units() {
        let decades = Scale::logarithmic((0.0001, 2.0), (0.0, 1.0)).decades();
        let text: Vec<String> = decades.into_iter().map(axis_time).collect();
        assert_eq!(text, ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(axis_time(0.00234), "2.3 ms");
    }
}
