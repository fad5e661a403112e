//! A model from its parts: features, what becomes of each, and what predicts from that.

use super::features::{FeatureDocument, KindDocument};
use super::predictor::PredictorDocument;
use crate::models::pipeline::prepared::Prepared;
use crate::models::pipeline::step::Step;
use crate::models::pipeline::{PipelineModel, Takes};
use crate::models::{Feature, FeatureKind, ModelError, Signature};

/// Maximum number of columns that the features become.
pub const COLUMNS_MAX: usize = 100_000;

/// Puts a model together: features, what becomes of each, and what predicts from that.
///
/// # Errors
///
/// Parts that do not fit one another, and numbers that are not finite.
pub fn assemble(
    signature: Signature,
    features: &[FeatureDocument],
    preparation: &[Prepared],
    predictor: &PredictorDocument,
) -> Result<PipelineModel, ModelError> {
    let fits = |(feature, prepared): (&FeatureDocument, &Prepared)| {
        let is_moment = matches!(feature.kind, KindDocument::Moment(_));
        prepared.is_sound(feature.kind.labels())
            && is_moment == matches!(prepared, Prepared::Moment { .. })
    };
    if preparation.len() != features.len() || !features.iter().zip(preparation).all(fits) {
        return Err("what becomes of a feature does not fit the feature".into());
    }
    let takes_missing = matches!(predictor, PredictorDocument::Forest(_));
    let is_filled = |(feature, prepared): (&FeatureDocument, &Prepared)| {
        takes_missing || !feature.may_be_missing || !prepared.keeps_missing()
    };
    if !features.iter().zip(preparation).all(is_filled) {
        return Err("a feature may be missing, but nothing is put in for it".into());
    }
    let widths = preparation.iter().map(Prepared::width);
    let width: usize = widths.clone().sum();
    if width > COLUMNS_MAX {
        return Err(ModelError(format!(
            "the features may become {COLUMNS_MAX} columns, but become {width}"
        )));
    }
    let mut sources = Vec::with_capacity(width);
    let mut prepared = Vec::with_capacity(width);
    for (place, count) in widths.enumerate() {
        for _ in 0..count {
            sources.push(place);
            prepared.push(Feature {
                name: features[place].name.clone(),
                kind: FeatureKind::Number,
                may_be_missing: true,
                may_be_infinite: false,
                written: None,
                range: None,
            });
        }
    }
    let last = predictor.model(Signature {
        features: prepared,
        output: signature.output.clone(),
    })?;
    let is_needed = preparation.iter().any(|one| *one != Prepared::Itself);
    Ok(PipelineModel {
        signature,
        steps: match is_needed {
            true => vec![Step::Prepare(preparation.to_vec())],
            false => Vec::new(),
        },
        sources,
        takes: Takes {
            nan: takes_missing,
            ..Takes::FINITE
        },
        has_raw: last.raw_width() > 0 && !predictor.is_mean(),
        last,
    })
}
