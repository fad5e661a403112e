"""Trains and predicts with pandas and scikit-learn on tables that benches/train.rs has written.

    train_peer.py train TABLE ALGORITHM     prints CPU seconds of the fit, one thread
    train_peer.py predict TABLE LARGE       trains boosted trees on TABLE, predicts LARGE from CSV to CSV;
                                            the model is kept beside TABLE for the next time
"""

import pathlib
import sys
import time

import joblib
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

BOOSTING = {"max_iter": 100, "early_stopping": False}


def encoded(encoder, model):
    texts = make_column_selector(dtype_exclude="number")
    return make_pipeline(make_column_transformer((encoder, texts), remainder="passthrough"), model)


def boosted(make):
    # The encoder's columns come first.
    return encoded(OrdinalEncoder(), make(categorical_features=list(range(5)), **BOOSTING))


MODELS = {
    "boosted-trees-classifier": lambda: boosted(HistGradientBoostingClassifier),
    "boosted-trees-regressor": lambda: boosted(HistGradientBoostingRegressor),
    "random-forest-classifier": lambda: encoded(TargetEncoder(), RandomForestClassifier(10)),
    "random-forest-regressor": lambda: encoded(
        TargetEncoder(), RandomForestRegressor(5, max_features=7)),
}


def fitted(table, name):
    data = pd.read_csv(table)
    target = "kind" if "classifier" in name else "amount"
    features = data.drop(columns=["kind", "amount"])
    began = time.process_time()
    model = MODELS[name]().fit(features, data[target])
    return model, time.process_time() - began


def main():
    if sys.argv[1] == "train":
        print(fitted(sys.argv[2], sys.argv[3])[1])
        return
    kept = pathlib.Path(sys.argv[2]).with_suffix(".joblib")
    if not kept.exists():
        joblib.dump(fitted(sys.argv[2], "boosted-trees-classifier")[0], kept)
    model = joblib.load(kept)
    data = pd.read_csv(sys.argv[3])
    shares = model.predict_proba(data.drop(columns=["kind", "amount"]))
    answers = pd.DataFrame(shares, columns=[f"probability_{label}" for label in model.classes_])
    answers.insert(0, "prediction", model.classes_[shares.argmax(axis=1)])
    answers.to_csv(sys.stdout, index=False)


main()
