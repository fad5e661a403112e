"""Cross-validated scores beside scikit-learn's, for the same algorithm on the same data.

    python3 benches/scores.py target/release/lanekeeper

Writes some of scikit-learn's data as CSV, has both sides score each algorithm on
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
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEEDS = range(1, 6)
FOLDS = 5


def scaled(model):
    return make_pipeline(StandardScaler(), model)


# Data set, algorithm, parameters of ours, and scikit-learn's for a seed.
CASES = [
    *((data, "boosted-trees-classifier", [], lambda s: HistGradientBoostingClassifier(random_state=s))
      for data in ("iris", "wine", "breast_cancer", "digits")),
    *((data, "random-forest-classifier", [], lambda s: RandomForestClassifier(random_state=s))
      for data in ("iris", "wine", "breast_cancer", "digits")),
    *((data, "logistic-regression", [], lambda s: scaled(LogisticRegression(max_iter=2000)))
      for data in ("iris", "wine", "breast_cancer", "digits")),
    ("digits", "knn-classifier", [], lambda s: scaled(KNeighborsClassifier())),
    ("diabetes", "boosted-trees-regressor", [],
     lambda s: HistGradientBoostingRegressor(random_state=s)),
    ("diabetes", "random-forest-regressor", [], lambda s: RandomForestRegressor(random_state=s)),
    ("diabetes", "linear-regression", [], lambda s: LinearRegression()),
    ("diabetes", "ridge-regression", [], lambda s: scaled(Ridge(1.0))),
    ("diabetes", "knn-regressor", [], lambda s: scaled(KNeighborsRegressor())),
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
    # All columns, whatever they look like; scikit-learn does not know either.
    with path.open() as file:
        names = file.readline().strip().split(",")[:-1]
    command += ["--features", ",".join(names)]
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
    data = {
        "iris": load_iris(),
        "wine": load_wine(),
        "breast_cancer": load_breast_cancer(),
        "digits": load_digits(),
        "diabetes": load_diabetes(),
    }
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
