//! The features in a model file.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::NAMES_MAX;
use crate::models::cells::Written;
use crate::models::moments::MomentOrder;
use crate::models::signature::Unseen;
use crate::models::{CategoryLabels, Feature, FeatureKind, ModelError};

/// Maximum number of labels of all categories together.
const LABELS_MAX: usize = 1_000_000;

/// A feature in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureDocument {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: KindDocument,
    /// Whether a row may lack it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_missing: bool,
    /// How its values are written in tables, if not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// The smallest and the largest number in the training data; none of a category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

/// What the values of a feature are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KindDocument {
    /// Finite numbers.
    Number,
    /// Whole numbers.
    WholeNumber,
    /// Yes or no.
    YesNo,
    /// Dates or times.
    Moment(MomentOrder),
    /// One of these labels.
    Category {
        /// The labels.
        labels: Vec<String>,
        /// Whether other labels are taken as such; otherwise they are refused.
        takes_others: bool,
    },
}

impl KindDocument {
    /// Number of labels of a category.
    pub(super) fn labels(&self) -> Option<usize> {
        match self {
            KindDocument::Category { labels, .. } => Some(labels.len()),
            _ => None,
        }
    }
}

impl FeatureDocument {
    /// The feature as a signature has it.
    pub fn feature(&self) -> Feature {
        let kind = match &self.kind {
            KindDocument::Number => FeatureKind::Number,
            // A fraction is as good a number, though training has seen none.
            KindDocument::WholeNumber => FeatureKind::Number,
            KindDocument::YesNo => FeatureKind::YesNo,
            KindDocument::Moment(order) => FeatureKind::Moment(*order),
            KindDocument::Category {
                labels,
                takes_others,
            } => FeatureKind::Category {
                labels: CategoryLabels::of_cells(labels.clone()),
                unseen: match takes_others {
                    true => Unseen::Other,
                    false => Unseen::Refuse,
                },
            },
        };
        Feature {
            name: self.name.clone(),
            kind,
            may_be_missing: self.may_be_missing,
            may_be_infinite: false,
            written: self.written.clone().map(Arc::new),
            // Of a date or a flag it says nothing to a person.
            range: self
                .range
                .filter(|_| matches!(self.kind, KindDocument::Number | KindDocument::WholeNumber)),
        }
    }
}

/// Checks what serde does not.
pub(super) fn check(features: &[FeatureDocument]) -> Result<(), ModelError> {
    let names = || features.iter().map(|feature| feature.name.as_str());
    super::check_names("feature", names())?;
    if features.is_empty() {
        return Err("a model needs at least one feature".into());
    }
    let labels: usize = features.iter().filter_map(|one| one.kind.labels()).sum();
    if labels > LABELS_MAX {
        return Err(ModelError(format!(
            "all categories together may have {LABELS_MAX} labels, but have {labels}"
        )));
    }
    for feature in features {
        let in_order =
            |range: [f64; 2]| range.iter().all(|end| end.is_finite()) && range[0] <= range[1];
        if !feature.range.is_none_or(in_order) {
            return Err(ModelError(format!(
                "the range of {:?} must be two numbers in order",
                feature.name
            )));
        }
        if let KindDocument::Category { labels, .. } = &feature.kind {
            let own = format!("{:?}", feature.name);
            super::check_unique(
                &format!("label of {own}"),
                labels.iter().map(String::as_str),
            )?;
            if labels.len() > NAMES_MAX {
                return Err(ModelError(format!(
                    "a category may have {NAMES_MAX} labels, but {own} has {}",
                    labels.len()
                )));
            }
        }
    }
    Ok(())
}
