//! The estimators that are known: one table.
//!
//! To add one, write a function that reads it and add a line.

use super::compiler::{Last, PipelineCompiler, Table};
use super::compose::{self, Transformed};
use super::view::View;
use super::{boosters, encoders, hist, linear, scalers, selectors, trees};
use crate::models::{Exactness, ModelError};

/// Reads a transformer: its steps, and the columns that come out.
type ReadTransformer =
    fn(&mut PipelineCompiler, View<'_>, Table) -> Result<Transformed, ModelError>;

/// Reads what predicts.
type ReadPredictor = fn(&mut PipelineCompiler, View<'_>, Table) -> Result<Last, ModelError>;

/// What an estimator does.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Transformer(ReadTransformer),
    Predictor(ReadPredictor),
}

/// An estimator that is known.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The package that it is of.
    pub(super) package: &'static str,
    /// Its class.
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// How exact it is; `None` for what is as exact as its parts.
    pub(super) exactness: Option<Exactness>,
}

const fn transformer(
    name: &'static str,
    exactness: Option<Exactness>,
    read: ReadTransformer,
) -> Known {
    Known {
        package: "sklearn",
        name,
        role: Role::Transformer(read),
        exactness,
    }
}

const fn predictor(
    package: &'static str,
    name: &'static str,
    exactness: Option<Exactness>,
    read: ReadPredictor,
) -> Known {
    Known {
        package,
        name,
        role: Role::Predictor(read),
        exactness,
    }
}

const BITS: Option<Exactness> = Some(Exactness::Bits);
const LINK: Option<Exactness> = Some(Exactness::Link);
const SUMS: Option<Exactness> = Some(Exactness::Sums);
const PARTS: Option<Exactness> = None;

/// All estimators that are known, in the order of the guide.
#[rustfmt::skip]
pub(super) static KNOWN: &[Known] = &[
    predictor("sklearn", "DecisionTreeClassifier", BITS, trees::forest),
    predictor("sklearn", "DecisionTreeRegressor", BITS, trees::forest),
    predictor("sklearn", "ExtraTreeClassifier", BITS, trees::forest),
    predictor("sklearn", "ExtraTreeRegressor", BITS, trees::forest),
    predictor("sklearn", "RandomForestClassifier", BITS, trees::forest),
    predictor("sklearn", "RandomForestRegressor", BITS, trees::forest),
    predictor("sklearn", "ExtraTreesClassifier", BITS, trees::forest),
    predictor("sklearn", "ExtraTreesRegressor", BITS, trees::forest),
    predictor("sklearn", "GradientBoostingClassifier", LINK, trees::gradient_boosting),
    predictor("sklearn", "GradientBoostingRegressor", BITS, trees::gradient_boosting),
    predictor("sklearn", "HistGradientBoostingClassifier", LINK, hist::hist_gradient_boosting),
    predictor("sklearn", "HistGradientBoostingRegressor", LINK, hist::hist_gradient_boosting),
    predictor("sklearn", "LogisticRegression", SUMS, linear::logistic),
    predictor("sklearn", "LogisticRegressionCV", SUMS, linear::logistic),
    predictor("sklearn", "LinearRegression", SUMS, linear::regressor),
    predictor("sklearn", "Ridge", SUMS, linear::regressor),
    predictor("sklearn", "RidgeCV", SUMS, linear::regressor),
    predictor("sklearn", "Lasso", SUMS, linear::regressor),
    predictor("sklearn", "LassoCV", SUMS, linear::regressor),
    predictor("sklearn", "ElasticNet", SUMS, linear::regressor),
    predictor("sklearn", "ElasticNetCV", SUMS, linear::regressor),
    predictor("sklearn", "SGDRegressor", SUMS, linear::regressor),
    predictor("sklearn", "LinearSVR", SUMS, linear::regressor),
    predictor("sklearn", "HuberRegressor", SUMS, linear::regressor),
    predictor("sklearn", "QuantileRegressor", SUMS, linear::regressor),
    predictor("sklearn", "BayesianRidge", SUMS, linear::regressor),
    predictor("sklearn", "PoissonRegressor", SUMS, linear::generalized),
    predictor("sklearn", "GammaRegressor", SUMS, linear::generalized),
    predictor("sklearn", "TweedieRegressor", SUMS, linear::generalized),
    predictor("sklearn", "RidgeClassifier", SUMS, linear::ridge_classifier),
    predictor("sklearn", "RidgeClassifierCV", SUMS, linear::ridge_classifier),
    predictor("sklearn", "SGDClassifier", SUMS, linear::descent),
    predictor("sklearn", "Perceptron", SUMS, linear::descent),
    predictor("sklearn", "LinearSVC", SUMS, linear::classifier),
    predictor("sklearn", "GaussianNB", SUMS, linear::gaussian_bayes),
    predictor("sklearn", "BernoulliNB", SUMS, linear::discrete_bayes),
    predictor("sklearn", "MultinomialNB", SUMS, linear::discrete_bayes),
    predictor("sklearn", "ComplementNB", SUMS, linear::discrete_bayes),
    predictor("sklearn", "MLPClassifier", SUMS, linear::network),
    predictor("sklearn", "MLPRegressor", SUMS, linear::network),
    predictor("xgboost", "XGBClassifier", LINK, boosters::xgboost),
    predictor("xgboost", "XGBRegressor", LINK, boosters::xgboost),
    predictor("xgboost", "XGBRanker", LINK, boosters::xgboost),
    predictor("xgboost", "XGBRFClassifier", LINK, boosters::xgboost),
    predictor("xgboost", "XGBRFRegressor", LINK, boosters::xgboost),
    predictor("lightgbm", "LGBMClassifier", LINK, boosters::lightgbm),
    predictor("lightgbm", "LGBMRegressor", LINK, boosters::lightgbm),
    predictor("lightgbm", "LGBMRanker", LINK, boosters::lightgbm),
    predictor("sklearn", "Pipeline", PARTS, compose::pipeline),
    predictor("imblearn", "Pipeline", PARTS, compose::pipeline),
    predictor("sklearn", "GridSearchCV", PARTS, compose::search),
    predictor("sklearn", "RandomizedSearchCV", PARTS, compose::search),
    predictor("sklearn", "HalvingGridSearchCV", PARTS, compose::search),
    predictor("sklearn", "HalvingRandomSearchCV", PARTS, compose::search),
    predictor("sklearn", "FixedThresholdClassifier", PARTS, linear::threshold),
    predictor("sklearn", "TunedThresholdClassifierCV", PARTS, linear::threshold),
    predictor("sklearn", "RFE", PARTS, selectors::eliminating),
    predictor("sklearn", "RFECV", PARTS, selectors::eliminating),
    transformer("Pipeline", PARTS, compose::pipeline_of_transformers),
    Known { package: "imblearn", ..transformer("Pipeline", PARTS, compose::pipeline_of_transformers) },
    transformer("ColumnTransformer", PARTS, compose::column_transformer),
    transformer("FeatureUnion", PARTS, compose::feature_union),
    transformer("StandardScaler", BITS, scalers::standard),
    transformer("MinMaxScaler", BITS, scalers::min_max),
    transformer("MaxAbsScaler", BITS, scalers::max_abs),
    transformer("RobustScaler", BITS, scalers::robust),
    transformer("Normalizer", SUMS, scalers::normalizer),
    transformer("Binarizer", BITS, scalers::binarizer),
    transformer("SimpleImputer", BITS, encoders::imputer),
    transformer("MissingIndicator", BITS, encoders::missing_indicator),
    transformer("OneHotEncoder", BITS, encoders::one_hot),
    transformer("OrdinalEncoder", BITS, encoders::ordinal),
    transformer("KBinsDiscretizer", BITS, scalers::bins),
    transformer("PolynomialFeatures", BITS, scalers::polynomial),
    transformer("PCA", SUMS, scalers::pca),
    transformer("TruncatedSVD", SUMS, scalers::projection),
    transformer("VarianceThreshold", BITS, selectors::variance),
    transformer("SelectKBest", BITS, selectors::k_best),
    transformer("SelectPercentile", BITS, selectors::percentile),
    transformer("SelectFpr", BITS, selectors::by_p_value),
    transformer("SelectFwe", BITS, selectors::by_p_value),
    transformer("SelectFromModel", BITS, selectors::from_model),
    transformer("RFE", BITS, selectors::stored),
    transformer("RFECV", BITS, selectors::stored),
    transformer("SequentialFeatureSelector", BITS, selectors::stored),
    transformer("FunctionTransformer", SUMS, scalers::function),
];

/// Finds the line of an estimator; as a predictor, if it can be both.
///
/// # Errors
///
/// It is not known.
pub(super) fn find(view: View<'_>, wanted: WantedEstimator) -> Result<Known, ModelError> {
    let class = view.class().ok_or_else(|| {
        ModelError(format!(
            "it must hold estimators of scikit-learn, but holds {}",
            view.name()
        ))
    })?;
    let package = class.module.split('.').next().unwrap_or_default();
    let is_own = |known: &&Known| {
        let role = matches!(
            (known.role, wanted),
            (Role::Transformer(_), WantedEstimator::Transformer)
                | (Role::Predictor(_), WantedEstimator::Predictor)
        );
        known.name == class.name && known.package == package && role
    };
    let is_other = |known: &&Known| known.name == class.name && known.package == package;
    let mut all = KNOWN.iter();
    let found = all.clone().find(is_own).or_else(|| all.find(is_other));
    found.copied().ok_or_else(|| {
        ModelError(format!(
            "it has a {}.{}, which lanekeeper does not serve; lanekeeper help sklearn lists the estimators that it does",
            class.module, class.name
        ))
    })
}

/// What an estimator is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantedEstimator {
    Transformer,
    Predictor,
}
