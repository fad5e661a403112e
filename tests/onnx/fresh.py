"""Exports random models to ONNX and writes them as cases, for a test that runs where skl2onnx is.

    python fresh.py FOLDER [SEED] [--count 40]

The seed is printed; the same seed gives the same models. Tables have numbers with holes where the model
takes them, and text with categories that were not in training.
"""

import argparse
import random
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
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
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from write_case import write_case

TRAIN = 200
EXPORT_SECONDS = 10
TEST = 25
WORDS = ["amber", "blue", "cyan", "dark grey", "émeraude", "", "green"]


def classifiers(draw):
    """The classifiers with random parameters."""
    size = draw.randint(3, 12)
    depth = draw.randint(2, 7)
    return {
        "tree": lambda: DecisionTreeClassifier(max_depth=depth),
        "forest": lambda: RandomForestClassifier(size, max_depth=depth),
        "extra": lambda: ExtraTreesClassifier(size, max_depth=depth),
        "boosting": lambda: GradientBoostingClassifier(n_estimators=size, max_depth=3),
        "hist": lambda: HistGradientBoostingClassifier(max_iter=size),
        "logistic": lambda: LogisticRegression(C=draw.choice([0.1, 1.0, 10.0])),
        "ridge": lambda: RidgeClassifier(),
        "perceptron": lambda: Perceptron(),
        "sgd": lambda: SGDClassifier(loss=draw.choice(["log_loss", "modified_huber", "hinge"])),
        "lda": lambda: LinearDiscriminantAnalysis(),
        "gaussian": lambda: GaussianNB(),
        "bernoulli": lambda: BernoulliNB(),
        "mlp": lambda: MLPClassifier(
            (draw.randint(3, 9),), activation=draw.choice(["relu", "tanh", "logistic"]), max_iter=60
        ),
        "svc": lambda: SVC(
            max_iter=5000, kernel=draw.choice(["rbf", "poly", "sigmoid", "linear"]), probability=draw.random() < 0.5
        ),
        "linear_svc": lambda: LinearSVC(),
        "knn": lambda: KNeighborsClassifier(draw.randint(1, 6)),
        "bagging": lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=depth), 4),
        "voting": lambda: VotingClassifier(
            [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3))], voting="soft"
        ),
        "stacking": lambda: StackingClassifier(
            [("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3))]
        ),
        "ada": lambda: AdaBoostClassifier(n_estimators=size),
        "multinomial": lambda: make_pipeline(MinMaxScaler(), MultinomialNB()),
    }


def regressors(draw):
    """The regressors with random parameters."""
    size = draw.randint(3, 12)
    depth = draw.randint(2, 7)
    return {
        "tree": lambda: DecisionTreeRegressor(max_depth=depth),
        "forest": lambda: RandomForestRegressor(size, max_depth=depth),
        "extra": lambda: ExtraTreesRegressor(size, max_depth=depth),
        "boosting": lambda: GradientBoostingRegressor(n_estimators=size, max_depth=3),
        "hist": lambda: HistGradientBoostingRegressor(max_iter=size),
        "linear": lambda: LinearRegression(),
        "elastic": lambda: ElasticNet(alpha=0.1),
                "mlp": lambda: MLPRegressor(hidden_layer_sizes=(draw.randint(3, 9),), max_iter=60),
        "svr": lambda: SVR(C=0.1, max_iter=5000, kernel=draw.choice(["rbf", "linear"])),
        "knn": lambda: KNeighborsRegressor(draw.randint(1, 6)),
        "voting": lambda: VotingRegressor(
            [("a", LinearRegression()), ("b", DecisionTreeRegressor(max_depth=3))]
        ),
    }


def others(draw):
    """Models that learn without a target."""
    return {
        "isolation": lambda: IsolationForest(n_estimators=draw.randint(3, 9)),
        "one_class": lambda: OneClassSVM(nu=0.1, max_iter=5000),
    }


# What may have holes.
TOLERANT = {"hist", "tree", "forest"}


def preparation(draw):
    """Steps for numbers."""
    return draw.choice(
        [
            [],
            [],
            [StandardScaler()],
            [MinMaxScaler()],
            [RobustScaler()],
            [MaxAbsScaler()],
            [Normalizer(norm=draw.choice(["l1", "l2", "max"]))],
            [Binarizer(threshold=0.1)],
            [StandardScaler(), PCA(3)],
            [StandardScaler(), PolynomialFeatures(2)],
            [SelectKBest(k=3)],
            [KBinsDiscretizer(4, encode=draw.choice(["onehot-dense", "ordinal"]))],
            [FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())])],
        ]
    )


def target(numbers, draw, kind):
    """What a model learns."""
    scores = numbers[:, 0] * 1.5 - numbers[:, 1] + np.sin(numbers[:, 2] * 3)
    if kind == "regressor":
        return scores
    count = draw.choice([2, 2, 3, 4])
    classes = np.digitize(scores, np.quantile(scores, np.linspace(0, 1, count + 1)[1:-1]))
    names = draw.choice([None, None, ["no", "yes", "may be", "näh"], [3, 5, 8, 11]])
    return classes if names is None else np.array(names)[classes]


def table(draw, rng):
    """A model of numbers in one input."""
    width = draw.randint(4, 8)
    rows = TRAIN + TEST
    numbers = np.round(rng.normal(size=(rows, width)) * rng.choice([0.1, 1, 20], width), 3)
    numbers = numbers.astype(np.float32).astype(np.float64)
    kind = draw.choice(["classifier"] * 5 + ["regressor"] * 3 + ["other"])
    pool = {"classifier": classifiers, "regressor": regressors, "other": others}[kind](draw)
    name = draw.choice(sorted(pool))
    last = pool[name]()
    steps = preparation(draw)
    if name in ("svc", "svr", "one_class"):
        # Of large numbers, onnxruntime's sums of 32 bits are not within 1e-5 themselves.
        steps = [StandardScaler()]
    if kind == "other":
        steps = [step for step in steps if not isinstance(step, SelectKBest)]
    given = numbers.copy()
    if not steps and name in TOLERANT and draw.random() < 0.5:
        given[rng.random(given.shape) < 0.1] = np.nan
    elif draw.random() < 0.2:
        steps = [SimpleImputer(strategy="median"), *steps]
        given[rng.random(given.shape) < 0.1] = np.nan
    model = make_pipeline(*steps, last)
    goal = target(numbers[:TRAIN], draw, kind)
    model.fit(given[:TRAIN], None if kind == "other" else goal)
    options = {}
    if kind == "classifier" and name not in ("multinomial", "linear_svc"):
        zipmap = draw.choice([True, False, False])
        options = {id(last): {"zipmap": zipmap}}
        if name in ("logistic", "forest", "tree") and draw.random() < 0.2:
            options = {id(last): {"zipmap": False, "raw_scores": True}}
            if name != "logistic":
                options = {id(last): {"zipmap": False}}
    is_double = draw.random() < 0.15 and name in ("linear", "elastic", "logistic", "hist", "forest")
    kind_of = DoubleTensorType if is_double else FloatTensorType
    opset = draw.choice([12, 15, 17, 18, 19, 21, 22])
    onnx = to_onnx(
        model,
        initial_types=[("X", kind_of([None, width]))],
        options=options or None,
        target_opset={"": opset, "ai.onnx.ml": draw.choice([1, 3, 3])},
    )
    return name, [type(step).__name__ for step in steps], onnx, given[TRAIN:].T.tolist()


def frame(draw, rng):
    """A model of columns with names, some of them text."""
    rows = TRAIN + TEST
    data = {}
    for place in range(draw.randint(1, 3)):
        column = np.round(rng.normal(size=rows), 3).astype(np.float32)
        column[rng.random(rows) < 0.1] = np.nan
        data[f"number {place}"] = column
    for place in range(draw.randint(1, 2)):
        words = rng.choice(WORDS, rows)
        words[-4:] = "unseen"
        data[f"text_{place}"] = words
    data = pd.DataFrame(data)
    numbers = [name for name in data if name.startswith("number")]
    texts = [name for name in data if name.startswith("text")]
    encoder = draw.choice(
        [
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            OneHotEncoder(handle_unknown="ignore", sparse_output=True),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        ]
    )
    prepared = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("texts", encoder, texts),
        ]
    )
    kind = draw.choice(["classifier", "classifier", "regressor"])
    pool = {"classifier": classifiers, "regressor": regressors}[kind](draw)
    name = draw.choice(["forest", "logistic", "boosting"] if kind == "classifier" else ["forest", "linear"])
    last = pool[name]()
    helper = data[numbers].fillna(0).to_numpy()
    helper = np.column_stack([helper, np.zeros((rows, 3))])
    goal = target(helper[:TRAIN] + (data[texts[0]][:TRAIN] == "blue").to_numpy()[:, None], draw, kind)
    model = make_pipeline(prepared, last)
    model.fit(data[:TRAIN], goal)
    types = [
        (column, (FloatTensorType if column in numbers else StringTensorType)([None, 1]))
        for column in data
    ]
    options = {id(last): {"zipmap": draw.choice([True, False])}} if kind == "classifier" else None
    onnx = to_onnx(model, initial_types=types, options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    columns = [data[column][TRAIN:].tolist() for column in data]
    return name, ["columns"], onnx, columns


def give_up(*_):
    """skl2onnx does not end with some infinite thresholds."""
    raise TimeoutError("the export takes too long")


def main():
    signal.signal(signal.SIGALRM, give_up)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int, nargs="?", default=int(time.time()))
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    warnings.simplefilter("ignore")
    made = tried = 0
    while made < options.count:
        tried += 1
        seed = options.seed * 10_000 + tried
        draw, rng = random.Random(seed), np.random.default_rng(seed)
        np.random.seed(seed % 2**32)
        signal.alarm(EXPORT_SECONDS)
        make = frame if draw.random() < 0.25 else table
        try:
            name, steps, onnx, columns = make(draw, rng)
            folder = options.folder / f"{tried:04}_{name}_{'_'.join(steps)}".lower()
            write_case(folder, onnx.SerializeToString(), columns)
        except Exception as error:  # An exporter may lack a pair of steps, or onnxruntime the result.
            print(f"{tried}: not exported: {type(error).__name__}: {str(error)[:100]}")
            continue
        made += 1
    print(f"{made} exports of {tried}")


if __name__ == "__main__":
    main()
