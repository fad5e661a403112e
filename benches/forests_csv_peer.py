"""Predicts a table with pandas and xgboost, from CSV to CSV on all cores.

python3 forests_csv_peer.py MODEL TABLE OUT: prints the seconds that it took without the imports.
"""

import os
import sys
import time

import numpy
import pandas
import xgboost

model, table, out = sys.argv[1:]
began = time.perf_counter()
rows = pandas.read_csv(table)
booster = xgboost.Booster()
booster.load_model(model)
booster.set_param({"nthread": os.cpu_count()})
answers = booster.inplace_predict(rows.to_numpy(dtype=numpy.float32))
pandas.DataFrame({"prediction": answers}).to_csv(out, index=False)
print(time.perf_counter() - began)
