"""Trains small scikit-learn models and writes them with scikit-learn's own answers.

    python make_cases.py FOLDER          all cases
    python make_cases.py FOLDER --old    some cases, under names that begin with the version

Runs with scikit-learn 1.3 to 1.9. Every model is seeded and predicts in one thread. A case is a
line in a table: a name, what makes the model, and the data it is trained on.
"""

import argparse
import pickle
import sys
import warnings
import zipfile
from pathlib import Path

import mytransformers
import numpy as np
import sklearn
from data import codes, constant, edges, hollow, numbers, people, repeats, wide, words
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.compose import make_column_transformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold, f_regression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier
from write_case import FILES, write_case, write_refused

VERSION = tuple(int(part) for part in sklearn.__version__.split(".")[:2])

NOW = (1, 9)
PICKLE, JOBLIB, SKOPS = FILES

CASES = {}


class case:
    """One case. `make` returns the model, `data` what it is trained on."""

    def __init__(self, name, make, data, old=False, since=(1, 3), until=(9, 9), **options):
        assert name not in CASES, name
        self.make, self.data, self.old, self.options = make, data, old, options
        self.since, self.until = since, until
        CASES[name] = self

    def runs(self):
        return self.since <= VERSION <= self.until

    def files(self, model):
        """Which files to write, and how.

        To keep the repository small, one case of each family has all files as they are by default.
        The others have no joblib file, which differs from a pickle only in its arrays, and a skops
        file if the model is small. A large model is only in a compressed joblib file.
        """
        size = len(pickle.dumps(model))
        if self.old and VERSION >= NOW:
            return {"files": FILES if size < 4500 else [PICKLE]}
        if size > 3500:
            return {"files": [JOBLIB], "compress": 3}
        return {"files": [PICKLE, SKOPS] if size < 2200 else [PICKLE]}

    def write(self, folder):
        data = self.data()
        model = self.make().fit(data.given(data.train), data.target, **data.fit)
        forget_times(model)
        options = {**self.options, **self.files(model)}
        if VERSION >= NOW:
            options |= self.options
        if "refused" in options:
            write_refused(folder, model, **options)
        else:
            write_case(folder, model, data, **options)


def forget_times(model):
    """Forgets how long a search took, so that its files are the same each time."""
    for part in [model, *getattr(model, "named_steps", {}).values()]:
        for name, values in getattr(part, "cv_results_", {}).items():
            if name.endswith("_time"):
                values[:] = 0
        if hasattr(part, "refit_time_"):
            part.refit_time_ = 0.0


# Trees and forests.

TREE = {"max_depth": 3, "random_state": 1}
FOREST = {"n_estimators": 3, **TREE}


def two():
    return numbers("two")


def three():
    return numbers("three")


def number():
    return numbers("number")


def both():
    return numbers("two numbers")


case("decision_tree_classifier", lambda: DecisionTreeClassifier(**TREE), three, old=True)
case("decision_tree_classifier_entropy", lambda: DecisionTreeClassifier(criterion="entropy", **TREE), two)
case("decision_tree_class_weight", lambda: DecisionTreeClassifier(class_weight="balanced", **TREE), three)
case("decision_tree_words", lambda: DecisionTreeClassifier(**TREE), lambda: numbers("three words"))
case("decision_tree_bools", lambda: DecisionTreeClassifier(**TREE), lambda: numbers("bools"))
case("decision_tree_far_integers", lambda: DecisionTreeClassifier(**TREE), lambda: numbers("far integers"))
case("decision_tree_regressor", lambda: DecisionTreeRegressor(**TREE), number, old=True)
case("decision_tree_regressor_absolute", lambda: DecisionTreeRegressor(criterion="absolute_error", **TREE), number)
case("decision_tree_regressor_poisson", lambda: DecisionTreeRegressor(criterion="poisson", **TREE), lambda: numbers("count"))
case("decision_tree_two_numbers", lambda: DecisionTreeRegressor(**TREE), both)
case("decision_tree_one_column", lambda: DecisionTreeRegressor(**TREE), lambda: numbers("one column"))
case("decision_tree_missing", lambda: DecisionTreeClassifier(**TREE), lambda: numbers("two", missing=True), old=True)
case("decision_tree_regressor_missing", lambda: DecisionTreeRegressor(**TREE), lambda: numbers("number", missing=True))
case("decision_tree_edges", lambda: DecisionTreeRegressor(max_depth=6, random_state=1), lambda: edges("number"))
case("decision_tree_named", lambda: DecisionTreeClassifier(**TREE), lambda: numbers("two", named=True))
case("decision_tree_single_leaf", lambda: DecisionTreeRegressor(max_depth=1, min_samples_leaf=60, random_state=1), number)
case("decision_tree_protocol_2", lambda: DecisionTreeClassifier(**TREE), two, protocol=2, compress=3, files=FILES)
case("decision_tree_protocol_5", lambda: DecisionTreeClassifier(**TREE), two, protocol=5, compress=("gzip", 3), zipped=zipfile.ZIP_STORED, files=FILES)
case("extra_tree_classifier", lambda: ExtraTreeClassifier(**TREE), two)
case("random_forest_classifier_words", lambda: RandomForestClassifier(**FOREST), lambda: numbers("three words"), old=True)
case("random_forest_classifier_bools", lambda: RandomForestClassifier(**FOREST), lambda: numbers("bools"))
case("random_forest_class_weight", lambda: RandomForestClassifier(class_weight="balanced_subsample", **FOREST), lambda: numbers("far integers"))
case("random_forest_regressor", lambda: RandomForestRegressor(**FOREST), number, old=True)
case("random_forest_two_numbers", lambda: RandomForestRegressor(**FOREST), both)
case("random_forest_missing", lambda: RandomForestClassifier(**FOREST), lambda: numbers("two", missing=True), since=(1, 4), old=True)
case("random_forest_regressor_missing", lambda: RandomForestRegressor(**FOREST), lambda: numbers("number", missing=True), since=(1, 4))
case("random_forest_edges", lambda: RandomForestRegressor(n_estimators=3, max_depth=4, random_state=2), lambda: edges("number"))
case("random_forest_oob", lambda: RandomForestClassifier(oob_score=True, **{**FOREST, "n_estimators": 6, "max_depth": 2}), two)
case("extra_trees_regressor", lambda: ExtraTreesRegressor(**FOREST), number, old=True)
case("extra_trees_two_numbers", lambda: ExtraTreesRegressor(**FOREST), both)
case("extra_trees_missing", lambda: ExtraTreesClassifier(**FOREST), lambda: numbers("two", missing=True), since=(1, 6))

# Gradient boosting.

BOOST = {"n_estimators": 3, "max_depth": 2, "random_state": 3}


def boost(**options):
    return lambda: GradientBoostingClassifier(**{**BOOST, **options})


def boost_number(**options):
    return lambda: GradientBoostingRegressor(**{**BOOST, **options})


case("gradient_boosting_two", boost(), two, old=True, files=FILES)
case("gradient_boosting_words", boost(), lambda: numbers("two words"))
case("gradient_boosting_bools", boost(), lambda: numbers("bools"))
case("gradient_boosting_exponential", boost(loss="exponential"), two, old=True)
case("gradient_boosting_init_zero", boost(init="zero"), two, old=True)
case("gradient_boosting_exponential_zero", boost(loss="exponential", init="zero"), two)
case("gradient_boosting_three", boost(n_estimators=2), lambda: numbers("three words"), old=True)
case("gradient_boosting_three_zero", boost(n_estimators=2, init="zero"), three)
case("gradient_boosting_init_dummy", boost(init=DummyClassifier(strategy="prior")), two)
case("gradient_boosting_subsample", boost(subsample=0.6), two)
case("gradient_boosting_early_stopping", boost(n_estimators=20, n_iter_no_change=1, learning_rate=0.9), two)
case("gradient_boosting_edges", boost_number(n_estimators=4, max_depth=3), lambda: edges("number"))
case("gradient_boosting_squared", boost_number(), number)
case("gradient_boosting_absolute", boost_number(loss="absolute_error"), number)
case("gradient_boosting_huber", boost_number(loss="huber"), number, old=True)
case("gradient_boosting_quantile", boost_number(loss="quantile", alpha=0.8), number, old=True)
case("gradient_boosting_regressor_zero", boost_number(init="zero", subsample=0.7), number)

HIST = {"max_iter": 3, "max_leaf_nodes": 5, "min_samples_leaf": 5, "max_bins": 20, "random_state": 1}


def hist(**options):
    return lambda: HistGradientBoostingClassifier(**{**HIST, **options})


def hist_number(**options):
    return lambda: HistGradientBoostingRegressor(**{**HIST, **options})


def missing_two():
    return numbers("two", missing=True)


case("hist_boosting_two", hist(), missing_two, old=True, files=FILES)
case("hist_boosting_words", hist(max_iter=2), lambda: numbers("three words", missing=True))
case("hist_boosting_three", hist(max_iter=2), three, old=True)
case("hist_boosting_bools", hist(), lambda: numbers("bools"))
case("hist_boosting_far_integers", hist(max_iter=2), lambda: numbers("far integers"))
case("hist_boosting_class_weight", hist(class_weight="balanced"), two)
case("hist_boosting_squared", hist_number(), lambda: numbers("number", missing=True))
case("hist_boosting_absolute", hist_number(loss="absolute_error"), number)
case("hist_boosting_poisson", hist_number(loss="poisson"), lambda: numbers("count"), old=True)
case("hist_boosting_gamma", hist_number(loss="gamma"), lambda: numbers("positive"), old=True)
case("hist_boosting_quantile", hist_number(loss="quantile", quantile=0.3), number)
case("hist_boosting_codes", hist(categorical_features=[2, 3]), lambda: codes("two"), old=True)
case("hist_boosting_codes_mask", hist(categorical_features=[False, False, True, True]), lambda: codes("two"))
case("hist_boosting_codes_missing", hist_number(categorical_features=[3]), lambda: codes("number", missing=True))
case("hist_boosting_codes_three", hist(categorical_features=[2, 3], max_iter=2), lambda: codes("three words"))
case("hist_boosting_from_dtype", hist(categorical_features="from_dtype"), lambda: people("two", category=True), since=(1, 4), old=True, files=[PICKLE, SKOPS])
case("hist_boosting_from_dtype_missing", hist(categorical_features="from_dtype"), lambda: people("two words", category=True, missing=["city", "age"]), since=(1, 4))
case("hist_boosting_from_dtype_number", hist_number(categorical_features="from_dtype"), lambda: people("number", category=True, missing=["sex"]), since=(1, 4))
case("hist_boosting_names_of_text", hist_number(categorical_features=["city", "sex"]), lambda: people("number", category=True), since=(1, 4))
case("hist_boosting_early_stopping", hist(early_stopping=True, max_iter=30, n_iter_no_change=2, learning_rate=0.6), two)
case("hist_boosting_interactions", hist(interaction_cst=[{0, 1}, {2, 3}]), two)
case("hist_boosting_monotonic", hist_number(monotonic_cst=[1, 0, -1, 0]), number)
case("hist_boosting_edges", hist_number(max_leaf_nodes=10), lambda: edges("number"))

# Linear models.

def logistic(**options):
    return lambda: LogisticRegression(**options)


case("logistic_two", logistic(), two, old=True)
case("logistic_three", logistic(max_iter=300), lambda: numbers("three words"), old=True)
case("logistic_words", logistic(), lambda: numbers("two words"))
case("logistic_bools", logistic(), lambda: numbers("bools"))
case("logistic_far_integers", logistic(max_iter=300), lambda: numbers("far integers"))
case("logistic_no_intercept", logistic(fit_intercept=False), two)
case("logistic_three_no_intercept", logistic(fit_intercept=False), three)
case("logistic_ovr", logistic(multi_class="ovr", solver="liblinear", random_state=1), three, until=(1, 7), old=True)
case("logistic_two_multinomial", logistic(multi_class="multinomial"), two, until=(1, 7), old=True)
case("logistic_liblinear", logistic(solver="liblinear", random_state=1), two)
case("logistic_l1", lambda: make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear", C=0.1, random_state=1, **({"penalty": "l1"} if VERSION < (1, 8) else {"l1_ratio": 1.0}))), two)
case("logistic_named", logistic(), lambda: numbers("two", named=True))
case("logistic_cv", lambda: LogisticRegressionCV(Cs=2, cv=2), two)
case("logistic_cv_three", lambda: LogisticRegressionCV(Cs=2, cv=2, max_iter=300), three)
case("linear_regression", LinearRegression, number, old=True)
case("linear_regression_two_numbers", LinearRegression, both)
case("linear_regression_one_column", LinearRegression, lambda: numbers("one column"))
case("linear_regression_no_intercept", lambda: LinearRegression(fit_intercept=False), number)
case("linear_regression_wide", LinearRegression, lambda: wide("number"))
case("ridge", Ridge, number, old=True)
case("ridge_two_numbers", Ridge, both)
case("ridge_cv", lambda: RidgeCV(alphas=[0.1, 1.0]), number)
case("ridge_classifier", RidgeClassifier, two, old=True)
case("ridge_classifier_three", RidgeClassifier, lambda: numbers("three words"), old=True)
case("ridge_classifier_cv", RidgeClassifierCV, two)
case("lasso", lambda: Lasso(alpha=0.1), number)
case("lasso_cv", lambda: LassoCV(n_alphas=3, cv=2) if VERSION < (1, 7) else LassoCV(alphas=3, cv=2), number)
case("elastic_net", lambda: ElasticNet(alpha=0.1), number)
case("sgd_log_loss", lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=1)), two, old=True)
case("sgd_log_loss_three", lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=1)), lambda: numbers("three words"), old=True)
case("sgd_hinge", lambda: make_pipeline(StandardScaler(), SGDClassifier(random_state=1)), two)
case("sgd_hinge_three", lambda: make_pipeline(StandardScaler(), SGDClassifier(random_state=1)), three)
case("sgd_modified_huber", lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=1)), two)
case("sgd_modified_huber_three", lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=1)), three)
case("sgd_regressor", lambda: make_pipeline(StandardScaler(), SGDRegressor(random_state=1)), number)
case("perceptron", lambda: make_pipeline(StandardScaler(), Perceptron(random_state=1)), two)
case("linear_svc", lambda: make_pipeline(StandardScaler(), LinearSVC(random_state=1, dual=False)), two)
case("poisson_regressor", PoissonRegressor, lambda: numbers("count"), old=True)
case("gamma_regressor", GammaRegressor, lambda: numbers("positive"))
case("tweedie_regressor", lambda: TweedieRegressor(power=1.5), lambda: numbers("positive"))
case("tweedie_regressor_identity", lambda: TweedieRegressor(power=0), number, old=True)
case("tweedie_regressor_log", lambda: TweedieRegressor(power=0, link="log"), lambda: numbers("positive"))

# Naive Bayes.

case("gaussian_nb", GaussianNB, lambda: numbers("three words"), old=True)
case("gaussian_nb_priors", lambda: GaussianNB(priors=[0.3, 0.7]), two)
case("bernoulli_nb", BernoulliNB, three, old=True)
case("bernoulli_nb_binarize_2", lambda: BernoulliNB(binarize=2.0), two)
case("bernoulli_nb_binarize_none", lambda: make_pipeline(Binarizer(threshold=1.0), BernoulliNB(binarize=None)), lambda: numbers("two words"))
case("multinomial_nb", MultinomialNB, lambda: numbers("three", counts=True), old=True)
case("multinomial_nb_flat", lambda: MultinomialNB(fit_prior=False, alpha=0.2), lambda: numbers("two", counts=True))
case("complement_nb", ComplementNB, lambda: numbers("three words", counts=True), old=True)
case("complement_nb_norm", lambda: ComplementNB(norm=True), lambda: numbers("two", counts=True))

# Networks.

NET = {"hidden_layer_sizes": (4,), "max_iter": 30, "random_state": 1}


def net(**options):
    return lambda: make_pipeline(StandardScaler(), MLPClassifier(**{**NET, **options}))


def net_number(**options):
    return lambda: make_pipeline(StandardScaler(), MLPRegressor(**{**NET, **options}))


case("mlp_two", net(), lambda: numbers("two words"), old=True)
case("mlp_three", net(), lambda: numbers("three words"), old=True, files=FILES)
case("mlp_bools", net(), lambda: numbers("bools"))
case("mlp_far_integers", net(hidden_layer_sizes=(3, 2)), lambda: numbers("far integers"))
case("mlp_logistic_lbfgs", net(activation="logistic", solver="lbfgs"), two)
case("mlp_regressor_relu", net_number(), number)
case("mlp_regressor_tanh", net_number(activation="tanh", solver="lbfgs"), number, old=True)
case("mlp_regressor_logistic", net_number(activation="logistic", solver="sgd"), number)
case("mlp_regressor_identity", net_number(activation="identity"), number)
case("mlp_regressor_two_numbers", net_number(), both)

# Preprocessing before a linear model.


def ahead(*steps, last=Ridge):
    """Steps before a linear model, which shows every column they give."""
    return lambda: make_pipeline(*steps, last())


def missing_number():
    return numbers("number", missing=True)


def positive_number():
    return numbers("number", positive=True)


case("standard_scaler", ahead(StandardScaler()), lambda: constant("number"), old=True)
case("standard_scaler_without_mean", ahead(StandardScaler(with_mean=False)), number)
case("standard_scaler_without_std", ahead(StandardScaler(with_std=False)), number)
case("standard_scaler_neither", ahead(StandardScaler(with_mean=False, with_std=False)), number)
case("min_max_scaler", ahead(MinMaxScaler()), lambda: wide("number"), old=True)
case("min_max_scaler_clip", ahead(MinMaxScaler(clip=True, feature_range=(-1, 2))), lambda: wide("number"), old=True)
case("min_max_scaler_constant", ahead(MinMaxScaler()), lambda: constant("number"))
case("max_abs_scaler", ahead(MaxAbsScaler()), number)
case("robust_scaler", ahead(RobustScaler()), number)
case("robust_scaler_without_centering", ahead(RobustScaler(with_centering=False, quantile_range=(10, 80))), number)
case("robust_scaler_without_scaling", ahead(RobustScaler(with_scaling=False)), number)
case("robust_scaler_unit_variance", ahead(RobustScaler(unit_variance=True)), number)
case("normalizer_l1", ahead(Normalizer(norm="l1")), number)
case("normalizer_l2", ahead(Normalizer()), number)
case("normalizer_max", ahead(Normalizer(norm="max")), number)
case("scaler_then_imputer", ahead(StandardScaler(), MinMaxScaler(), SimpleImputer()), missing_number)
case("imputer_mean", ahead(SimpleImputer()), missing_number, old=True)
case("imputer_median", ahead(SimpleImputer(strategy="median")), missing_number)
case("imputer_most_frequent", ahead(SimpleImputer(strategy="most_frequent")), missing_number)
case("imputer_constant", ahead(SimpleImputer(strategy="constant", fill_value=-3.5)), missing_number)
case("imputer_constant_default", ahead(SimpleImputer(strategy="constant")), missing_number)
case("imputer_indicator", ahead(SimpleImputer(add_indicator=True)), missing_number, old=True)
case("imputer_minus_one", ahead(SimpleImputer(missing_values=-1)), lambda: repeats("number", -1.0))
case("imputer_minus_one_indicator", ahead(SimpleImputer(missing_values=-1, add_indicator=True)), lambda: repeats("number", -1.0))
case("imputer_empty_column", ahead(SimpleImputer()), lambda: hollow("number"))
case("imputer_empty_column_kept", ahead(SimpleImputer(keep_empty_features=True)), lambda: hollow("number"))
case("imputer_empty_column_kept_indicator", ahead(SimpleImputer(keep_empty_features=True, add_indicator=True, strategy="constant", fill_value=2)), lambda: hollow("number"))
case("imputer_empty_column_indicator", ahead(SimpleImputer(add_indicator=True)), lambda: hollow("number"))
case("k_bins_onehot", ahead(KBinsDiscretizer(n_bins=4, encode="onehot", strategy="quantile")), lambda: wide("number"), old=True)
case("k_bins_onehot_dense", ahead(KBinsDiscretizer(n_bins=3, encode="onehot-dense", strategy="uniform")), number)
case("k_bins_ordinal", ahead(KBinsDiscretizer(n_bins=5, encode="ordinal", strategy="kmeans", random_state=1)), number)
case("k_bins_different_counts", ahead(KBinsDiscretizer(n_bins=[2, 3, 4, 5], encode="ordinal", strategy="uniform")), lambda: wide("number"))
case("polynomial_2", ahead(PolynomialFeatures()), number, old=True)
case("polynomial_3", ahead(PolynomialFeatures(degree=3)), number)
case("polynomial_interactions", ahead(PolynomialFeatures(degree=3, interaction_only=True, include_bias=False)), number)
case("polynomial_2_to_3", ahead(PolynomialFeatures(degree=(2, 3), include_bias=False)), number)
case("polynomial_no_bias", ahead(PolynomialFeatures(include_bias=False)), number)
case("pca", ahead(StandardScaler(), PCA(n_components=2)), number, old=True)
case("pca_whiten", ahead(PCA(n_components=3, whiten=True)), number, old=True)
case("truncated_svd", ahead(TruncatedSVD(n_components=2, random_state=1)), number)
case("variance_threshold", ahead(VarianceThreshold(threshold=0.1)), lambda: constant("number"))
case("select_k_best", ahead(SelectKBest(f_regression, k=2)), number)
case("select_from_model", ahead(SelectFromModel(Lasso(alpha=0.3))), number, old=True)
case("select_from_forest", ahead(SelectFromModel(RandomForestRegressor(n_estimators=3, max_depth=2, random_state=1), threshold="median")), number)
case("select_from_model_prefit_limit", ahead(SelectFromModel(Ridge(), threshold=-np.inf, max_features=2)), number)
case("rfe_step", ahead(RFE(Ridge(), n_features_to_select=2)), number)
case("rfe_alone", lambda: RFE(LogisticRegression(), n_features_to_select=2), lambda: numbers("two words"))
case("function_log1p", ahead(FunctionTransformer(np.log1p)), positive_number, old=True)
case("function_sqrt", ahead(FunctionTransformer(np.sqrt)), positive_number)
case("function_abs", ahead(FunctionTransformer(np.abs)), number)
case("function_none", ahead(FunctionTransformer()), number)
case("function_log", ahead(FunctionTransformer(np.log, validate=True), VarianceThreshold()), lambda: above_zero("number"))
case("function_exp", ahead(StandardScaler(), FunctionTransformer(np.exp, inverse_func=np.log)), number)
case("binarizer", ahead(Binarizer(threshold=0.5)), number)


def above_zero(kind):
    data = numbers(kind, positive=True)
    data.train = data.train + 0.5
    data.test = data.test + 0.5
    return data


# Text columns.

def text_number(**options):
    return lambda: people("number", **options)


def encoded(encoder, columns=("city", "sex"), last=Ridge, others="passthrough"):
    """Some columns through an encoder, the others as they are."""
    return lambda: make_pipeline(
        ColumnTransformer([("encoded", encoder, list(columns))], remainder=others), last()
    )


def one_hot(**options):
    return OneHotEncoder(**options)


TEXT_HOLES = {"missing": ["city", "sex"]}

case("one_hot_ignore", encoded(one_hot(handle_unknown="ignore")), text_number(), old=True)
case("one_hot_error", encoded(one_hot()), text_number())
case("one_hot_dense", encoded(one_hot(handle_unknown="ignore", sparse_output=False)), text_number())
case("one_hot_drop_first", encoded(one_hot(drop="first")), text_number(), old=True)
case("one_hot_drop_first_ignore", encoded(one_hot(drop="first", handle_unknown="ignore")), text_number())
case("one_hot_drop_if_binary", encoded(one_hot(drop="if_binary", handle_unknown="ignore")), text_number(), old=True)
case("one_hot_drop_named", encoded(one_hot(drop=["Paris", "m"])), text_number())
case("one_hot_min_frequency", encoded(one_hot(handle_unknown="infrequent_if_exist", min_frequency=10)), text_number(), old=True)
case("one_hot_min_share", encoded(one_hot(handle_unknown="infrequent_if_exist", min_frequency=0.15, sparse_output=False)), text_number())
case("one_hot_max_categories", encoded(one_hot(handle_unknown="infrequent_if_exist", max_categories=3)), text_number())
case("one_hot_max_categories_ignore", encoded(one_hot(handle_unknown="ignore", max_categories=3)), text_number())
case("one_hot_infrequent_error", encoded(one_hot(max_categories=3)), text_number())
case("one_hot_infrequent_drop_first", encoded(one_hot(handle_unknown="infrequent_if_exist", min_frequency=10, drop="first")), text_number(), old=True)
case("one_hot_infrequent_drop_if_binary", encoded(one_hot(handle_unknown="infrequent_if_exist", max_categories=2, drop="if_binary")), text_number())
case("one_hot_warn", encoded(one_hot(handle_unknown="warn", min_frequency=10)), text_number(), since=(1, 6))
case("one_hot_given_categories", encoded(one_hot(categories=[["Rome", "Paris", "Berlin"], ["m", "f"]], handle_unknown="ignore")), text_number())
case("one_hot_numbers", encoded(one_hot(handle_unknown="ignore"), columns=("rooms",), others="drop"), text_number())
case("one_hot_numbers_missing", encoded(one_hot(handle_unknown="ignore"), columns=("rooms",), others="drop"), text_number(missing=["rooms"]))
case("one_hot_bools", encoded(one_hot(), columns=("member",), others="drop"), text_number())
case("one_hot_text_and_numbers", encoded(one_hot(handle_unknown="ignore"), columns=("rooms", "city", "member")), lambda: without(people("number"), "sex"))
case("one_hot_nan", encoded(one_hot(handle_unknown="ignore")), text_number(**TEXT_HOLES), old=True)
case("one_hot_nan_error", encoded(one_hot()), text_number(**TEXT_HOLES))
case("one_hot_none", encoded(one_hot(handle_unknown="ignore")), text_number(text_missing=None, **TEXT_HOLES), old=True)
case("one_hot_nan_infrequent", encoded(one_hot(handle_unknown="infrequent_if_exist", min_frequency=16)), text_number(**TEXT_HOLES))
case("one_hot_alone", lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), lambda: words("two words"))
case("one_hot_string_dtype", encoded(one_hot(handle_unknown="ignore")), text_number(text="str", **TEXT_HOLES), since=(1, 9))
case("one_hot_category_dtype", encoded(one_hot(handle_unknown="ignore")), text_number(category=True))
case("ordinal_unknown_minus_one", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)), text_number(), old=True)
case("ordinal_unknown_nan", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), last=hist_number()), text_number())
case("ordinal_error", encoded(OrdinalEncoder()), text_number())
case("ordinal_missing_nan", encoded(OrdinalEncoder(), last=hist_number()), text_number(**TEXT_HOLES))
case("ordinal_missing_minus_two", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)), text_number(**TEXT_HOLES), old=True)
case("ordinal_missing_none", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=99, encoded_missing_value=-2)), text_number(text_missing=None, **TEXT_HOLES))
case("ordinal_numbers", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), columns=("rooms",), others="drop"), text_number())
case("ordinal_infrequent", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=10)), text_number())
case("ordinal_max_categories", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=3, encoded_missing_value=-5)), text_number(**TEXT_HOLES))
case("text_imputer_most_frequent", encoded(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))), text_number(**TEXT_HOLES), old=True)
case("text_imputer_constant", encoded(make_pipeline(SimpleImputer(strategy="constant", fill_value="unknown"), OneHotEncoder(handle_unknown="ignore"))), text_number(**TEXT_HOLES), old=True)
case("text_imputer_constant_default", encoded(make_pipeline(SimpleImputer(strategy="constant"), OneHotEncoder(handle_unknown="ignore"))), text_number(**TEXT_HOLES))
case("text_imputer_none", encoded(make_pipeline(SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))), text_number(text_missing=None, **TEXT_HOLES))
case("text_imputer_indicator", encoded(make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), OneHotEncoder(handle_unknown="ignore"))), text_number(**TEXT_HOLES))


def without(data, *columns):
    data.train = data.train.drop(columns=list(columns))
    data.test = data.test.drop(columns=list(columns))
    return data


# Composition.

AGES = ["age", "income"]
TEXT = ["city", "sex"]


def scaled():
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())


def text_encoder():
    return make_pipeline(SimpleImputer(strategy="constant", fill_value="unknown"), OneHotEncoder(handle_unknown="ignore"))


def mixed(last, **options):
    """The usual pipeline for a table with text and holes."""
    return lambda: Pipeline([
        ("columns", ColumnTransformer([("numbers", scaled(), AGES), ("text", text_encoder(), TEXT)], **options)),
        ("model", last()),
    ])


def columns_of(*transformers, last=Ridge, **options):
    return lambda: make_pipeline(ColumnTransformer(list(transformers), **options), last())


def mixed_data(kind):
    return lambda: people(kind, missing=["age", "city", "sex"])


def small_forest():
    return RandomForestClassifier(n_estimators=3, max_depth=3, random_state=1)


case("columns_logistic", mixed(LogisticRegression), mixed_data("two words"), old=True, files=FILES)
case("columns_forest", mixed(small_forest), mixed_data("three words"), old=True)
case("columns_boosting", mixed(boost()), mixed_data("two"))
case("columns_hist_boosting", mixed(hist_number(), sparse_threshold=0), mixed_data("number"))
case("columns_remainder_scaled", mixed(LogisticRegression, remainder=StandardScaler()), mixed_data("two words"), old=True)
case("columns_remainder_passthrough", mixed(LogisticRegression, remainder="passthrough"), mixed_data("two words"))
case("columns_by_index", columns_of(("a", StandardScaler(), [2, 0]), ("b", MinMaxScaler(), [-1])), number, old=True)
case("columns_by_index_remainder", columns_of(("a", StandardScaler(), [2]), remainder="passthrough"), number, old=True)
case("columns_by_slice", columns_of(("a", StandardScaler(), slice(0, 2)), ("b", "passthrough", slice(2, None))), number, old=True)
case("columns_by_slice_of_names", columns_of(("a", StandardScaler(), slice("f1", "f2")), remainder="passthrough"), lambda: numbers("number", named=True))
case("columns_by_mask", columns_of(("a", StandardScaler(), [True, False, False, True]), remainder=MinMaxScaler()), number)
case("columns_by_selector", columns_of(("numbers", StandardScaler(), make_column_selector(dtype_include="number")), ("text", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=object))), text_number(), old=True)
case("columns_by_pattern", columns_of(("a", StandardScaler(), make_column_selector("^f[12]$")), remainder="passthrough"), lambda: numbers("number", named=True))
case("columns_named_after_index", columns_of(("a", StandardScaler(), [1, 0]), ("b", OneHotEncoder(handle_unknown="ignore"), [2])), text_number())
case("columns_drop_and_passthrough", columns_of(("a", "drop", ["rooms"]), ("b", "passthrough", ["member", "age"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["sex"])), text_number(), old=True)
case("columns_drop_rest_passthrough", columns_of(("a", "drop", ["city", "sex"]), remainder="passthrough"), text_number())
case("columns_twice", columns_of(("a", StandardScaler(), ["age"]), ("b", FunctionTransformer(np.log1p), ["age", "income"]), ("c", KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), ["age"])), text_number())
case("columns_in_other_order", columns_of(("c", OneHotEncoder(handle_unknown="ignore"), ["sex", "city"]), ("b", StandardScaler(), ["rooms", "age"])), text_number())
case("columns_none_selected", columns_of(("a", StandardScaler(), ["age", "income"]), ("none", OneHotEncoder(), [])), text_number())
case("columns_weights", columns_of(("a", StandardScaler(), ["age", "income"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"]), transformer_weights={"a": 10, "c": 0.5}, last=lambda: Lasso(alpha=0.05)), text_number(), old=True)
case("columns_weights_dense", columns_of(("a", StandardScaler(), [0, 1]), ("c", "passthrough", [2]), transformer_weights={"a": 3.0, "c": 0.25}), number)
case("columns_nested", columns_of(("outer", ColumnTransformer([("inner", scaled(), ["income"]), ("city", text_encoder(), ["city"])], remainder="drop"), ["city", "age", "income"]), remainder="drop"), text_number(missing=["income"]))
case("columns_made_by_hand", lambda: make_pipeline(make_column_transformer((StandardScaler(), ["age"]), (OrdinalEncoder(), ["sex"]), remainder="drop"), Ridge()), text_number())
case("columns_after_columns", lambda: make_pipeline(ColumnTransformer([("a", StandardScaler(), [0, 2]), ("b", MinMaxScaler(), [1])], remainder="passthrough"), ColumnTransformer([("c", PolynomialFeatures(include_bias=False), [3, 0])], remainder="passthrough"), Ridge()), number)
case("columns_pandas_output", lambda: make_pipeline(ColumnTransformer([("a", StandardScaler(), ["age", "income"])], remainder="drop", verbose_feature_names_out=False).set_output(transform="pandas"), ColumnTransformer([("b", MinMaxScaler(), ["income"])], remainder="passthrough"), Ridge()), text_number())
case("columns_alone_logistic_words", columns_of(("city", OneHotEncoder(handle_unknown="ignore", min_frequency=8), ["city"]), last=LogisticRegression), lambda: people("three words"))
case("one_hot_scaled", lambda: make_pipeline(ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), TEXT)]), StandardScaler(with_mean=False), LogisticRegression()), lambda: people("two"))
case("one_hot_svd", lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), TruncatedSVD(3, random_state=1), LogisticRegression()), lambda: words("two words"))
case("one_hot_max_abs_bayes", lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), MaxAbsScaler(), BernoulliNB()), lambda: words("two words"), since=(1, 4))
case("one_hot_variance", lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), VarianceThreshold(0.1), SelectKBest(k=3), MultinomialNB()), lambda: words("three words"))
case("union", lambda: make_pipeline(FeatureUnion([("a", StandardScaler()), ("b", PCA(2)), ("c", KBinsDiscretizer(3, encode="onehot", strategy="uniform"))]), Ridge()), number, old=True)
case("union_weights", lambda: make_pipeline(FeatureUnion([("a", StandardScaler()), ("b", PolynomialFeatures(interaction_only=True))], transformer_weights={"b": 0.1}), Lasso(alpha=0.1)), number, old=True)
case("union_drop_and_passthrough", lambda: make_pipeline(FeatureUnion([("a", "drop"), ("b", "passthrough"), ("c", MaxAbsScaler())]), Ridge()), number)
case("pipeline_in_pipeline", lambda: make_pipeline(make_pipeline(SimpleImputer(), make_pipeline(StandardScaler())), make_pipeline(PolynomialFeatures(), Ridge())), missing_number, old=True)
case("pipeline_passthrough", lambda: Pipeline([("a", "passthrough"), ("b", StandardScaler()), ("c", None), ("d", Ridge())]), number, old=True)
case("pipeline_of_forest_alone", lambda: Pipeline([("model", small_forest())]), two)
case("pipeline_named", lambda: make_pipeline(StandardScaler(), LogisticRegression()), lambda: numbers("two words", named=True))
case("pipeline_of_text_alone", columns_of(("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXT), last=lambda: DecisionTreeClassifier(**TREE)), lambda: people("two words"))


case("grid_search", lambda: GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=2), lambda: numbers("two words"), old=True, files=[PICKLE, SKOPS])
case("grid_search_step", lambda: make_pipeline(StandardScaler(), GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2)), number)
case("random_search", lambda: RandomizedSearchCV(RandomForestRegressor(n_estimators=3, random_state=1), {"max_depth": [2, 3]}, n_iter=2, cv=2, random_state=1), number)


def threshold(**options):
    from sklearn.model_selection import FixedThresholdClassifier

    return FixedThresholdClassifier(LogisticRegression(), **options)


def tuned_threshold(**options):
    from sklearn.model_selection import TunedThresholdClassifierCV

    return TunedThresholdClassifierCV(make_pipeline(StandardScaler(), LogisticRegression()), cv=3, **options)


case("fixed_threshold", lambda: threshold(threshold=0.8), two, since=(1, 5), old=True)
case("fixed_threshold_words", lambda: threshold(threshold=0.3, pos_label="no"), lambda: numbers("two words"), since=(1, 5))
case("fixed_threshold_decision", lambda: threshold(threshold=-0.5, response_method="decision_function"), two, since=(1, 5))
case("fixed_threshold_auto", lambda: threshold(), lambda: numbers("bools"), since=(1, 5))
case("tuned_threshold", lambda: tuned_threshold(scoring="balanced_accuracy"), two, since=(1, 5), old=True)


def sampled():
    from imblearn.pipeline import Pipeline as SamplingPipeline
    from imblearn.under_sampling import RandomUnderSampler

    return SamplingPipeline([("scale", StandardScaler()), ("sample", RandomUnderSampler(random_state=1)), ("model", LogisticRegression())])


case("imblearn_pipeline", sampled, lambda: numbers("three words"), files=[PICKLE, SKOPS])

# Labels and numbers of other types.

for kind in ("unicode", "uint8", "floats", "one class"):
    word = kind.replace(" ", "_")
    case(f"labels_{word}_tree", lambda: DecisionTreeClassifier(**TREE), lambda kind=kind: numbers(kind))
    if kind != "one class":
        case(f"labels_{word}_logistic", logistic(), lambda kind=kind: numbers(kind))
        case(f"labels_{word}_hist_boosting", hist(max_iter=2), lambda kind=kind: numbers(kind))
case("labels_unicode_mlp", net(), lambda: numbers("unicode"))
case("labels_unicode_ridge", RidgeClassifier, lambda: numbers("unicode"))
case("labels_unicode_bayes", GaussianNB, lambda: numbers("unicode"))


def float32(kind):
    data = numbers(kind)
    data.train = data.train.astype(np.float32)
    return data


def endless(kind):
    data = numbers(kind)
    data.test.iloc[3:6, 0] = [np.inf, -np.inf, 1e39]
    return data


def unseen_rooms():
    data = people("number")
    data.test.loc[[3, 6], "rooms"] = 9
    return data


case("float32_ridge", Ridge, lambda: float32("number"))
case("float32_logistic", logistic(), lambda: float32("three"))
case("float32_mlp", lambda: MLPRegressor(**NET), lambda: float32("number"))
case("float32_scaler_pca", ahead(StandardScaler(), PCA(2)), lambda: float32("number"))
case("hist_boosting_infinite", hist(), lambda: endless("two"))
case("one_hot_unseen_number", encoded(one_hot(handle_unknown="ignore"), columns=("rooms",), others="drop"), unseen_rooms)
case("ordinal_unseen_number", encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), columns=("rooms",), others="drop"), unseen_rooms)
case("mlp_no_hidden_layer", net(hidden_layer_sizes=()), three)
case("mlp_tanh_deep", net(hidden_layer_sizes=(3, 3, 2), activation="tanh", solver="lbfgs"), two)

# Boosters of other libraries.


def xgb(name, **options):
    def make():
        import xgboost

        return getattr(xgboost, name)(**{"n_estimators": 3, "max_depth": 2, "n_jobs": 1, "random_state": 1, **options})

    return make


def lgbm(name, **options):
    def make():
        import lightgbm

        return getattr(lightgbm, name)(**{"n_estimators": 3, "num_leaves": 4, "min_child_samples": 5, "n_jobs": 1, "random_state": 1, "verbose": -1, **options})

    return make


def watched(kind):
    """With rows to watch, for early stopping."""
    data = numbers(kind)
    data.fit = {"eval_set": [(data.given(data.train)[:30], data.target[:30])], "verbose": False}
    return data


def quietly_watched(kind):
    data = watched(kind)
    del data.fit["verbose"]
    return data


def texts_as_categories(kind):
    return without(people(kind, category=True, missing=["age", "city"]), "member")


case("xgb_two", xgb("XGBClassifier"), missing_two, files=FILES)
case("xgb_three", xgb("XGBClassifier", n_estimators=2), three)
case("xgb_regressor", xgb("XGBRegressor"), lambda: numbers("number", missing=True))
case("xgb_regressor_two_numbers", xgb("XGBRegressor", n_estimators=2), both)
case("xgb_poisson", xgb("XGBRegressor", objective="count:poisson"), lambda: numbers("count"))
case("xgb_ranker", xgb("XGBRanker"), lambda: numbers("ranks", fit={"qid": np.repeat(range(9), 10)}))
case("xgb_missing_minus_one", xgb("XGBClassifier", missing=-1), lambda: repeats("two", -1.0))
case("xgb_early_stopping", xgb("XGBClassifier", n_estimators=12, learning_rate=1.0, early_stopping_rounds=1, gamma=3), lambda: watched("two"))
case("xgb_early_stopping_regressor", xgb("XGBRegressor", n_estimators=12, learning_rate=1.6, early_stopping_rounds=1), lambda: watched("number"))
case("xgb_hinge", xgb("XGBClassifier", objective="binary:hinge"), two)
case("xgb_named", xgb("XGBClassifier"), lambda: numbers("two", named=True))
case("xgb_random_forest", xgb("XGBRFClassifier"), two)
case("xgb_linear", xgb("XGBRegressor", booster="gblinear", max_depth=None), number)
case("xgb_dart", xgb("XGBRegressor", booster="dart", rate_drop=0.5), number)
case("xgb_bools", xgb("XGBClassifier"), lambda: numbers("bools"))
case("columns_xgb", mixed(xgb("XGBClassifier")), mixed_data("two"))
case("columns_xgb_regressor", mixed(xgb("XGBRegressor"), remainder="passthrough"), mixed_data("number"))
# A sparse matrix does not hold zeros: XGBoost takes them for missing, and trees take no missing values.
def sparse(model):
    return lambda: make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city", "sex"]), (MaxAbsScaler(), ["age"]), sparse_threshold=1.0
        ),
        model(),
    )


case("sparse_xgb", sparse(xgb("XGBClassifier")), mixed_data("two"))
case("sparse_xgb_regressor", sparse(xgb("XGBRegressor", base_score=0.5, missing=1.0)), mixed_data("number"))
case("sparse_lgbm", sparse(lgbm("LGBMRegressor")), mixed_data("number"))
case("sparse_forest", sparse(lambda: RandomForestRegressor(4, max_depth=4, random_state=1)), lambda: people("number", missing=["city", "sex"]))
case("sparse_scaled", lambda: make_pipeline(sparse(StandardScaler)().set_params(standardscaler__with_mean=False), DecisionTreeRegressor(max_depth=5)), lambda: people("number", missing=["city", "sex"]))
case("pipeline_xgb", lambda: make_pipeline(StandardScaler(), xgb("XGBRegressor")()), missing_number)
case("lgbm_words", lgbm("LGBMClassifier"), lambda: numbers("two words", missing=True), files=FILES)
case("lgbm_three", lgbm("LGBMClassifier", n_estimators=2), lambda: numbers("three words"))
case("lgbm_far_integers", lgbm("LGBMClassifier", n_estimators=2), lambda: numbers("far integers"))
case("lgbm_regressor", lgbm("LGBMRegressor"), lambda: numbers("number", missing=True))
case("lgbm_gamma", lgbm("LGBMRegressor", objective="gamma"), lambda: numbers("positive"))
case("lgbm_ranker", lgbm("LGBMRanker"), lambda: numbers("ranks", fit={"group": [10] * 9}))
case("lgbm_early_stopping", lgbm("LGBMRegressor", n_estimators=12, learning_rate=1.6, early_stopping_round=1), lambda: quietly_watched("number"))
case("lgbm_named", lgbm("LGBMClassifier"), lambda: numbers("two", named=True))
case("lgbm_categories_of_text", lgbm("LGBMClassifier"), lambda: texts_as_categories("two"))
case("columns_lgbm", mixed(lgbm("LGBMClassifier")), mixed_data("two words"))
case("grid_search_xgb", lambda: GridSearchCV(xgb("XGBRegressor")(), {"max_depth": [1, 2]}, cv=2), number)
case("fixed_threshold_xgb", lambda: fixed_of(xgb("XGBClassifier")(), threshold=0.4), two, since=(1, 5))


def fixed_of(model, **options):
    from sklearn.model_selection import FixedThresholdClassifier

    return FixedThresholdClassifier(model, **options)


# Models that a server without Python refuses, each with the name its error must mention.


def labels_of_two(kind):
    data = numbers("two numbers")
    data.target = (data.target > 0).astype(int)
    return data


def sentences(kind):
    data = people(kind)
    for frame in (data.train, data.test):
        frame["text"] = frame["city"] + " " + frame["sex"]
    return without(data, "city", "sex", "age", "income", "rooms", "member")


def refused(name, refused_class, make, data):
    case(f"refused_{name}", make, data, refused=refused_class)


def few():
    return first(two(), 30)


refused("gradient_boosting_init", "init of GradientBoostingClassifier", lambda: GradientBoostingClassifier(n_estimators=3, init=LogisticRegression()), two)
refused("nearest_neighbors", "KNeighborsClassifier", KNeighborsClassifier, few)
refused("svc", "SVC", SVC, few)
refused("discriminant", "LinearDiscriminantAnalysis", LinearDiscriminantAnalysis, few)
refused("calibrated", "CalibratedClassifierCV", lambda: CalibratedClassifierCV(LogisticRegression(), cv=2), few)
refused("voting", "VotingClassifier", lambda: VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]), few)
refused("stacking", "StackingRegressor", lambda: StackingRegressor([("a", Ridge()), ("b", LinearRegression())], cv=2), number)
refused("bagging", "BaggingClassifier", lambda: BaggingClassifier(LogisticRegression(), n_estimators=2, random_state=1), few)
refused("ada_boost", "AdaBoostClassifier", lambda: AdaBoostClassifier(n_estimators=2, random_state=1), few)
refused("count_vectorizer", "CountVectorizer", lambda: make_pipeline(ColumnTransformer([("words", CountVectorizer(), "text")]), LogisticRegression()), lambda: sentences("two"))
refused("own_transformer", "mytransformers.Doubler", lambda: make_pipeline(mytransformers.Doubler(), Ridge()), number)
refused("own_function", "mytransformers.double", lambda: make_pipeline(FunctionTransformer(mytransformers.double), Ridge()), number)
refused("isolation_forest", "IsolationForest", lambda: IsolationForest(n_estimators=2, max_samples=16, random_state=1), few)
refused("k_means", "KMeans", lambda: KMeans(2, n_init=1, random_state=1), few)
refused("gaussian_process", "GaussianProcessRegressor", lambda: GaussianProcessRegressor(random_state=1), lambda: first(number(), 8))
refused("transformed_target", "TransformedTargetRegressor", lambda: TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), lambda: numbers("positive"))
refused("multi_label_forest", "RandomForestClassifier", lambda: RandomForestClassifier(n_estimators=2, max_depth=2, random_state=1), lambda: labels_of_two("two"))
refused("multi_label_tree", "DecisionTreeClassifier", lambda: DecisionTreeClassifier(**TREE), lambda: labels_of_two("two"))
refused("multi_output", "MultiOutputClassifier", lambda: MultiOutputClassifier(LogisticRegression()), lambda: labels_of_two("two"))
refused("power_transformer", "PowerTransformer", ahead(PowerTransformer()), number)
refused("quantile_transformer", "QuantileTransformer", ahead(QuantileTransformer(n_quantiles=10)), number)
refused("nearest_neighbors_imputer", "KNNImputer", ahead(KNNImputer()), lambda: first(missing_number(), 20))
refused("scaler_alone", "StandardScaler", StandardScaler, number)
refused("pipeline_without_model", "StandardScaler", lambda: make_pipeline(SimpleImputer(), StandardScaler()), number)


def first(data, count):
    data.train, data.target = data.train[:count], data.target[:count]
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--old", action="store_true", help="a subset, named by version")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    prefix = f"old_{sklearn.__version__.replace('.', '_')}_" if given.old else ""
    failed = 0
    for name, one in CASES.items():
        if not one.runs() or given.only not in name or (given.old and not one.old):
            continue
        try:
            one.write(given.folder / (prefix + name))
        except ModuleNotFoundError as error:
            # Boosters and imbalanced-learn are not in every environment.
            print(f"{name}: left out: {error}")
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}")
            if given.only:
                raise
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
