"""Writes golden rows for lanekeeper: python3 golden.py MODEL ROWS.csv > golden.json

MODEL is a file of Booster.save_model. ROWS.csv has a header with the model's features and some typical
rows; the first 32 are used. A model without feature names takes the columns in their order.
"""

import json
import sys

import numpy
import pandas
import xgboost

model, table = sys.argv[1:]
booster = xgboost.Booster({"nthread": 1})
booster.load_model(model)
rows = pandas.read_csv(table, nrows=32)
if booster.feature_names:
    rows = rows[booster.feature_names]
data = rows.copy()
document = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
trees = document.get("gbtree", document).get("model", {})
for place, names in enumerate(trees.get("cats", {}).get("enc", [])):
    values = names["values"]
    if "offsets" in names:
        text = bytes(value % 256 for value in values)
        ends = names["offsets"]
        values = [text[start:end].decode() for start, end in zip(ends, ends[1:])]
    if values:
        name = data.columns[place]
        values = pandas.Index(values, dtype=object) if "offsets" in names else values
        data[name] = pandas.Categorical(data[name].astype(object), categories=values)
data = xgboost.DMatrix(
    data if booster.feature_names else data.to_numpy(), enable_categorical=True
)
# A file of scikit-learn's wrapper counts only the trees up to the best iteration, if there is one.
best = booster.attr("scikit_learn") and booster.attr("best_iteration")
trees = {"iteration_range": (0, int(best) + 1 if best else 0)}
margins = numpy.asarray(booster.predict(data, output_margin=True, **trees), dtype=">f4")
answers = numpy.asarray(booster.predict(data, **trees), dtype=">f4")
plain = rows.astype(object).where(rows.notna(), None).values.tolist()
json.dump(
    {
        "format": "lanekeeper-golden",
        "library": "xgboost " + xgboost.__version__,
        "rows": plain,
        "margins": ["f4:" + row.tobytes().hex() for row in margins.reshape(len(rows), -1)],
        "answers": ["f4:" + row.tobytes().hex() for row in answers.reshape(len(rows), -1)],
    },
    sys.stdout,
)
