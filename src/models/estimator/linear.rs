//! Linear models, and logistic regression.

use serde::Deserialize;
use serde_json::json;
use smartcore::linalg::basic::arrays::{Array, Array2};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::elastic_net::{ElasticNet, ElasticNetParameters};
use smartcore::linear::lasso::{Lasso, LassoParameters};
use smartcore::linear::linear_regression::{LinearRegression, LinearRegressionParameters};
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};
use smartcore::linear::ridge_regression::{RidgeRegression, RidgeRegressionParameters};

use super::{
    Dimensions, Estimator, Matrix, Parameter, Predictor, Training, Values, failed, matrix,
    parameters, parse,
};
use crate::models::{ModelError, Output, PredictError, Rows};

type SmartLinear = LinearRegression<f64, f64, Matrix, Vec<f64>>;
type SmartRidge = RidgeRegression<f64, f64, Matrix, Vec<f64>>;
type SmartLasso = Lasso<f64, f64, Matrix, Vec<f64>>;
type SmartElasticNet = ElasticNet<f64, f64, Matrix, Vec<f64>>;
type SmartLogistic = LogisticRegression<f64, u32, Matrix, Vec<u32>>;

/// What must hold of smartcore's serialized matrix.
#[derive(Debug, Clone, Deserialize)]
struct MatrixMirror {
    ncols: usize,
    nrows: usize,
    values: Vec<f64>,
    column_major: bool,
}

impl MatrixMirror {
    fn check(&self, what: &str, rows: usize, columns: usize) -> Result<(), ModelError> {
        if (self.nrows, self.ncols) != (rows, columns) || self.values.len() != rows * columns {
            return Err(ModelError(format!(
                "its {what} must be {rows} rows of {columns} numbers, but are {} of {}, {} in all",
                self.nrows,
                self.ncols,
                self.values.len()
            )));
        }
        if !self.values.iter().all(|value| value.is_finite()) {
            return Err(ModelError(format!("its {what} must be finite")));
        }
        Ok(())
    }

    fn matrix(&self) -> Result<Matrix, ModelError> {
        let values = self.values.clone();
        DenseMatrix::new(self.nrows, self.ncols, values, self.column_major).map_err(ModelError::of)
    }
}

/// A serialized linear model of any kind; its intercept is a number, or a matrix of one.
#[derive(Deserialize)]
struct LinearMirror {
    coefficients: MatrixMirror,
    intercept: Option<Intercept>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Intercept {
    Number(f64),
    Matrix(MatrixMirror),
}

impl LinearMirror {
    /// Checks it and returns its shape in words.
    fn check(&self, features: usize) -> Result<Values, ModelError> {
        self.coefficients.check("coefficients", features, 1)?;
        let intercept = match &self.intercept {
            None => {
                return Err(ModelError(
                    "smartcore cannot predict without an intercept: fit_intercept must be true"
                        .to_owned(),
                ));
            }
            Some(Intercept::Number(number)) if number.is_finite() => *number,
            Some(Intercept::Number(_)) => {
                return Err(ModelError("its intercept must be finite".to_owned()));
            }
            Some(Intercept::Matrix(matrix)) => {
                matrix.check("intercept", 1, 1)?;
                matrix.values[0]
            }
        };
        Ok([
            ("coefficients", json!(self.coefficients.values)),
            ("intercept", json!(intercept)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into())
    }
}

macro_rules! linear {
    ($(#[$doc:meta])* $model:ident, $name:ident, $smartcore:ty, $parameters:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $model {
            smartcore: Box<$smartcore>,
            shape: Values,
        }

        impl Predictor for $model {
            fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
                let numbers = self.smartcore.predict(&matrix(rows)?).map_err(failed)?;
                Ok(Output::Numbers(numbers))
            }

            fn shape(&self) -> Values {
                self.shape.clone()
            }
        }

        pub(super) mod $name {
            use super::*;

            pub(in super::super) fn known(typed: &[(String, String)]) -> Result<Vec<Parameter>, ModelError> {
                parameters::known(&<$parameters>::default(), typed)
            }

            pub(in super::super) fn fit(
                training: Training<'_>,
            ) -> Result<(String, Values), ModelError> {
                let (x, y) = (training.matrix()?, training.numbers());
                let defaults = <$parameters>::default();
                training.fit(&defaults, |chosen| <$smartcore>::fit(&x, &y, chosen))
            }

            pub(in super::super) fn read(
                serialised: &str,
                shape: Dimensions,
            ) -> Result<Estimator, ModelError> {
                let mirror: LinearMirror = parse(serialised)?;
                Ok(Estimator::new($model {
                    shape: mirror.check(shape.features)?,
                    smartcore: Box::new(parse(serialised)?),
                }))
            }
        }
    };
}

linear!(
    /// Ordinary least squares.
    LinearModel,
    linear_regression,
    SmartLinear,
    LinearRegressionParameters
);
linear!(
    /// Least squares with an L2 penalty.
    RidgeModel,
    ridge_regression,
    SmartRidge,
    RidgeRegressionParameters<f64>
);
linear!(
    /// Least squares with an L1 penalty.
    LassoModel,
    lasso,
    SmartLasso,
    LassoParameters
);
linear!(
    /// Least squares with both penalties.
    ElasticNetModel,
    elastic_net,
    SmartElasticNet,
    ElasticNetParameters
);

/// Logistic regression, of two classes or more.
#[derive(Debug)]
pub(super) struct Logistic {
    smartcore: Box<SmartLogistic>,
    /// smartcore keeps them private: one row for two classes, otherwise one for each.
    coefficients: Matrix,
    intercepts: Vec<f64>,
    classes: usize,
    shape: Values,
}

impl Logistic {
    /// Returns for each row the probability of each class, row-major, from the same products that
    /// smartcore decides by.
    fn probabilities(&self, x: &Matrix) -> Vec<f64> {
        let scores = x.ab(false, &self.coefficients, true);
        let mut probabilities = Vec::with_capacity(x.shape().0 * self.classes);
        for row in 0..x.shape().0 {
            if self.classes == 2 {
                let score = scores.get((row, 0)) + self.intercepts[0];
                let second = 1.0 / (1.0 + (-score).exp());
                probabilities.extend([1.0 - second, second]);
                continue;
            }
            let of_row = self.intercepts.iter().enumerate();
            let of_row: Vec<f64> = of_row
                .map(|(class, intercept)| scores.get((row, class)) + intercept)
                .collect();
            // Minus the largest, so that no exponential is infinite.
            let largest = of_row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = of_row.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            probabilities.extend(powers.iter().map(|power| power / sum));
        }
        probabilities
    }
}

impl Predictor for Logistic {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let x = matrix(rows)?;
        Ok(Output::Classes {
            indices: self.smartcore.predict(&x).map_err(failed)?,
            probabilities: Some(self.probabilities(&x)),
        })
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

pub(super) mod logistic_regression {
    use super::*;

    /// What must hold of smartcore's serialized logistic regression.
    #[derive(Deserialize)]
    struct LogisticMirror {
        coefficients: MatrixMirror,
        intercept: MatrixMirror,
        classes: Vec<u32>,
        num_attributes: usize,
        num_classes: usize,
    }

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&LogisticRegressionParameters::<f64>::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.matrix()?, training.classes());
        let defaults = LogisticRegressionParameters::<f64>::default();
        training.fit(&defaults, |chosen| SmartLogistic::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let Dimensions { features, classes } = shape;
        let mirror: LogisticMirror = parse(serialised)?;
        let in_order = mirror.classes.iter().copied().eq((0..).take(classes));
        if !in_order || (mirror.num_classes, mirror.num_attributes) != (classes, features) {
            return Err(ModelError(format!(
                "it must be made for {features} features and for classes 0 to {} in order",
                classes - 1
            )));
        }
        let rows = if classes == 2 { 1 } else { classes };
        mirror.coefficients.check("coefficients", rows, features)?;
        mirror.intercept.check("intercept", rows, 1)?;
        let shape = [
            ("coefficients", json!(mirror.coefficients.values)),
            ("intercept", json!(mirror.intercept.values)),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        Ok(Estimator::new(Logistic {
            smartcore: Box::new(parse(serialised)?),
            coefficients: mirror.coefficients.matrix()?,
            // One column: row-major and column-major are the same.
            intercepts: mirror.intercept.values,
            classes,
            shape: shape.into(),
        }))
    }
}
