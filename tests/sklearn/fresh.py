"""Trains random pipelines and writes them as cases, for a test that runs where scikit-learn is.

    python fresh.py FOLDER [SEED] [--count 60]

The seed is printed; the same seed gives the same models. The tables have numbers, text, whole
numbers and booleans with holes, and rows with categories that were not in training.
"""

import argparse
import math
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from data import target_of
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
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
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from write_case import FILES, Data, answers, cells, is_refused, write_case

TRAIN = 120
TEST = 20
WORDS = ["amber", "blue", "cyan", "dark grey", "émeraude", "fuchsia", "green", "ivory", "jade"]

# Models that accept missing numbers.
TOLERANT = (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)


class Draw:
    """One random table and pipeline."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.seed = self.random.randrange(1000)
        self.numbers, self.texts, self.others = [], [], []

    def chance(self, share):
        return self.random.random() < share

    def one_of(self, *values):
        return self.random.choice(values)

    def table(self):
        """A frame of all rows, and a score that depends on every column."""
        size = TRAIN + TEST
        columns, score = {}, np.zeros(size)
        for at in range(self.random.randint(1, 4)):
            scale = 10.0 ** self.random.randint(-2, 3)
            values = self.numpy.normal(self.random.uniform(-2, 2), 1, size)
            kind = self.random.randrange(3)
            values = [values * scale, np.round(values * 2), np.exp(values)][kind]
            columns[f"number {at}"] = values
            score += (values - values.mean()) / (values.std() + 1e-9)
            self.numbers.append(f"number {at}")
        if self.chance(0.75):
            for at in range(self.random.randint(1, 3)):
                count = self.random.randint(2, len(WORDS))
                shares = self.numpy.dirichlet(np.full(count, 0.7))
                codes = self.numpy.choice(count, size, p=shares)
                columns[f"text_{at}"] = pd.Series(np.array(WORDS, dtype=object)[codes], dtype=object)
                score += self.numpy.normal(0, 1, count)[codes]
                self.texts.append(f"text_{at}")
        if self.texts and self.chance(0.4):
            columns["whole"] = self.numpy.integers(0, 5, size)
            self.others.append("whole")
        if self.texts and self.chance(0.4):
            columns["flag"] = self.numpy.random(size) < 0.5
            self.others.append("flag")
        names = list(columns)
        self.random.shuffle(names)
        return pd.DataFrame({name: columns[name] for name in names}), score

    def with_holes(self, frame, share):
        for name in self.numbers + self.texts:
            if self.chance(0.6):
                holes = self.numpy.random(len(frame)) < share
                frame.loc[holes, name] = math.nan if name in self.numbers else self.missing_text
        return frame

    def data(self):
        self.missing_text = self.one_of(math.nan, math.nan, None)
        self.holes = self.chance(0.6)
        frame, score = self.table()
        score = (score - score.mean()) / score.std()
        self.is_classifier = self.chance(0.6)
        labels = ["two", "three", "bools", "two words", "three words", "far integers", "unicode"]
        targets = ["number", "positive", "count"]
        self.kind = self.one_of(*(labels if self.is_classifier else targets))
        target = target_of(self.kind, score, self.numpy)
        if self.holes:
            frame = self.with_holes(frame, 0.12)
        train = frame.iloc[:TRAIN].reset_index(drop=True)
        test = frame.iloc[TRAIN:].reset_index(drop=True)
        for name in self.texts:
            test.loc[self.numpy.random(TEST) < 0.1, name] = "Atlantis"
        named = bool(self.texts) or self.chance(0.5)
        self.named = named
        return Data(train, target[:TRAIN], test, named=named, missing_text=self.missing_text)

    def number_steps(self, tolerant):
        steps = []
        if self.holes and not (tolerant and self.chance(0.6)):
            strategy = self.one_of("mean", "median", "most_frequent", "constant")
            steps.append(SimpleImputer(strategy=strategy, add_indicator=self.chance(0.3)))
        elif self.holes or tolerant and self.chance(0.4):
            return steps + ([self.scaler()] if self.chance(0.5) else [])
        choice = self.random.randrange(6)
        if choice == 0:
            encode = self.one_of("onehot", "onehot-dense", "ordinal")
            strategy = self.one_of("uniform", "kmeans")
            steps.append(KBinsDiscretizer(self.random.randint(2, 6), encode=encode, strategy=strategy))
        elif choice == 1:
            degree, only = self.one_of(2, 2, 3), self.chance(0.3)
            poly = PolynomialFeatures(degree, interaction_only=only, include_bias=self.chance(0.5))
            steps += [StandardScaler(), poly]
        elif choice == 2:
            functions = self.one_of([None], [np.abs], [np.abs, np.log1p], [np.abs, np.sqrt])
            steps += [FunctionTransformer(function) for function in functions]
        elif choice < 5:
            steps.append(self.scaler())
        return steps

    def scaler(self):
        return self.one_of(
            StandardScaler(with_mean=self.chance(0.8), with_std=self.chance(0.8)),
            MinMaxScaler(clip=self.chance(0.5), feature_range=self.one_of((0, 1), (-1, 3))),
            MaxAbsScaler(),
            RobustScaler(with_centering=self.chance(0.7), quantile_range=self.one_of((25.0, 75.0), (10.0, 80.0))),
        )

    def text_steps(self):
        steps = []
        if self.chance(0.5):
            missing = math.nan if self.missing_text is not None else None
            strategy = self.one_of("most_frequent", "constant")
            fill = "unknown" if strategy == "constant" else None
            steps.append(SimpleImputer(missing_values=missing, strategy=strategy, fill_value=fill))
        if self.chance(0.7):
            unknown = self.one_of("ignore", "ignore", "error", "infrequent_if_exist")
            options = {"handle_unknown": unknown, "sparse_output": self.chance(0.5)}
            if unknown == "infrequent_if_exist" or self.chance(0.2):
                options.update(self.one_of({"min_frequency": 15}, {"max_categories": 3}, {"min_frequency": 0.1}))
            if self.chance(0.3):
                options["drop"] = self.one_of("first", "if_binary")
            steps.append(OneHotEncoder(**options))
        else:
            options = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
            if self.chance(0.3):
                options["min_frequency"] = 10
            if self.chance(0.3) or self.holes:
                options["encoded_missing_value"] = -2
            steps.append(OrdinalEncoder(**options))
        return steps

    def columns(self, frame, names):
        """Names of columns, or another way to say the same."""
        names = list(names)
        self.random.shuffle(names)
        choice = self.random.randrange(4)
        if choice == 0:
            return [frame.columns.get_loc(name) for name in names]
        if choice == 1:
            return [name in names for name in frame.columns]
        if choice == 2 and names and set(names) == set(self.texts):
            return make_column_selector(dtype_include=object)
        if choice == 2 and names and all(name in self.numbers for name in names):
            return make_column_selector(pattern="^number")
        return names

    def preparation(self, frame, tolerant):
        """The steps before the model."""
        if not self.texts:
            steps = self.number_steps(tolerant)
            if self.chance(0.2) and not self.holes:
                parts = [("scaled", self.scaler()), ("bins", KBinsDiscretizer(3, strategy="uniform"))]
                weights = {"bins": 0.5} if self.chance(0.5) else None
                steps = [FeatureUnion(parts, transformer_weights=weights)]
            return steps
        parts = [("text", self.together(self.text_steps()), self.columns(frame, self.texts))]
        steps = self.number_steps(tolerant)
        parts.append(("numbers", self.together(steps), self.columns(frame, self.numbers)))
        self.random.shuffle(parts)
        if self.chance(0.15):
            parts[0] = (parts[0][0], "drop", parts[0][2])
        remainder = self.one_of("drop", "passthrough", StandardScaler())
        weights = {"numbers": 2.0, "text": 0.25} if self.chance(0.2) else None
        steps = [ColumnTransformer(parts, remainder=remainder, transformer_weights=weights)]
        return steps

    def together(self, steps):
        if not steps:
            return "passthrough"
        return steps[0] if len(steps) == 1 and self.chance(0.7) else make_pipeline(*steps)

    def middle(self):
        """A step over everything."""
        choice = self.random.randrange(8)
        if choice == 0:
            return [TruncatedSVD(1, random_state=self.seed)]
        if choice == 1:
            return [VarianceThreshold(0.01)]
        if choice == 2:
            score = {} if self.is_classifier else {"score_func": f_regression}
            return [SelectKBest(k=self.random.randint(1, 2), **score)]
        if choice == 3:
            return [MaxAbsScaler()]
        if choice == 4:
            return [Normalizer(norm=self.one_of("l1", "l2", "max"))]
        return []

    def model(self):
        seed = {"random_state": self.seed}
        tree = {"max_depth": self.random.randint(2, 6), **seed}
        forest = {"n_estimators": self.random.randint(2, 8), **tree}
        boost = {"n_estimators": self.random.randint(2, 12), "max_depth": 2, **seed}
        hist = {"max_iter": self.random.randint(2, 10), "min_samples_leaf": 5, **seed}
        sizes = self.one_of((4,), (5, 3), ())
        net = {"hidden_layer_sizes": sizes, "max_iter": 40, **seed}
        net["activation"] = self.one_of("relu", "tanh", "logistic", "identity")
        if self.is_classifier:
            two = self.kind in ("two", "bools", "two words")
            makers = [
                lambda: DecisionTreeClassifier(**tree),
                lambda: RandomForestClassifier(class_weight=self.one_of(None, "balanced"), **forest),
                lambda: ExtraTreesClassifier(**forest),
                lambda: GradientBoostingClassifier(**boost, init=self.one_of(None, "zero")),
                lambda: GradientBoostingClassifier(**boost, loss="exponential" if two else "log_loss"),
                lambda: HistGradientBoostingClassifier(**hist),
                lambda: LogisticRegression(C=self.one_of(0.1, 1.0, 10.0), fit_intercept=self.chance(0.8), max_iter=200),
                lambda: RidgeClassifier(),
                lambda: SGDClassifier(loss=self.one_of("hinge", "log_loss", "modified_huber"), **seed),
                lambda: Perceptron(**seed),
                lambda: GaussianNB(),
                lambda: BernoulliNB(binarize=self.one_of(0.0, 0.4)),
                lambda: make_pipeline(MinMaxScaler(clip=True), MultinomialNB()),
                lambda: MLPClassifier(**net),
                lambda: GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0]}, cv=2),
            ]
            if self.kind in ("two", "bools"):
                makers.append(lambda: FixedThresholdClassifier(LogisticRegression(), threshold=0.35))
        else:
            loss = self.one_of("squared_error", "absolute_error", "huber", "quantile")
            makers = [
                lambda: DecisionTreeRegressor(**tree),
                lambda: RandomForestRegressor(**forest),
                lambda: ExtraTreesRegressor(**forest),
                lambda: GradientBoostingRegressor(loss=loss, **boost),
                lambda: HistGradientBoostingRegressor(**hist),
                lambda: LinearRegression(),
                lambda: Ridge(alpha=self.one_of(0.1, 1.0)),
                lambda: Lasso(alpha=0.05),
                lambda: ElasticNet(alpha=0.05),
                lambda: SGDRegressor(**seed),
                lambda: MLPRegressor(**net),
            ]
            if self.kind != "number":
                makers.append(lambda: PoissonRegressor())
                makers.append(lambda: HistGradientBoostingRegressor(loss="poisson", **hist))
        return self.random.choice(makers)()

    def pipeline(self, frame):
        model = self.model()
        tolerant = isinstance(model, TOLERANT)
        steps = self.preparation(frame, tolerant)
        middle = self.middle() if not (tolerant and self.holes) else []
        if isinstance(model, (SGDClassifier, SGDRegressor, MLPClassifier, MLPRegressor)):
            # Without a scale these diverge.
            middle = middle + [StandardScaler(with_mean=False)]
        if self.chance(0.1):
            middle = ["passthrough", *middle]
        if not self.texts and self.chance(0.2) and not self.holes:
            middle = [*middle, PCA(1, whiten=self.chance(0.5))]
        if self.chance(0.08):
            middle = [*middle, Binarizer(threshold=0.2)]
        return Pipeline([(f"step {at}", step) for at, step in enumerate([*steps, *middle, model])])


def sorted_out(model, data):
    """Moves rows that the model refuses out of the test rows."""
    accepted = []
    for at in range(len(data.test)):
        row = data.test.iloc[[at]]
        if is_refused(model, data, row):
            data.refused.append(cells(row)[0])
        else:
            accepted.append(at)
    data.test = data.test.iloc[accepted].reset_index(drop=True)
    return len(accepted) >= 5


def is_finite(outputs):
    for output in outputs.values():
        for number in output.get("decimal", []):
            if not isinstance(number, float) or abs(number) > 1e8:
                return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--count", type=int, default=60)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    warnings.simplefilter("ignore")
    began = time.monotonic()
    written = draws = 0
    while written < given.count:
        draws += 1
        draw = Draw(given.seed * 100_000 + draws)
        data = draw.data()
        model = draw.pipeline(data.train)
        try:
            model.fit(data.given(data.train), data.target)
            if not sorted_out(model, data) or not is_finite(answers(model, data, data.test)):
                continue
        except (ValueError, TypeError):
            # Not every combination can be trained.
            continue
        file = FILES[written % len(FILES)]
        folder = given.folder / f"case_{written:02}"
        write_case(folder, model, data, files=[file])
        written += 1
    print(f"{written} cases of {draws} draws in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
