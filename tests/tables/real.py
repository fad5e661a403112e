"""Writes tables of packages from PyPI as pandas writes them, and scores scikit-learn on them.

    python real.py FOLDER TABLE=TARGET ...

A table is called by its package and name: `ISLP/Auto`. FOLDER gets ISLP-Auto.csv for it and, at last,
scores.json: for each table the mean score of histogram gradient boosting in cross-validation on the rows
that have a target, AUC for classes and R2 for numbers. Nothing is downloaded: the packages have the tables.
"""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path

# Threads that wait for each other take minutes on a machine that is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score

FOLDS = 5

# So few rows are scored on several splits: each says little.
FEW_ROWS = 500
SPLITS_OF_FEW = 4


def load(table):
    package, name = table.split("/")
    if package == "ISLP":
        # Without an import, which needs PyTorch.
        folder = importlib.util.find_spec(package).submodule_search_locations[0]
        return pd.read_csv(Path(folder) / f"data/{name}.csv")
    if package == "palmerpenguins":
        from palmerpenguins import load_penguins

        return load_penguins()
    if package == "statsmodels":
        import statsmodels.datasets

        return getattr(statsmodels.datasets, name).load_pandas().data
    from vega_datasets import local_data

    return getattr(local_data, name)()


def prepared(table, target):
    """The features as three lines of pandas make them."""
    features = table.drop(columns=target)
    for name in list(features):
        column = features[name]
        if pd.api.types.is_numeric_dtype(column):
            continue
        if name.lower() in ("date", "year", "month"):
            moments = pd.to_datetime(column)
            features[name] = moments.astype("int64") / 86_400e9
            features[name + " month"] = moments.dt.month
            features[name + " day"] = moments.dt.day
        elif column.nunique() > 200 or column.nunique() == len(column):
            features = features.drop(columns=name)
        else:
            features[name] = column.astype("category")
    return features


def score(table, target):
    answers = table[target]
    numbers = pd.api.types.is_numeric_dtype(answers)
    is_class = not numbers or (answers.nunique() <= 10 and (answers % 1 == 0).all())
    model = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
    folds = StratifiedKFold if is_class else KFold
    scoring = "r2"
    if is_class:
        scoring = "roc_auc" if answers.nunique() == 2 else "roc_auc_ovr"
    features = prepared(table, target)
    seeds = range(SPLITS_OF_FEW if len(table) < FEW_ROWS else 1)
    scores = [
        cross_val_score(
            model(categorical_features="from_dtype", random_state=seed),
            features,
            answers,
            cv=folds(FOLDS, shuffle=True, random_state=seed),
            scoring=scoring,
        ).mean()
        for seed in seeds
    ]
    return sum(scores) / len(scores)


def main():
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    for argument in dict.fromkeys(sys.argv[2:]):
        name, target = argument.split("=")
        table = load(name)
        path = folder / (name.replace("/", "-") + ".csv")
        table.to_csv(path)
        # As a person reads it who knows which column is the index.
        table = pd.read_csv(path, index_col=0).dropna(subset=target)
        if len(table.columns) > 1:
            scores[name] = score(table, target)
    (folder / "scores.json").write_text(json.dumps(scores))


main()
