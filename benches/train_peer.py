"""Trains and predicts with scikit-learn on a table that benches/train.rs has written.

Prints for each algorithm its name and the median milliseconds to train and to predict, one thread.
"""

import csv
import statistics
import sys
import time

from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

ROUNDS = 5

CASES = {
    "random-forest-classifier": lambda: RandomForestClassifier(20, random_state=1),
    "random-forest-regressor": lambda: RandomForestRegressor(20, random_state=1),
    "knn-classifier": lambda: KNeighborsClassifier(3),
    "logistic-regression": lambda: LogisticRegression(max_iter=1000),
    "linear-regression": lambda: LinearRegression(),
    "xgb-regressor": lambda: GradientBoostingRegressor(n_estimators=20, random_state=1),
}


def main():
    with open(sys.argv[1], newline="") as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file)]
    features = [row[:-2] for row in rows]
    for name, make in CASES.items():
        classifies = "classifier" in name or "logistic" in name
        targets = [row[-1] if classifies else row[-2] for row in rows]
        trained, predicted = [], []
        for _ in range(ROUNDS):
            model = make()
            began = time.perf_counter()
            model.fit(features, targets)
            trained.append(time.perf_counter() - began)
            began = time.perf_counter()
            model.predict(features)
            predicted.append(time.perf_counter() - began)
        print(name, statistics.median(trained) * 1e3, statistics.median(predicted) * 1e3)


main()
