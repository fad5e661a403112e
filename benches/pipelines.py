"""Trains pipelines, times scikit-learn and onnxruntime, and leaves the files for the other side.

python3 pipelines.py FOLDER: model files and FOLDER/NAME.json with rows, and on stdout a line for each: name, file,
contender, rows a second in batches, microseconds for one row. Without skl2onnx and onnxruntime there is no ONNX.
Their times are those of their Python interfaces, on one thread.
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


def write_rows(name, rows):
    values = rows.astype(object).where(rows.notna(), None).values.tolist()
    with open(os.path.join(folder, name + ".json"), "w") as file:
        json.dump({"columns": list(rows), "rows": values}, file)


def told(name, file, contender, call, many, one):
    batches = timed(lambda: call(many), BATCH)
    single = 1e6 / timed(lambda: call(one), 1)
    print(f"{name}\t{file}\t{contender}\t{batches:.0f}\t{single:.2f}", flush=True)


def with_onnx(name, model, types, given, one):
    """Exports a model, and times onnxruntime."""
    try:
        import onnxruntime
        from skl2onnx import to_onnx
    except ImportError as error:
        print(f"no ONNX: {error}", file=sys.stderr)
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    graph = to_onnx(model, initial_types=types, options={id(model[-1]): {"zipmap": False}}, target_opset=18)
    file = name + ".onnx"
    with open(os.path.join(folder, file), "wb") as out:
        out.write(graph.SerializeToString())
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    told(name, file, f"onnxruntime {onnxruntime.__version__}", lambda rows: session.run(None, rows), given, one)


def columns_of(rows):
    columns = {name: rows[[name]].to_numpy(dtype=numpy.float32) for name in numbers}
    return columns | {name: rows[[name]].to_numpy(dtype=object) for name in texts}


def column_types():
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = [(name, FloatTensorType([None, 1])) for name in numbers]
    return kinds + [(name, StringTensorType([None, 1])) for name in texts]


models = {
    "logistic regression": LogisticRegression(max_iter=500),
    "forest of 100 trees": RandomForestClassifier(100, max_depth=10, n_jobs=1, random_state=1),
}
one = table.iloc[:1]
print(f"scikit-learn {sklearn.__version__}", file=sys.stderr)
for name, last in models.items():
    model = prepared(last).fit(table, target)
    write_rows(name, table)
    joblib.dump(model, os.path.join(folder, name + ".joblib"))
    told(name, name + ".joblib", "scikit-learn", model.predict_proba, table, one)
    try:
        types = column_types()
    except ImportError:
        types = None
    with_onnx(name, model, types, columns_of(table), columns_of(one))

plain = table[numbers].fillna(0).astype(numpy.float32)
for name, last in models.items():
    name = name + ", numbers alone"
    model = make_pipeline(StandardScaler(), last).fit(plain, target)
    write_rows(name, plain)
    try:
        from skl2onnx.common.data_types import FloatTensorType

        types = [("X", FloatTensorType([None, len(numbers)]))]
    except ImportError:
        continue
    with_onnx(name, model, types, {"X": plain.to_numpy()}, {"X": plain.iloc[:1].to_numpy()})
