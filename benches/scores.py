"""Cross-validated scores beside scikit-learn's, for the same algorithm on the same data.

    python3 benches/scores.py target/release/lanekeeper

Writes scikit-learn's iris, digits and diabetes data as CSV, has both sides score each algorithm on
five shuffled folds (stratified for classifiers) for each of five seeds, and prints a Markdown table of
means and standard deviations over the seeds. Parameters are set alike where the defaults differ.
"""

import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import sklearn
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

SEEDS = range(1, 6)
FOLDS = 5

# Data set, algorithm, parameters of ours, and scikit-learn's for a seed.
CASES = [
    ("iris", "random-forest-classifier", [], lambda s: RandomForestClassifier(random_state=s)),
    ("iris", "decision-tree-classifier", [], lambda s: DecisionTreeClassifier(random_state=s)),
    ("iris", "knn-classifier", [], lambda s: KNeighborsClassifier(3)),
    ("iris", "logistic-regression", ["alpha=1"], lambda s: LogisticRegression(max_iter=2000)),
    ("iris", "gaussian-naive-bayes", [], lambda s: GaussianNB()),
    ("digits", "random-forest-classifier", [], lambda s: RandomForestClassifier(random_state=s)),
    ("digits", "decision-tree-classifier", [], lambda s: DecisionTreeClassifier(random_state=s)),
    ("digits", "knn-classifier", [], lambda s: KNeighborsClassifier(3)),
    ("digits", "multinomial-naive-bayes", [], lambda s: MultinomialNB()),
    ("digits", "bernoulli-naive-bayes", ["binarize=8"], lambda s: BernoulliNB(binarize=8)),
    ("digits", "categorical-naive-bayes", [], lambda s: CategoricalNB(min_categories=17)),
    ("diabetes", "random-forest-regressor", ["n_trees=100", "m=10"],
     lambda s: RandomForestRegressor(random_state=s)),
    ("diabetes", "extra-trees-regressor", ["n_trees=100", "m=10"],
     lambda s: ExtraTreesRegressor(random_state=s)),
    ("diabetes", "decision-tree-regressor", [], lambda s: DecisionTreeRegressor(random_state=s)),
    ("diabetes", "xgb-regressor", ["n_estimators=100", "max_depth=3", "learning_rate=0.1"],
     lambda s: GradientBoostingRegressor(random_state=s)),
    ("diabetes", "knn-regressor", [], lambda s: KNeighborsRegressor(3)),
    ("diabetes", "linear-regression", [], lambda s: LinearRegression()),
    # Without normalize, smartcore's ridge regression has no intercept.
    ("diabetes", "ridge-regression", ["alpha=1"],
     lambda s: make_pipeline(StandardScaler(), Ridge(1.0))),
    ("diabetes", "lasso", ["alpha=0.1", "normalize=false"], lambda s: Lasso(0.1)),
    ("diabetes", "elastic-net", ["alpha=0.001", "normalize=false"], lambda s: ElasticNet(0.001)),
]


def write(folder, name, data):
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([f"f{i}" for i in range(data.data.shape[1])] + ["target"])
        for row, target in zip(data.data.tolist(), data.target.tolist()):
            rows.writerow(row + [target])
    return path


def ours(binary, folder, path, algorithm, parameters, seed):
    out = folder / "model.json"
    command = [binary, "train", "--algorithm", algorithm, "--data", path, "--target", "target",
               "--out", out, "--folds", str(FOLDS), "--seed", str(seed)]
    for parameter in parameters:
        command += ["--param", parameter]
    subprocess.run(command, check=True, capture_output=True)
    scores = json.loads(out.read_text())["scores"]
    return scores.get("accuracy", scores.get("r2"))


def theirs(model, data, seed):
    classifies = hasattr(model, "predict_proba")
    folds = (StratifiedKFold if classifies else KFold)(FOLDS, shuffle=True, random_state=seed)
    scoring = "accuracy" if classifies else "r2"
    return cross_val_score(model, data.data, data.target, cv=folds, scoring=scoring).mean()


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    data = {"iris": load_iris(), "digits": load_digits(), "diabetes": load_diabetes()}
    print(f"scikit-learn {sklearn.__version__}, seeds {SEEDS[0]} to {SEEDS[-1]}, {FOLDS} folds\n")
    print("| data | algorithm | lanekeeper | scikit-learn |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        paths = {name: write(folder, name, table) for name, table in data.items()}
        for table, algorithm, parameters, make in CASES:
            a = [ours(binary, folder, paths[table], algorithm, parameters, s) for s in SEEDS]
            b = [theirs(make(s), data[table], s) for s in SEEDS]
            a, b = (f"{statistics.mean(v):.3f} ± {statistics.pstdev(v):.3f}" for v in (a, b))
            print(f"| {table} | `{algorithm}` | {a} | {b} |", flush=True)


main()
