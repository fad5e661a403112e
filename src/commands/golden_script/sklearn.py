"""Writes golden rows for lanekeeper: python3 golden.py ESTIMATOR ROWS.csv > golden.json

ESTIMATOR is a file of joblib.dump or pickle.dump: of XGBoost's, LightGBM's or CatBoost's wrapper for
scikit-learn, or of scikit-learn itself, pipelines included. ROWS.csv has a header with the model's features
and some typical rows; the first 32 are used. Features must be numbers, except those of a pipeline. A model without feature names takes the columns in
their order. If training stopped early, the wrapper of XGBoost answers with the best iteration: serve its
file with --iterations best.
"""

import importlib
import json
import sys

import joblib
import numpy
import pandas

estimator, table = sys.argv[1:]
estimator = joblib.load(estimator)
rows = pandas.read_csv(table, nrows=32)
names = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
if names and set(names) <= set(rows.columns):
    rows = rows[names]
else:
    names = []
data = rows if names else rows.to_numpy()

library = type(estimator).__module__.split(".")[0]
texts = [name for name in rows if not pandas.api.types.is_numeric_dtype(rows[name])]
if texts and library != "sklearn":
    sys.exit("not numbers: " + ", ".join(texts) + "; use the golden-script of the library itself")
if library == "xgboost":
    margins = estimator.predict(data, output_margin=True)
elif library == "lightgbm":
    margins = estimator.predict(data, raw_score=True)
elif library == "catboost":
    base = importlib.import_module(library).CatBoost
    margins = base.predict(estimator, data, prediction_type="RawFormulaVal")
else:
    margins = None
if hasattr(estimator, "predict_proba"):
    answers = estimator.predict_proba(data)
else:
    answers = estimator.predict(data)
    if len(getattr(estimator, "classes_", [])):
        answers = numpy.searchsorted(estimator.classes_, answers)


def bits(numbers):
    kind = "f4" if library == "xgboost" else "f8"
    numbers = numpy.asarray(numbers, dtype=">" + kind).reshape(len(rows), -1)
    return [kind + ":" + row.tobytes().hex() for row in numbers]


golden = {
    "format": "lanekeeper-golden",
    "library": library + " " + importlib.import_module(library).__version__,
    "rows": rows.astype(object).where(rows.notna(), None).values.tolist(),
    "answers": bits(answers),
}
if margins is not None:
    golden["margins"] = bits(margins)
json.dump(golden, sys.stdout)
