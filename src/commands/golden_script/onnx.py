"""Writes golden rows for lanekeeper: python3 golden.py model.onnx ROWS.csv > golden.json

ROWS.csv has a header with the model's features and some typical rows; the first 32 are used. A graph with
several inputs takes the columns of their names; one with a single input takes all in their order. Answers are
onnxruntime's on one thread.
"""

import json
import sys

import numpy
import onnxruntime
import pandas

model, table = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
rows = pandas.read_csv(table, nrows=32, keep_default_na=False, na_values=["", "nan", "NaN"])
inputs = session.get_inputs()
if len(inputs) > 1 and {one.name for one in inputs} <= set(rows.columns):
    rows = rows[[one.name for one in inputs]]
types = {
    "tensor(float)": numpy.float32,
    "tensor(double)": numpy.float64,
    "tensor(int64)": numpy.int64,
    "tensor(int32)": numpy.int32,
    "tensor(bool)": numpy.bool_,
    "tensor(string)": object,
}
given, start = {}, 0
for one in inputs:
    width = rows.shape[1] if len(inputs) == 1 else (list(one.shape) + [1])[1]
    columns = list(rows.columns[start : start + width])
    if one.type == "tensor(string)":
        rows[columns] = rows[columns].astype(object).fillna("").astype(str)
    own = rows[columns].to_numpy(dtype=types[one.type])
    given[one.name] = own if len(one.shape) > 1 else own[:, 0]
    start += width


def bits(numbers):
    kind = "f8" if numbers.dtype == numpy.float64 else "f4"
    numbers = numbers.reshape(len(rows), -1).astype(">" + kind)
    return [kind + ":" + row.tobytes().hex() for row in numbers]


golden = {
    "format": "lanekeeper-golden",
    "library": "onnxruntime " + onnxruntime.__version__,
    "rows": rows.astype(object).where(rows.notna(), None).values.tolist(),
}
for answer in session.run(None, given):
    if isinstance(answer, list):
        answer = numpy.array([list(one.values()) for one in answer], dtype=numpy.float32)
    if answer.dtype.kind == "f":
        golden.setdefault("answers", bits(answer))
    elif answer.size == len(rows):
        golden.setdefault("labels", [str(label) for label in answer.reshape(-1)])
json.dump(golden, sys.stdout)
