"""Times other engines on a model file: the library that it belongs to, onnxruntime and tl2cgen.

python3 forests_peer.py FILE FOLDER: a line for each engine that is installed, with its name, rows a second in batches
of 4,096 and the median time of a single row in microseconds. One thread, float32 rows without missing values.
tl2cgen's code is built by gcc -O3 and called from C. The others are called from Python. What takes minutes to build is
left out.
"""

import ctypes
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy

BATCH = 4096
FEATURES = 30
SINGLES = 2000
WINDOW = 2.0

path, folder = Path(sys.argv[1]), Path(sys.argv[2])
rows = (numpy.random.default_rng(42).random((BATCH, FEATURES)) * 4 - 2).astype(numpy.float32)
is_xgboost = path.read_bytes()[:1] == b"{"


def rate(predict):
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < WINDOW:
        predict()
        count += BATCH
    return count / (time.perf_counter() - began)


def median(times):
    return sorted(times)[len(times) // 2] * 1e6


def report(name, predict, rows, expected=None):
    """Times a function that takes a matrix of rows. It must compute what is expected."""
    answers = numpy.asarray(predict(rows)).ravel()
    if expected is not None:
        check(name, expected, answers)
    times = []
    for row in range(SINGLES):
        one = rows[row : row + 1]
        began = time.perf_counter()
        predict(one)
        times.append(time.perf_counter() - began)
    print(name, rate(lambda: predict(rows)), median(times), flush=True)
    return answers


def library():
    if is_xgboost:
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(path)
        booster.set_param({"nthread": 1})
        return booster, report("xgboost", booster.inplace_predict, rows)
    import lightgbm

    booster = lightgbm.Booster(model_file=path)
    wide = rows.astype(numpy.float64)
    return booster, report("lightgbm", lambda rows: booster.predict(rows, num_threads=1), wide)


def onnxruntime(booster, expected):
    import onnxmltools
    import onnxruntime
    from onnxmltools.convert.common.data_types import FloatTensorType

    if path.stat().st_size > ONNX_MOST_BYTES:
        raise ValueError("the model is too large for onnxmltools")
    convert = onnxmltools.convert_xgboost if is_xgboost else onnxmltools.convert_lightgbm
    model = convert(booster, initial_types=[("input", FloatTensorType([None, FEATURES]))])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    report("onnxruntime", lambda rows: session.run(None, {"input": rows})[0], rows, expected)


# Calls the generated function with one row, and with all.
DRIVER = """
#include <time.h>
#include "header.h"
static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}
static void one_row(union Entry* entries, OUT* out) {
  *out = 0;  // the generated function adds to it
  predict(entries, 0, out);
}
void all_rows(union Entry* entries, OUT* out, int rows, int columns) {
  for (int row = 0; row < rows; row += 1) one_row(entries + (long)row * columns, out + row);
}
void single_rows(union Entry* entries, OUT* out, int rows, int columns, double* times) {
  for (int row = 0; row < rows; row += 1) {
    double began = now();
    one_row(entries + (long)row * columns, out + row);
    times[row] = now() - began;
  }
}
"""

# Larger models take gcc, and onnxmltools, minutes.
TL2CGEN_MOST_BYTES = 5_000_000
ONNX_MOST_BYTES = 40_000_000


def tl2cgen(expected):
    import tl2cgen
    import treelite

    if path.stat().st_size > TL2CGEN_MOST_BYTES:
        raise ValueError("the model is too large for tl2cgen and gcc")
    if is_xgboost:
        model = treelite.frontend.load_xgboost_model(path)
    else:
        model = treelite.frontend.load_lightgbm_model(path)
    code = folder / "tl2cgen"
    shutil.rmtree(code, ignore_errors=True)
    tl2cgen.generate_c_code(model, code, {"parallel_comp": 16})
    kind = numpy.float32 if is_xgboost else numpy.float64
    (code / "driver.c").write_text(DRIVER.replace("OUT", "float" if is_xgboost else "double"))
    built = code / "model.so"
    sources = sorted(code.glob("*.c"))
    subprocess.run(["gcc", "-O3", "-shared", "-fPIC", "-o", built, *sources, "-lm"], check=True)
    functions = ctypes.CDLL(built)
    # An entry is a union of an int and the model's type of threshold.
    entries = numpy.ascontiguousarray(rows.astype(kind))
    out = numpy.zeros(BATCH, kind)
    times = numpy.zeros(SINGLES)
    arguments = [array.ctypes.data_as(ctypes.c_void_p) for array in (entries, out, times)]
    functions.single_rows(*arguments[:2], SINGLES, FEATURES, arguments[2])
    speed = rate(lambda: functions.all_rows(*arguments[:2], BATCH, FEATURES))
    check("tl2cgen", expected, out)
    print("tl2cgen", speed, median(times.tolist()), flush=True)


def check(name, expected, answers):
    """Holds that an engine computes the same model. Not every engine has the library's bits."""
    difference = float(numpy.max(numpy.abs(expected - answers)))
    if not difference < 1e-3:
        raise ValueError(f"{name} computes something else: {difference}")


booster, expected = library()
for peer in (lambda: onnxruntime(booster, expected), lambda: tl2cgen(expected)):
    try:
        peer()
    except (ImportError, ValueError) as error:
        print(f"not measured: {error}", file=sys.stderr)
