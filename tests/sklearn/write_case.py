"""Writes one case: a fitted model in several files, rows, and scikit-learn's answers to them.

CASE/ holds `model.pkl`, `model.joblib`, `model.skops`, `rows.json` and `expected.json`. A float is
written as its IEEE bits in hex, big-endian, and as a decimal; whole numbers, booleans and text as
they are. In rows, `null` is missing and `"Infinity"` is infinity. `refused_rows` are rows on which
scikit-learn raises ValueError.
"""

import json
import math
import pickle
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn

METHODS = ["predict", "predict_proba", "decision_function"]
FILES = ["model.pkl", "model.joblib", "model.skops"]

# Estimators of these modules sum through BLAS, whose order of addition differs between machines.
BLAS = ("linear_model", "neural_network", "naive_bayes", "decomposition", "svm")


@dataclass
class Data:
    """What a model is trained on, and the rows it answers."""

    train: pd.DataFrame
    target: Any
    test: pd.DataFrame
    # False: the model sees an array without column names.
    named: bool = True
    # What stands for a missing text in a data frame: NaN, as pandas reads it, or None.
    missing_text: Any = math.nan
    fit: dict = field(default_factory=dict)
    # Rows that the model is known to refuse, as JSON.
    refused: list = field(default_factory=list)

    def given(self, frame):
        """Converts a frame to what the model is called with."""
        return frame if self.named else frame.to_numpy()


def plain(value):
    """Converts a cell to what JSON can hold."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def cells(frame):
    return [[plain(value) for value in row] for row in frame.itertuples(index=False)]


def output(values):
    """One output as JSON."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        numbers = array.ravel()
        text = numbers.astype(numbers.dtype.newbyteorder(">")).tobytes().hex()
        digits = 2 * array.dtype.itemsize
        return {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "bits": [text[at : at + digits] for at in range(0, len(text), digits)],
            "decimal": [plain(number) for number in numbers],
        }
    dtype = array.dtype.name if array.dtype.kind in "iub" else "str"
    items = [plain(value) for value in array.ravel()]
    return {"dtype": dtype, "shape": list(array.shape), "values": items}


def answers(model, data, frame):
    """What every method of the model says to the rows."""
    given = {}
    for method in METHODS:
        if hasattr(model, method):
            given[method] = output(getattr(model, method)(data.given(frame)))
    return given


def is_refused(model, data, frame):
    """Whether there is no answer: an error, or NaN, which linear models give for missing values in sparse tables."""
    try:
        answer = model.predict(data.given(frame))
    except ValueError:
        return True
    return answer.dtype.kind == "f" and bool(np.isnan(answer).any())


def with_cell(data, column, value):
    """The first row with one cell changed, or None if the column cannot hold the value."""
    row = data.test.iloc[[0]].copy()
    dtype = row[column].dtype
    if dtype.name == "category":
        if isinstance(value, str):
            # A category that the training did not have.
            row[column] = pd.Series([value], index=row.index, dtype="category")
        else:
            row[column] = pd.Series([None], index=row.index).astype(dtype)
    elif dtype.kind == "f" and not isinstance(value, str):
        row[column] = np.array([value], dtype=float)
    elif is_text(dtype):
        value = value if isinstance(value, str) else data.missing_text
        row[column] = pd.Series([value], index=row.index, dtype=dtype)
    else:
        return None
    return row


def is_text(dtype):
    return dtype == object or isinstance(dtype, pd.StringDtype)


def probes(data):
    """Rows that a model may or may not accept: (the row, whether to keep it if it is accepted)."""
    for column in data.test.columns:
        dtype = data.test[column].dtype
        values = [(math.nan, True)]
        if is_text(dtype) or dtype.name == "category":
            values.append(("never seen", True))
        elif column == data.test.columns[0]:
            # Trees refuse what float32 cannot hold.
            values += [(math.inf, False), (1e39, False)]
        for value, keep in values:
            row = with_cell(data, column, value)
            if row is not None:
                yield row, keep


def with_probes(model, data):
    """The rows with the accepted probes in place of the last ones, and the refused probes."""
    accepted, refused = [], []
    for row, keep in probes(data):
        if is_refused(model, data, row):
            refused.append(row)
        elif keep:
            accepted.append(row)
    accepted = accepted[: len(data.test) // 2]
    kept = data.test.iloc[: len(data.test) - len(accepted)]
    frame = pd.concat([kept, *accepted], ignore_index=True) if accepted else kept
    for column, dtype in data.test.dtypes.items():
        # An unseen category widens the column's type, as it does for whoever sends it.
        if dtype.name != "category":
            frame[column] = frame[column].astype(dtype)
        elif frame[column].dtype != dtype:
            frame[column] = frame[column].astype(object).astype("category")
    return frame, [cells(row)[0] for row in refused]


def notes_on(model):
    """Says whether the answers may differ in the last bits."""
    found = [model]
    seen = set()
    while found:
        part = found.pop()
        if isinstance(part, (list, tuple)):
            found.extend(part)
        elif hasattr(part, "get_params") and not isinstance(part, type):
            if id(part) in seen:
                continue
            seen.add(id(part))
            modules = type(part).__module__.split(".")
            if any(module in BLAS for module in modules):
                return "BLAS sums: compare with a tolerance"
            found.extend(part.get_params(deep=False).values())
    return ""


def save(model, path, protocol=4, compress=0, zipped=zipfile.ZIP_DEFLATED):
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(model, protocol=protocol))
    elif path.suffix == ".joblib":
        joblib.dump(model, path, compress=compress)
    else:
        from skops import io

        io.dump(model, path, compression=zipped)


def load(path):
    if path.suffix == ".pkl":
        return pickle.loads(path.read_bytes())
    if path.suffix == ".joblib":
        return joblib.load(path)
    from skops import io

    return io.load(path, trusted=io.get_untrusted_types(file=path))


def save_all(model, folder, files, **options):
    """Saves the model in each format that can hold it; returns the names of the files."""
    written = []
    for name in files:
        path = folder / name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save(model, path, **options)
                load(path)
        except Exception as error:
            if path.suffix != ".skops":
                raise
            path.unlink(missing_ok=True)
            print(f"{folder.name}: skops cannot hold it: {type(error).__name__}: {error}"[:200])
            continue
        written.append(name)
    return written


def write_json(path, value):
    path.write_text(json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n")


def same(some, others, is_close_enough):
    """Whether answers are equal; sums through BLAS depend on how arrays lie in memory."""
    if some == others or not is_close_enough or some.keys() != others.keys():
        return some == others
    for output, other in zip(some.values(), others.values()):
        if "decimal" not in output:
            if output != other:
                return False
        elif not np.allclose(output["decimal"], other["decimal"], rtol=1e-9, atol=1e-12):
            return False
    return True


def write_case(folder, model, data, files=FILES, **options):
    """Writes a case of a fitted model, and checks that each file gives the same answers."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = save_all(model, folder, files, **options)
    assert written, f"{folder.name}: no file can hold the model"
    frame, refused = with_probes(model, data)
    outputs = answers(model, data, frame)
    for name in written:
        again = answers(load(folder / name), data, frame)
        assert same(again, outputs, bool(notes_on(model))), f"{folder.name}/{name}: other answers"
    rows = {"columns": [str(column) for column in frame.columns], "rows": cells(frame)}
    if data.refused or refused:
        rows["refused_rows"] = data.refused + refused
    write_json(folder / "rows.json", rows)
    expected = {
        "family": f"scikit-learn {sklearn.__version__}",
        "notes": notes_on(model),
        "models": written,
        "outputs": outputs,
    }
    write_json(folder / "expected.json", expected)


def write_refused(folder, model, refused, files=FILES, **options):
    """Writes a case that must be refused with a text that has `refused` in it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = save_all(model, folder, files, **options)
    family = f"scikit-learn {sklearn.__version__}"
    write_json(folder / "expected.json", {"family": family, "models": written, "refused": refused})
