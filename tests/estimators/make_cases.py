"""Writes tables, and what scikit-learn answers on them, for tests/it/estimators.rs.

    python3 tests/estimators/make_cases.py tests/data/estimators

The tables are uncentred, unscaled, sparse, imbalanced and have a constant column. One JSON file a table
holds for each algorithm the answers to the table's own rows: probabilities of the classes, or numbers.
Columns are scaled where lanekeeper scales them.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import sklearn
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

TIGHT = {"tol": 1e-12, "max_iter": 200_000}


def scaled(model):
    return make_pipeline(StandardScaler(), model)


REGRESSORS = {
    # By default it drops columns of small numbers.
    "linear-regression": ({}, LinearRegression(tol=1e-12)),
    "ridge-regression": ({}, scaled(Ridge(1.0))),
    "ridge-regression alpha=100": ({"alpha": 100}, scaled(Ridge(100.0))),
    "lasso": ({"alpha": 0.1}, scaled(Lasso(0.1, **TIGHT))),
    "elastic-net": ({}, scaled(ElasticNet(**TIGHT))),
    "knn-regressor": ({"n_neighbors": 3}, scaled(KNeighborsRegressor(3))),
    "knn-regressor by distance": (
        {"weights": "distance", "metric": "manhattan"},
        scaled(KNeighborsRegressor(5, weights="distance", metric="manhattan"))),
    "decision-tree-regressor": ({}, DecisionTreeRegressor(random_state=0)),
    "decision-tree-regressor max_depth=3": (
        {"max_depth": 3}, DecisionTreeRegressor(max_depth=3, random_state=0)),
}

CLASSIFIERS = {
    "logistic-regression": ({}, scaled(LogisticRegression(tol=1e-10, max_iter=100_000))),
    "logistic-regression C=0.01": (
        {"C": 0.01}, scaled(LogisticRegression(C=0.01, tol=1e-10, max_iter=100_000))),
    "logistic-regression balanced": (
        {"--class-weight": "balanced"},
        scaled(LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=100_000))),
    "knn-classifier": ({}, scaled(KNeighborsClassifier())),
    "decision-tree-classifier": ({}, DecisionTreeClassifier(random_state=0)),
    "decision-tree-classifier max_depth=3": (
        {"max_depth": 3}, DecisionTreeClassifier(max_depth=3, random_state=0)),
}


def table(name, random):
    """A table's columns, its classes and its numbers. No two sums are equal, so splits have no ties."""
    rows = 150
    columns = random.normal(size=(rows, 5))
    if name == "uncentred":
        columns = columns + [1000, -50, 3, 1e4, 0]
    elif name == "unscaled":
        columns = columns * [1e6, 1e-4, 1, 10, 1e3]
    elif name == "sparse":
        columns = np.where(random.random(columns.shape) < 0.8, 0, columns)
    elif name == "constant":
        columns[:, 2] = 7.25
    signal = (columns - columns.mean(0)) / np.where(columns.std(0) == 0, 1, columns.std(0))
    score = signal @ [2, -1, 0.5, 0.3, 0] + 0.7 * random.normal(size=rows)
    edges = np.quantile(score, [0.9, 0.97] if name == "imbalanced" else [0.4, 0.7])
    return columns, np.digitize(score, edges), 1000 + 10 * score


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for place, name in enumerate(["uncentred", "unscaled", "sparse", "imbalanced", "constant"]):
        columns, classes, numbers = table(name, np.random.default_rng(place))
        labels = np.array(["low", "middle", "top"])[classes]
        lines = ["a,b,c,d,e,kind,amount"]
        for row, label, number in zip(columns, labels, numbers):
            cells = [repr(float(value)) for value in row]
            lines.append(",".join([*cells, label, repr(float(number))]))
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        used = columns if name != "constant" else np.delete(columns, 2, 1)
        cases = []
        for algorithm, (parameters, model) in REGRESSORS.items():
            answers = model.fit(used, numbers).predict(used)
            cases.append((algorithm, parameters, answers.tolist()))
        for algorithm, (parameters, model) in CLASSIFIERS.items():
            answers = model.fit(used, labels).predict_proba(used)
            cases.append((algorithm, parameters, answers.ravel().tolist()))
        cases = [
            {
                "algorithm": algorithm.split(" ")[0],
                "parameters": {name: str(value) for name, value in parameters.items()},
                "answers": [float(f"{answer:.12g}") for answer in answers],
            }
            for algorithm, parameters, answers in cases
            # A third of the rows is nothing but zeros: which of them are nearest is anybody's choice.
            if not (name == "sparse" and algorithm.startswith("knn"))
        ]
        document = {"scikit-learn": sklearn.__version__, "cases": cases}
        (folder / f"{name}.json").write_text(json.dumps(document) + "\n")


main()
