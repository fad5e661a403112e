//! Naive Bayes classifiers.

use serde::Deserialize;
use serde_json::json;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::naive_bayes::bernoulli::{BernoulliNB, BernoulliNBParameters};
use smartcore::naive_bayes::categorical::{CategoricalNB, CategoricalNBParameters};
use smartcore::naive_bayes::gaussian::{GaussianNB, GaussianNBParameters};
use smartcore::naive_bayes::multinomial::{MultinomialNB, MultinomialNBParameters};

use super::{
    Dimensions, Estimator, Matrix, Parameter, Predictor, Training, Values, failed, matrix,
    parameters, parse,
};
use crate::models::{ModelError, Output, PredictError, RowFault, Rows};

/// What the features must be, in words.
pub(super) const BERNOULLI_FEATURES: &str =
    "numbers, made 0 and 1 by binarize; with binarize=none, 0 or 1";
pub(super) const CATEGORICAL_FEATURES: &str =
    "whole numbers from 0 to the largest seen in training";
pub(super) const MULTINOMIAL_FEATURES: &str = "whole numbers from 0";

/// The largest whole number, and category, that is accepted: smartcore makes a table as long as the
/// largest category.
const WHOLE_MAX: f64 = u32::MAX as f64;
const CATEGORY_MAX: f64 = 65_535.0;

type WholeMatrix = DenseMatrix<u32>;
type SmartBernoulli = BernoulliNB<f64, u32, Matrix, Vec<u32>>;
type SmartCategorical = CategoricalNB<u32, WholeMatrix, Vec<u32>>;
type SmartGaussian = GaussianNB<f64, u32, Matrix, Vec<u32>>;
type SmartMultinomial = MultinomialNB<u32, u32, WholeMatrix, Vec<u32>>;

/// Finds the first value that is not whole, or not between 0 and `largest` for its feature.
fn check_whole(rows: &Rows, largest: impl Fn(usize) -> f64) -> Result<(), RowFault> {
    for (row, values) in rows.iter().enumerate() {
        for (feature, value) in values.iter().enumerate() {
            let largest = largest(feature);
            if !(value.fract() == 0.0 && (0.0..=largest).contains(value)) {
                return Err(RowFault {
                    row,
                    feature,
                    must_be: format!("a whole number from 0 to {largest}"),
                });
            }
        }
    }
    Ok(())
}

fn whole_matrix(rows: &Rows) -> Result<WholeMatrix, PredictError> {
    // `check_whole` has seen that each value is a u32; a cast would saturate otherwise.
    let values = rows.values().iter().map(|value| *value as u32).collect();
    DenseMatrix::new(rows.len(), rows.width(), values, false).map_err(failed)
}

impl Training<'_> {
    /// The rows as whole numbers, none of them above `largest`.
    fn whole_matrix(&self, largest: f64) -> Result<WholeMatrix, ModelError> {
        check_whole(self.rows, |_| largest).map_err(|fault| {
            ModelError(format!(
                "every feature must be {}, but feature {} of row {} is {}",
                fault.must_be,
                fault.feature + 1,
                fault.row + 1,
                self.rows.values()[fault.row * self.rows.width() + fault.feature]
            ))
        })?;
        whole_matrix(self.rows).map_err(ModelError::of)
    }
}

/// The common part of smartcore's serialized distributions.
#[derive(Deserialize)]
struct ClassesMirror {
    class_labels: Vec<u32>,
    class_priors: Vec<f64>,
}

impl ClassesMirror {
    fn check(&self, classes: usize) -> Result<(), ModelError> {
        if !self.class_labels.iter().copied().eq((0..).take(classes)) {
            return Err(ModelError(format!(
                "its classes must be 0 to {} in order, one for each label",
                classes - 1
            )));
        }
        let sound = |prior: &f64| (0.0..=1.0).contains(prior);
        if self.class_priors.len() != classes || !self.class_priors.iter().all(sound) {
            return Err(ModelError(format!(
                "it must have {classes} priors from 0 to 1"
            )));
        }
        Ok(())
    }

    fn shape(&self) -> Values {
        [("class_priors".to_owned(), json!(self.class_priors))].into()
    }
}

fn check_table(
    what: &str,
    table: &[Vec<f64>],
    rows: usize,
    columns: usize,
) -> Result<(), ModelError> {
    let sound = table.len() == rows
        && table
            .iter()
            .all(|row| row.len() == columns && row.iter().all(|value| value.is_finite()));
    sound.then_some(()).ok_or_else(|| {
        ModelError(format!(
            "its {what} must be {rows} rows of {columns} finite numbers"
        ))
    })
}

/// A serialized classifier of any kind.
#[derive(Deserialize)]
struct BayesMirror<D> {
    inner: Inner<D>,
}

#[derive(Deserialize)]
struct Inner<D> {
    distribution: D,
}

/// Features with a normal distribution in each class.
#[derive(Debug)]
pub(super) struct Gaussian {
    smartcore: Box<SmartGaussian>,
    /// Of the first class: its prior, and mean and variance of each feature.
    first_prior: f64,
    first_normals: Vec<(f64, f64)>,
    shape: Values,
}

impl Gaussian {
    /// Whether the first class has a finite probability, by smartcore's own arithmetic.
    fn may_be_first(&self, row: &[f64]) -> bool {
        let features = row.iter().zip(&self.first_normals);
        let likelihood = |(value, (mean, variance)): (&f64, &(f64, f64))| {
            -((value - mean).powf(2.0) / (2.0 * variance))
                - (2.0 * std::f64::consts::PI).ln() / 2.0
                - variance.ln() / 2.0
        };
        let log = features.map(likelihood).sum::<f64>() + self.first_prior.ln();
        log > f64::NEG_INFINITY
    }
}

impl Predictor for Gaussian {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let indices = self.smartcore.predict(&matrix(rows)?).map_err(failed)?;
        // If no class has a probability, smartcore answers the first, unless that is so for every
        // row.
        let fallen_back = rows
            .iter()
            .zip(&indices)
            .position(|(row, index)| *index == 0 && !self.may_be_first(row));
        if let Some(row) = fallen_back {
            let text = format!("no class has a finite probability for row {row}");
            return Err(PredictError(text));
        }
        labels(indices)
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

fn labels(indices: Vec<u32>) -> Result<Output, PredictError> {
    Ok(Output::Classes {
        indices,
        probabilities: None,
    })
}

pub(super) mod gaussian {
    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        #[serde(flatten)]
        classes: ClassesMirror,
        theta: Vec<Vec<f64>>,
        var: Vec<Vec<f64>>,
    }

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&GaussianNBParameters::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.matrix()?, training.classes());
        let defaults = GaussianNBParameters::default();
        training.fit(&defaults, |chosen| SmartGaussian::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let mirror: BayesMirror<Tables> = parse(serialised)?;
        let tables = mirror.inner.distribution;
        tables.classes.check(shape.classes)?;
        check_table("means", &tables.theta, shape.classes, shape.features)?;
        check_table("variances", &tables.var, shape.classes, shape.features)?;
        if tables.var.iter().flatten().any(|variance| *variance <= 0.0) {
            return Err(ModelError(
                "every feature must vary in every class: a variance of 0 makes every probability undefined"
                    .to_owned(),
            ));
        }
        Ok(Estimator::new(Gaussian {
            smartcore: Box::new(parse(serialised)?),
            // There are at least two classes, of `features` numbers each.
            first_prior: tables.classes.class_priors[0],
            first_normals: tables.theta[0]
                .iter()
                .copied()
                .zip(tables.var[0].iter().copied())
                .collect(),
            shape: tables.classes.shape(),
        }))
    }
}

/// Features that are present or not.
#[derive(Debug)]
pub(super) struct Bernoulli {
    smartcore: Box<SmartBernoulli>,
    binarizes: bool,
    shape: Values,
}

impl Predictor for Bernoulli {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        labels(self.smartcore.predict(&matrix(rows)?).map_err(failed)?)
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        if self.binarizes {
            return Ok(());
        }
        check_whole(rows, |_| 1.0)
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

pub(super) mod bernoulli {
    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        #[serde(flatten)]
        classes: ClassesMirror,
        feature_log_prob: Vec<Vec<f64>>,
    }

    #[derive(Deserialize)]
    struct Binarized {
        binarize: Option<f64>,
    }

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&BernoulliNBParameters::<f64>::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.matrix()?, training.classes());
        let defaults = BernoulliNBParameters::<f64>::default();
        let (chosen, _) = parameters::apply(&defaults, training.parameters)?;
        if chosen.binarize.is_none() {
            training.whole_matrix(1.0)?;
        }
        training.fit(&defaults, |chosen| SmartBernoulli::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let mirror: BayesMirror<Tables> = parse(serialised)?;
        let tables = mirror.inner.distribution;
        tables.classes.check(shape.classes)?;
        let what = "log probabilities";
        check_table(
            what,
            &tables.feature_log_prob,
            shape.classes,
            shape.features,
        )?;
        let binarized: Binarized = parse(serialised)?;
        if binarized
            .binarize
            .is_some_and(|threshold| !threshold.is_finite())
        {
            return Err(ModelError("binarize must be finite".to_owned()));
        }
        Ok(Estimator::new(Bernoulli {
            smartcore: Box::new(parse(serialised)?),
            binarizes: binarized.binarize.is_some(),
            shape: tables.classes.shape(),
        }))
    }
}

/// Features that count something.
#[derive(Debug)]
pub(super) struct Multinomial {
    smartcore: Box<SmartMultinomial>,
    shape: Values,
}

impl Predictor for Multinomial {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        labels(
            self.smartcore
                .predict(&whole_matrix(rows)?)
                .map_err(failed)?,
        )
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        check_whole(rows, |_| WHOLE_MAX)
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

pub(super) mod multinomial {
    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        #[serde(flatten)]
        classes: ClassesMirror,
        feature_log_prob: Vec<Vec<f64>>,
    }

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&MultinomialNBParameters::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.whole_matrix(WHOLE_MAX)?, training.classes());
        let defaults = MultinomialNBParameters::default();
        training.fit(&defaults, |chosen| SmartMultinomial::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let mirror: BayesMirror<Tables> = parse(serialised)?;
        let tables = mirror.inner.distribution;
        tables.classes.check(shape.classes)?;
        let what = "log probabilities";
        check_table(
            what,
            &tables.feature_log_prob,
            shape.classes,
            shape.features,
        )?;
        Ok(Estimator::new(Multinomial {
            smartcore: Box::new(parse(serialised)?),
            shape: tables.classes.shape(),
        }))
    }
}

/// Features that are one of several categories.
#[derive(Debug)]
pub(super) struct Categorical {
    smartcore: Box<SmartCategorical>,
    /// For each feature, how many categories training has seen.
    categories: Vec<usize>,
    shape: Values,
}

impl Predictor for Categorical {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        labels(
            self.smartcore
                .predict(&whole_matrix(rows)?)
                .map_err(failed)?,
        )
    }

    /// smartcore ignores an unknown category, which would not be an honest answer.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        check_whole(rows, |feature| self.categories[feature] as f64 - 1.0)
    }

    fn shape(&self) -> Values {
        let mut shape = self.shape.clone();
        shape.insert("categories".to_owned(), json!(self.categories));
        shape
    }
}

pub(super) mod categorical {
    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        #[serde(flatten)]
        classes: ClassesMirror,
        /// For each feature and class, the log probability of each category.
        coefficients: Vec<Vec<Vec<f64>>>,
        n_features: usize,
    }

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&CategoricalNBParameters::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.whole_matrix(CATEGORY_MAX)?, training.classes());
        let defaults = CategoricalNBParameters::default();
        training.fit(&defaults, |chosen| SmartCategorical::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let Dimensions { features, classes } = shape;
        let mirror: BayesMirror<Tables> = parse(serialised)?;
        let tables = mirror.inner.distribution;
        tables.classes.check(classes)?;
        if tables.n_features != features || tables.coefficients.len() != features {
            return Err(ModelError(format!(
                "it must have tables for {features} features"
            )));
        }
        let mut categories = Vec::with_capacity(features);
        for (feature, table) in tables.coefficients.iter().enumerate() {
            let count = table.first().map_or(0, Vec::len);
            if count == 0 {
                return Err(ModelError(format!("feature {feature} has no categories")));
            }
            check_table(
                &format!("table of feature {feature}"),
                table,
                classes,
                count,
            )?;
            categories.push(count);
        }
        Ok(Estimator::new(Categorical {
            smartcore: Box::new(parse(serialised)?),
            categories,
            shape: tables.classes.shape(),
        }))
    }
}
