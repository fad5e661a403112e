//! From estimators to steps: which columns there are at each place of a pipeline, and which features
//! they come from.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::view::View;
use crate::config::Iterations;
use crate::models::forest::FEATURES_MAX;
use crate::models::pipeline::Takes;
use crate::models::pipeline::step::Step;
use crate::models::signature::{Feature, FeatureKind, Unseen};
use crate::models::{AnswerSpec, Exactness, Model, ModelError};

/// Maximum number of columns at any place of a pipeline.
pub(super) const COLUMNS_MAX: usize = FEATURES_MAX;

/// What is known of the features, as far as the estimators were read.
#[derive(Debug)]
pub(super) struct PipelineCompiler {
    features: Vec<FeatureDraft>,
    /// The lists of features that were said to be never missing.
    never_missing: HashSet<Shared>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
    /// How exact the estimators so far are, at worst.
    pub(super) exactness: Exactness,
    /// Which iterations of a booster that stopped early count, if that is asked for.
    pub(super) iterations: Option<Iterations>,
}

/// What the estimators need of a feature.
#[derive(Debug)]
struct FeatureDraft {
    name: String,
    usage: Usage,
    refuses_missing: bool,
    refuses_infinite: bool,
    refuses_unseen: bool,
    labels: Vec<String>,
    /// The code of each label.
    codes: HashMap<String, usize>,
}

/// How a feature is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Unused,
    Number,
    Text,
}

/// A column at some place of a pipeline.
#[derive(Debug, Clone)]
pub(super) struct PipelineColumn {
    kind: PipelineColumnKind,
    /// The feature that is blamed for its values.
    pub(super) source: usize,
    /// The features that make it missing if they are. Columns that were computed from all of a table
    /// share one list.
    missing_from: Shared,
}

/// A list of features that columns share. It equals itself alone: a list of all features may belong
/// to as many columns, and is looked at once.
#[derive(Debug, Clone)]
struct Shared(Rc<[usize]>);

impl Shared {
    fn of(features: &[usize]) -> Self {
        Shared(Rc::from(features))
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PipelineColumnKind {
    /// A feature as it came; its first use says what it is.
    Raw(usize),
    /// A number.
    Number,
    /// The codes of the labels of a feature that is text.
    Text(usize),
}

/// The columns at some place of a pipeline.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) columns: Vec<PipelineColumn>,
    /// Whether scikit-learn has them as a sparse matrix.
    pub(super) is_sparse: bool,
}

/// What a predictor became.
pub(super) struct Last {
    /// Steps of its own before it.
    pub(super) steps: Vec<Step>,
    pub(super) model: Box<dyn Model>,
    pub(super) takes: Takes,
    /// Whether its sums mean something to a client.
    pub(super) has_raw: bool,
    /// What protocols with room for one answer give; `None` for the label or the number.
    pub(super) answer: Option<AnswerSpec>,
    /// The features as the predictor's own file has them, if it has its own.
    pub(super) features: Option<Vec<Feature>>,
}

impl PipelineCompiler {
    /// Starts with features of these names, and gives the table of them.
    pub(super) fn new(names: Vec<String>, iterations: Option<Iterations>) -> (Self, Table) {
        let column = |feature| PipelineColumn {
            kind: PipelineColumnKind::Raw(feature),
            source: feature,
            missing_from: Shared::of(&[feature]),
        };
        let table = Table {
            columns: (0..names.len()).map(column).collect(),
            is_sparse: false,
        };
        let draft = |name| FeatureDraft {
            name,
            usage: Usage::Unused,
            refuses_missing: false,
            refuses_infinite: false,
            refuses_unseen: false,
            labels: Vec::new(),
            codes: HashMap::new(),
        };
        let compiler = PipelineCompiler {
            features: names.into_iter().map(draft).collect(),
            never_missing: HashSet::new(),
            notes: Vec::new(),
            exactness: Exactness::Bits,
            iterations,
        };
        (compiler, table)
    }

    /// Says how exact a part is; `None` for what is as exact as its own parts.
    pub(super) fn be_no_more_exact_than(&mut self, part: Option<Exactness>) {
        self.exactness = self.exactness.max(part.unwrap_or(Exactness::Bits));
    }

    /// Says that a feature is used in this way.
    fn use_feature(&mut self, feature: usize, usage: Usage) -> Result<(), ModelError> {
        let draft = &mut self.features[feature];
        if draft.usage != Usage::Unused && draft.usage != usage {
            return Err(ModelError(format!(
                "the column {:?} is used as a number and as text",
                draft.name
            )));
        }
        draft.usage = usage;
        Ok(())
    }

    /// Says that a step needs numbers, and whether it takes missing ones.
    pub(super) fn numbers(
        &mut self,
        view: View<'_>,
        columns: &[PipelineColumn],
        takes: Takes,
    ) -> Result<(), ModelError> {
        for column in columns {
            match column.kind {
                PipelineColumnKind::Raw(feature) => self.use_feature(feature, Usage::Number)?,
                PipelineColumnKind::Number => {}
                PipelineColumnKind::Text(feature) => {
                    return Err(ModelError(format!(
                        "{} is given the column {:?}, which is text",
                        view.name(),
                        self.features[feature].name
                    )));
                }
            }
            self.restrict(column, takes);
        }
        Ok(())
    }

    /// Says what a step does not take.
    pub(super) fn restrict(&mut self, column: &PipelineColumn, takes: Takes) {
        let list = &column.missing_from;
        if !takes.nan && self.never_missing.insert(list.clone()) {
            for feature in list.0.iter() {
                self.features[*feature].refuses_missing = true;
            }
        }
        self.features[column.source].refuses_infinite |= !takes.infinite;
    }

    /// Says that a step takes a column as text, and gives its feature; `None` if it is computed.
    pub(super) fn text(&mut self, column: &PipelineColumn) -> Result<usize, ModelError> {
        match column.kind {
            PipelineColumnKind::Raw(feature) | PipelineColumnKind::Text(feature) => {
                self.use_feature(feature, Usage::Text)?;
                Ok(feature)
            }
            PipelineColumnKind::Number => {
                Err("an encoder or imputer of texts is given a column that was computed".into())
            }
        }
    }

    /// The code of a label of a feature; it becomes one if it is not.
    pub(super) fn code(&mut self, feature: usize, label: &str) -> usize {
        let FeatureDraft { labels, codes, .. } = &mut self.features[feature];
        if let Some(code) = codes.get(label) {
            return *code;
        }
        codes.insert(label.to_owned(), labels.len());
        labels.push(label.to_owned());
        labels.len() - 1
    }

    /// Says that a step refuses labels that it does not know.
    pub(super) fn refuse_unseen(&mut self, feature: usize) {
        self.features[feature].refuses_unseen = true;
    }

    /// The features, as a client has to send them. One that nothing uses takes anything.
    pub(super) fn finish(self) -> Vec<Feature> {
        let feature = |draft: FeatureDraft| {
            let category = |labels: Vec<String>, unseen| FeatureKind::Category {
                labels: labels.into(),
                unseen,
            };
            Feature {
                name: draft.name,
                kind: match draft.usage {
                    Usage::Number => FeatureKind::Number,
                    Usage::Unused => category(Vec::new(), Unseen::Missing),
                    Usage::Text if draft.refuses_unseen => category(draft.labels, Unseen::Refuse),
                    Usage::Text => category(draft.labels, Unseen::Other),
                },
                may_be_missing: !draft.refuses_missing,
                may_be_infinite: draft.usage == Usage::Number && !draft.refuses_infinite,
                written: None,
                range: None,
            }
        };
        self.features.into_iter().map(feature).collect()
    }
}

impl PipelineColumn {
    /// The number that is computed from this column, and missing where it is.
    pub(super) fn computed(&self) -> PipelineColumn {
        PipelineColumn {
            kind: PipelineColumnKind::Number,
            ..self.clone()
        }
    }

    /// The same, never missing.
    pub(super) fn filled(&self) -> PipelineColumn {
        PipelineColumn {
            missing_from: Shared::of(&[]),
            ..self.clone()
        }
    }

    /// The feature's column of text that came of a raw one.
    pub(super) fn as_text(&self, feature: usize) -> PipelineColumn {
        PipelineColumn {
            kind: PipelineColumnKind::Text(feature),
            ..self.clone()
        }
    }

    /// Whether it is known to be text.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, PipelineColumnKind::Text(_))
    }
}

impl Table {
    /// A table of numbers that are all computed from all columns of this one.
    pub(super) fn mixed(&self, count: usize) -> Table {
        let mut missing: Vec<usize> = self.lists().flatten().copied().collect();
        missing.sort_unstable();
        missing.dedup();
        let column = PipelineColumn {
            kind: PipelineColumnKind::Number,
            source: self.columns.first().map_or(0, |column| column.source),
            missing_from: Shared(missing.into()),
        };
        Table {
            columns: vec![column; count],
            is_sparse: false,
        }
    }

    /// The lists of features that make its columns missing, each once.
    fn lists(&self) -> impl Iterator<Item = &[usize]> {
        let lists = self.columns.iter().map(|column| &column.missing_from);
        let different: HashSet<&Shared> = lists.collect();
        different.into_iter().map(|list| &list.0[..])
    }

    /// What a step costs the compiler at least, in numbers.
    pub(super) fn cost(&self) -> usize {
        self.columns.len() + self.lists().map(<[_]>::len).sum::<usize>()
    }

    /// The same columns as numbers that were computed one by one.
    pub(super) fn computed(&self) -> Table {
        Table {
            columns: self.columns.iter().map(PipelineColumn::computed).collect(),
            is_sparse: self.is_sparse,
        }
    }

    /// The columns of these places.
    pub(super) fn choose(&self, places: &[usize]) -> Result<Table, ModelError> {
        let column = |place: &usize| self.columns.get(*place).cloned();
        let columns: Option<Vec<PipelineColumn>> = places.iter().map(column).collect();
        Ok(Table {
            columns: columns.ok_or("a column that is chosen does not exist")?,
            is_sparse: self.is_sparse,
        })
    }

    /// Checks how many columns there are.
    ///
    /// # Errors
    ///
    /// Another number than the estimator was fitted with, or too many.
    pub(super) fn check_width(&self, view: View<'_>) -> Result<(), ModelError> {
        self.check_width_max(view)?;
        let width = self.columns.len();
        match view.get("n_features_in_") {
            Some(_) if view.count("n_features_in_")? != width => Err(ModelError(format!(
                "{} was fitted with {} columns, but is given {width}",
                view.name(),
                view.count("n_features_in_")?
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that there are not too many columns.
    ///
    /// # Errors
    ///
    /// There are.
    pub(super) fn check_width_max(&self, view: View<'_>) -> Result<(), ModelError> {
        match self.columns.len() {
            0..=COLUMNS_MAX => Ok(()),
            width => Err(ModelError(format!(
                "a pipeline may have {COLUMNS_MAX} columns, but {} has {width}",
                view.name()
            ))),
        }
    }
}
