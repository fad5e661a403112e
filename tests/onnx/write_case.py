"""Writes one case: a graph, rows, and onnxruntime's answers to them on one thread.

CASE/ holds `model.onnx`, `rows.json` and `expected.json`. A float is written as its IEEE bits in hex,
big-endian; whole numbers and text as they are. In rows, `null` is missing and `"Infinity"` is infinity.
"""

import json
import math

import numpy as np
import onnxruntime as ort

# By the type of a graph's input.
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


def cell(value):
    """Converts a value to what JSON can hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def written(array):
    """Converts an output."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        size = array.dtype.itemsize
        bits = array.astype(f">f{size}").tobytes().hex()
        bits = [bits[at : at + 2 * size] for at in range(0, len(bits), 2 * size)]
        return {"dtype": str(array.dtype), "shape": list(array.shape), "bits": bits}
    values = array.tolist()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": values}


def zipped(maps):
    """Converts a list of maps, as ZipMap makes them."""
    keys = list(maps[0])
    values = np.array([[one[key] for key in keys] for one in maps], dtype=np.float32)
    return {"zipmap": True, "keys": keys, "values": written(values)}


def inputs_of(session, columns):
    """Splits columns, a list of lists, among the graph's inputs."""
    given, start = {}, 0
    for one in session.get_inputs():
        width = one.shape[1] if len(one.shape) > 1 else 1
        own = columns[start : start + width]
        array = np.array(own, dtype=TYPES[one.type]).T
        given[one.name] = array if len(one.shape) > 1 else array[:, 0]
        start += width
    return given


def write_case(folder, model, columns):
    """Writes a case, and returns whether onnxruntime takes the graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers = session.run(None, inputs_of(session, columns))
    outputs = {}
    for one, answer in zip(session.get_outputs(), answers, strict=True):
        is_map = isinstance(answer, list) and isinstance(answer[0], dict)
        outputs[one.name] = zipped(answer) if is_map else written(answer)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    names = [f"f{place}" for place in range(len(columns))]
    rows = [[cell(value) for value in row] for row in zip(*columns, strict=True)]
    text = json.dumps({"columns": names, "rows": rows})
    (folder / "rows.json").write_text(text)
    (folder / "expected.json").write_text(json.dumps({"outputs": outputs}))
