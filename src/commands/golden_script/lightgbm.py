"""Writes golden rows for lanekeeper: python3 golden.py MODEL ROWS.csv > golden.json

MODEL is a file of Booster.save_model. ROWS.csv has a header with the model's features and some typical
rows; the first 32 are used.
"""

import json
import re
import sys

import lightgbm
import numpy
import pandas

model, table = sys.argv[1:]
booster = lightgbm.Booster(model_file=model)
rows = pandas.read_csv(table, nrows=32)[booster.feature_name()]
data = rows.copy()
categorical = re.search(r"\[categorical_feature: ([0-9,]+)\]", booster.model_to_string())
if categorical and booster.pandas_categorical:
    for place, values in zip(categorical.group(1).split(","), booster.pandas_categorical):
        name = data.columns[int(place)]
        data[name] = pandas.Categorical(data[name], categories=values)


def predict(raw):
    answers = booster.predict(data, raw_score=raw, num_threads=1)
    return numpy.asarray(answers, dtype=">f8").reshape(len(rows), -1)


plain = rows.astype(object).where(rows.notna(), None).values.tolist()
json.dump(
    {
        "format": "lanekeeper-golden",
        "library": "lightgbm " + lightgbm.__version__,
        "rows": plain,
        "margins": ["f8:" + row.tobytes().hex() for row in predict(True)],
        "answers": ["f8:" + row.tobytes().hex() for row in predict(False)],
    },
    sys.stdout,
)
