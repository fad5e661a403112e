//! Which values rows may have: what a signature says of its features, for many rows at a time.

use super::moments;
use super::signature::Unseen;
use super::{Feature, FeatureKind};

/// The values that a row may have for a feature: from `least` to `most`, and NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenValues {
    least: f64,
    most: f64,
    is_whole: bool,
    may_be_missing: bool,
}

impl TakenValues {
    /// The values of a feature.
    pub(super) fn of(feature: &Feature) -> Self {
        let (least, most, is_whole) = match &feature.kind {
            FeatureKind::Number if feature.may_be_infinite => {
                (f64::NEG_INFINITY, f64::INFINITY, false)
            }
            FeatureKind::Number
            | FeatureKind::Category {
                unseen: Unseen::Code,
                ..
            } => (f64::MIN, f64::MAX, false),
            FeatureKind::WholeNumber => (f64::MIN, f64::MAX, true),
            FeatureKind::YesNo => (0.0, 1.0, true),
            FeatureKind::Moment(_) => {
                let most = moments::MOMENT_SECONDS_MAX;
                (-most, most, false)
            }
            FeatureKind::Category { labels, unseen } => {
                let codes = labels.len() + usize::from(*unseen == Unseen::Other);
                // Without codes, none is taken.
                (0.0, codes as f64 - 1.0, true)
            }
        };
        TakenValues {
            least,
            most,
            is_whole,
            may_be_missing: feature.may_be_missing,
        }
    }

    pub(super) fn has(&self, value: f64) -> bool {
        let is_within = value >= self.least && value <= self.most;
        is_within && (!self.is_whole || is_whole(value)) || value.is_nan() && self.may_be_missing
    }
}

fn is_whole(value: f64) -> bool {
    /// From here on, every number is whole.
    const WHOLE_FROM: f64 = (1u64 << 53) as f64;
    value.abs() >= WHOLE_FROM || (value as i64) as f64 == value
}

/// [`TakenValues`] of all features, so that the bounds of a row are compared several at a time.
pub(super) struct TakenRows {
    least: Vec<f64>,
    most: Vec<f64>,
    /// The features whose values are whole, and those that no row may lack.
    whole: Vec<usize>,
    required: Vec<usize>,
}

impl TakenRows {
    pub(super) fn new(features: &[Feature]) -> Self {
        let taken: Vec<TakenValues> = features.iter().map(TakenValues::of).collect();
        let places = |wanted: fn(&TakenValues) -> bool| {
            let all = taken.iter().enumerate();
            all.filter(|(_, one)| wanted(one))
                .map(|(place, _)| place)
                .collect()
        };
        TakenRows {
            least: taken.iter().map(|one| one.least).collect(),
            most: taken.iter().map(|one| one.most).collect(),
            whole: places(|one| one.is_whole),
            required: places(|one| !one.may_be_missing),
        }
    }

    /// Whether all values of a row are taken.
    pub(super) fn has(&self, values: &[f64]) -> bool {
        let bounds = self.least.iter().zip(&self.most);
        // To the end of the row, whatever comes, and NaN is within.
        let is_beyond = values
            .iter()
            .zip(bounds)
            .fold(false, |any, (value, (least, most))| {
                any | (value < least) | (value > most)
            });
        let all = |places: &[usize], fits: fn(f64) -> bool| {
            let mut present = places.iter().filter_map(|place| values.get(*place));
            present.all(|value| fits(*value))
        };
        !is_beyond
            && values.len() <= self.least.len()
            && all(&self.whole, |value| value.is_nan() || is_whole(value))
            && all(&self.required, |value| !value.is_nan())
    }
}
