"""Trains two pipelines, times scikit-learn's predict_proba, and leaves the files for the other side.

python3 pipelines.py FOLDER: FOLDER/NAME.joblib, FOLDER/rows.json, and on stdout a line for each: name, rows a
second in batches, microseconds for one row.
"""

import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import joblib
import numpy
import pandas
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

BATCH = 4096
WINDOW = 2.0

folder = sys.argv[1]
chance = numpy.random.RandomState(42)
numbers = [f"number{place}" for place in range(10)]
texts = [f"text{place}" for place in range(5)]
table = pandas.DataFrame({name: chance.normal(size=BATCH) for name in numbers})
for name in numbers:
    table.loc[chance.rand(BATCH) < 0.05, name] = numpy.nan
for place, name in enumerate(texts):
    labels = numpy.array([f"label {label}" for label in range(4 + 4 * place)], dtype=object)
    table[name] = labels[chance.randint(len(labels), size=BATCH)]
target = (table[numbers[0]].fillna(0) + (table[texts[0]] == "label 1") + chance.normal(size=BATCH) > 0).astype(int)


def prepared(last):
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
        ]
    )
    return make_pipeline(columns, last)


def timed(call, rows):
    """Calls a second, the best of the window's halves."""
    best = float("inf")
    end = time.perf_counter() + WINDOW
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return rows / best


models = {
    "logistic regression": LogisticRegression(max_iter=500),
    "forest of 100 trees": RandomForestClassifier(100, max_depth=10, n_jobs=1, random_state=1),
}
values = table.astype(object).where(table.notna(), None).values.tolist()
with open(os.path.join(folder, "rows.json"), "w") as file:
    json.dump({"columns": list(table), "rows": values}, file)
one = table.iloc[:1]
print(f"scikit-learn {sklearn.__version__}", file=sys.stderr)
for name, last in models.items():
    model = prepared(last).fit(table, target)
    joblib.dump(model, os.path.join(folder, name + ".joblib"))
    batches = timed(lambda: model.predict_proba(table), BATCH)
    single = 1e6 / timed(lambda: model.predict_proba(one), 1)
    print(f"{name}\t{batches:.0f}\t{single:.2f}", flush=True)
