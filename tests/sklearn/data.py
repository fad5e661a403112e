"""Seeded tables that the cases are trained on and that their rows come from."""

import math

import numpy as np
import pandas as pd
from write_case import Data

TRAIN = 90
TEST = 20
CITIES = ["Berlin", "Köln", "Lagos", "Paris", "Rome", "São Paulo"]


def target_of(kind, score, random):
    """Labels or numbers that depend on a score with mean near 0."""
    noisy = np.asarray(score) + random.normal(0, 0.3, len(score))
    two = (noisy > 0).astype(int)
    three = np.digitize(noisy, [-0.5, 0.6])
    kinds = {
        "two": lambda: two,
        "three": lambda: three,
        "bools": lambda: two.astype(bool),
        "two words": lambda: np.array(["no", "yes"], dtype=object)[two],
        "three words": lambda: np.array(["mid", "low", "tall"], dtype=object)[three],
        "far integers": lambda: np.array([1000, -7, 3])[three],
        "number": lambda: noisy.round(3),
        "positive": lambda: np.exp(noisy).round(3) + 0.01,
        "count": lambda: np.floor(np.exp(noisy)),
        "two numbers": lambda: np.stack([noisy.round(3), (noisy**2).round(3)], axis=1),
        "one column": lambda: noisy.round(3).reshape(-1, 1),
        "ranks": lambda: three,
        "unicode": lambda: np.array(["mid", "low", "tallest"])[three],
        "uint8": lambda: two.astype(np.uint8) * 255,
        "floats": lambda: two * 3.0 - 1.0,
        "one class": lambda: two * 0 + 7,
    }
    return kinds[kind]()


def split(frame, kind, score, random, test_missing=None, **options):
    score = (score - score.mean()) / score.std()
    target = target_of(kind, score, random)
    train = frame.iloc[:TRAIN].reset_index(drop=True)
    test = frame.iloc[TRAIN:].reset_index(drop=True)
    return Data(train, target[:TRAIN], test, **options)


def numbers(kind, missing=False, positive=False, counts=False, named=False, seed=1, fit=None):
    """Four columns of numbers; by default an array without names."""
    random = np.random.default_rng(seed)
    size = TRAIN + TEST
    frame = pd.DataFrame(
        {
            "f0": random.normal(0, 1, size).round(3),
            "f1": random.normal(2, 5, size).round(2),
            "f2": random.integers(0, 6, size).astype(float),
            "f3": random.lognormal(0, 1, size).round(3),
        }
    )
    score = frame.f0 + 0.3 * frame.f1 - 0.5 * frame.f2 + np.log(frame.f3) * frame.f0
    if positive or counts:
        frame = frame.abs()
    if counts:
        frame = frame.round()
    if missing:
        holes = random.random(frame.shape) < 0.15
        frame = frame.mask(holes)
    return split(frame, kind, score, random, named=named, fit=fit or {})


def edges(kind):
    """Few values in training, so that thresholds lie between them; rows on and beside thresholds."""
    random = np.random.default_rng(5)
    train = np.stack([random.choice([-1.0, 0.0, 0.1, 0.3, 1e30], TRAIN) for _ in range(3)], axis=1)
    train[:, 2] = random.choice([16777216.0, 16777217.0, 16777218.0, 33554432.0], TRAIN)
    score = train[:, 0].clip(-1, 1) + train[:, 1].clip(-1, 1) - (train[:, 2] > 2e7)
    target = target_of(kind, score - score.mean(), random)
    near = [-1.0, -0.5, -0.0, 0.0, 0.05, 0.1, 0.2, 0.3, np.float64(np.float32(0.1))]
    near += [math.nextafter(0.2, 1), math.nextafter(0.05, 0), 0.050000000745058, 5e29, 1e30]
    near += [1e-45, 1e-46, -1e-46, 3.4e38, 0.2000000030, 0.04999999888241291]
    third = [16777216.0, 16777217.0, 16777217.5, 16777219.0, 25165824.0, 25165825.0, 25165823.0]
    rows = [[near[at], near[-at - 1], third[at % len(third)]] for at in range(TEST)]
    columns = ["f0", "f1", "f2"]
    frames = [pd.DataFrame(values, columns=columns) for values in (train, rows)]
    return Data(frames[0], target, frames[1], named=False)


def people(kind, missing=(), text_missing=math.nan, text=object, category=False, seed=2, fit=None):
    """A data frame with numbers, text, whole numbers and booleans.

    `missing` names the columns with holes.
    """
    random = np.random.default_rng(seed)
    size = TRAIN + TEST
    city = random.choice(CITIES, size, p=[0.35, 0.25, 0.2, 0.1, 0.06, 0.04])
    sex = random.choice(["f", "m"], size)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 12, size).round(1),
            "income": random.lognormal(1, 0.6, size).round(3),
            "city": pd.Series(city, dtype=object),
            "sex": pd.Series(sex, dtype=object),
            "rooms": random.integers(1, 6, size),
            "member": random.random(size) < 0.4,
        }
    )
    bonus = pd.Series(city).map(dict(zip(CITIES, [0.0, 1.2, -0.9, 0.4, 2.0, -2.0])))
    score = 0.05 * frame.age + frame.income * 0.4 + bonus + (frame.sex == "f") + frame.member * 1.0
    for column in missing:
        holes = random.random(size) < 0.15
        if frame[column].dtype == object:
            frame.loc[holes, column] = text_missing
        else:
            frame[column] = frame[column].astype(float).mask(holes)
    for column in ("city", "sex"):
        if category:
            frame[column] = frame[column].astype("category")
        elif text is not object:
            frame[column] = frame[column].astype(text)
    return split(
        frame, kind, score, random, named=True, missing_text=text_missing, fit=fit or {}
    )


def codes(kind, missing=False):
    """Numbers of which the last two columns are categories, as codes."""
    data = numbers(kind, missing=missing, seed=7)
    random = np.random.default_rng(8)
    for frame in (data.train, data.test):
        code = random.choice([0.0, 1.0, 2.0, 5.0, 9.0], len(frame))
        code = np.where(random.random(len(frame)) < 0.1, np.nan, code) if missing else code
        frame["f3"] = code
    return data


def words(kind):
    """Two columns of text as an array without names."""
    data = people(kind)
    return Data(data.train[["city", "sex"]], data.target, data.test[["city", "sex"]], named=False)


def repeats(kind, value):
    """Numbers in which `value` stands for missing."""
    data = numbers(kind, missing=True)
    data.train = data.train.fillna(value)
    data.test = data.test.fillna(value)
    return data


def constant(kind):
    """Numbers with a constant column and a column that is always missing."""
    data = numbers(kind)
    for frame in (data.train, data.test):
        frame["f2"] = 3.5
    return data


def hollow(kind):
    """Numbers with a column that was always missing in training."""
    data = numbers(kind, missing=True)
    data.train["f1"] = np.nan
    return data


def wide(kind):
    """Rows far outside what was seen in training."""
    data = numbers(kind)
    data.test = data.test * 10
    return data
