//! What becomes of each feature of a table on its way to a trained model: the step that `lanekeeper
//! train` fits and stores in the model's file.

use serde::{Deserialize, Serialize};

use crate::models::moments;

/// Number of parts of a date or time.
const MOMENT_PARTS: usize = 6;

/// What becomes of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "becomes", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Prepared {
    /// The number as it is; a missing one stays missing.
    Itself,
    /// The number, filled and scaled.
    Number(Scaling),
    /// For a category its numbers.
    Numbers {
        /// Numbers of each category.
        width: usize,
        /// The numbers of each label, then those of other labels, then those of a missing value.
        table: Vec<f64>,
    },
    /// Year, month, day, weekday, hour and days since 1970 of a date or time, each filled and scaled.
    Moment {
        /// One for each part.
        parts: Vec<Scaling>,
    },
}

/// What is done to a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// What is put in for a missing value; if absent, a missing value stays missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<f64>,
    /// Whether a further number says that the value is missing (1) or there (0).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_flag: bool,
    /// What is subtracted.
    pub center: f64,
    /// What the difference is divided by.
    pub scale: f64,
}

impl Scaling {
    /// Leaves a number as it is.
    pub const NONE: Scaling = Scaling {
        fill: None,
        has_flag: false,
        center: 0.0,
        scale: 1.0,
    };

    fn width(&self) -> usize {
        1 + usize::from(self.has_flag)
    }

    fn is_sound(&self) -> bool {
        self.fill.is_none_or(f64::is_finite)
            && self.center.is_finite()
            && self.scale.is_finite()
            && self.scale > 0.0
    }

    fn put(&self, value: f64, out: &mut Vec<f64>) {
        let filled = match self.fill {
            Some(fill) if value.is_nan() => fill,
            _ => value,
        };
        out.push((filled - self.center) / self.scale);
        if self.has_flag {
            out.push(f64::from(u8::from(value.is_nan())));
        }
    }
}

impl Prepared {
    /// Number of numbers that the feature becomes.
    pub fn width(&self) -> usize {
        match self {
            Prepared::Itself => 1,
            Prepared::Number(scaling) => scaling.width(),
            Prepared::Numbers { width, .. } => *width,
            Prepared::Moment { parts } => parts.iter().map(Scaling::width).sum(),
        }
    }

    /// Whether its numbers are sound for a feature of so many labels; `None` if it has none.
    pub fn is_sound(&self, labels: Option<usize>) -> bool {
        match (self, labels) {
            (Prepared::Itself, None) => true,
            (Prepared::Number(scaling), None) => scaling.is_sound(),
            (Prepared::Moment { parts }, None) => {
                parts.len() == MOMENT_PARTS && parts.iter().all(Scaling::is_sound)
            }
            (Prepared::Numbers { width, table }, Some(labels)) => {
                *width > 0
                    && Some(table.len()) == width.checked_mul(labels + 2)
                    && table.iter().all(|number| number.is_finite())
            }
            _ => false,
        }
    }

    /// Whether a missing value stays missing.
    pub fn keeps_missing(&self) -> bool {
        match self {
            Prepared::Itself => true,
            Prepared::Number(scaling) => scaling.fill.is_none(),
            Prepared::Numbers { .. } => false,
            Prepared::Moment { parts } => parts.iter().any(|part| part.fill.is_none()),
        }
    }

    /// Appends what a value becomes. A category's code is at most the number of labels, which stands
    /// for others.
    pub fn put(&self, value: f64, out: &mut Vec<f64>) {
        match self {
            Prepared::Itself => out.push(value),
            Prepared::Number(scaling) => scaling.put(value, out),
            Prepared::Numbers { width, table } => {
                let missing = table.len() / width - 1;
                let place = match value.is_nan() {
                    true => missing,
                    false => (value as usize).min(missing - 1),
                };
                out.extend_from_slice(&table[place * width..][..*width]);
            }
            Prepared::Moment { parts } => {
                let numbers = match value.is_nan() {
                    true => [f64::NAN; MOMENT_PARTS],
                    false => moments::moment_parts(value),
                };
                for (scaling, number) in parts.iter().zip(numbers) {
                    scaling.put(number, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(prepared: &Prepared, value: f64) -> Vec<f64> {
        let mut out = Vec::new();
        prepared.put(value, &mut out);
        assert_eq!(out.len(), prepared.width());
        out
    }

    #[test]
    fn numbers_are_filled_scaled_and_flagged() {
        let number = Prepared::Number(Scaling {
            fill: Some(4.0),
            has_flag: true,
            center: 2.0,
            scale: 0.5,
        });
        assert_eq!(put(&number, 3.0), [2.0, 0.0]);
        assert_eq!(put(&number, f64::NAN), [4.0, 1.0]);
        assert!(put(&Prepared::Itself, f64::NAN)[0].is_nan());
        assert!(number.is_sound(None) && !number.is_sound(Some(2)));
    }

    #[test]
    fn categories_others_and_missing_ones_have_numbers_of_their_own() {
        let colours = Prepared::Numbers {
            width: 2,
            table: vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.0, 0.0],
        };
        assert!(colours.is_sound(Some(2)) && !colours.is_sound(Some(3)));
        assert_eq!(put(&colours, 1.0), [0.0, 1.0]);
        assert_eq!(put(&colours, 2.0), [0.5, 0.5]);
        assert_eq!(put(&colours, f64::NAN), [0.0, 0.0]);
    }

    #[test]
    fn a_moment_becomes_its_parts() {
        let moment = Prepared::Moment {
            parts: vec![Scaling::NONE; MOMENT_PARTS],
        };
        // 2024-02-29T13:30:00Z, a Thursday.
        let parts = put(&moment, 1_709_213_400.0);
        assert_eq!(parts[..5], [2024.0, 2.0, 29.0, 3.0, 13.0]);
        assert!(put(&moment, f64::NAN).iter().all(|part| part.is_nan()));
    }
}
