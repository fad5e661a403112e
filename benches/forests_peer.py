"""Times the library that a model file belongs to: its name, rows a second in batches of 4,096, and the
median time of a single row in microseconds. One thread, float32 rows that are there."""

import sys
import time

import numpy

path = sys.argv[1]
rows = (numpy.random.default_rng(42).random((4096, 30)) * 4 - 2).astype(numpy.float32)

with open(path, "rb") as file:
    is_xgboost = file.read(1) == b"{"

if is_xgboost:
    import xgboost

    name = "xgboost"
    booster = xgboost.Booster()
    booster.load_model(path)
    booster.set_param({"nthread": 1})
    predict = booster.inplace_predict
else:
    import lightgbm

    name = "lightgbm"
    booster = lightgbm.Booster(model_file=path)
    rows = rows.astype(numpy.float64)

    def predict(rows):
        return booster.predict(rows, num_threads=1)


predict(rows)
count, began = 0, time.perf_counter()
while time.perf_counter() - began < 2:
    predict(rows)
    count += len(rows)
rate = count / (time.perf_counter() - began)

times = []
for row in range(2000):
    one = rows[row : row + 1]
    began = time.perf_counter()
    predict(one)
    times.append(time.perf_counter() - began)
times.sort()
print(name, rate, times[len(times) // 2] * 1e6)
