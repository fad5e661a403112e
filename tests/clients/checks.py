"""What the scripts for all clients share: checks, rows, and the answers to compare with.

Python's own library only, since each script runs in an environment of its own.
"""

import contextlib
import json
import random
import sys
import traceback
import urllib.error
import urllib.request

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
CLASSES = ["setosa", "versicolor", "virginica"]

# Some iris flowers, and random ones between them, where the forest's trees disagree.
_random = random.Random(7)
_RANGES = [(4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5)]
ROWS = [
    [5.1, 3.5, 1.4, 0.2],
    [7.0, 3.2, 4.7, 1.4],
    [6.3, 3.3, 6.0, 2.5],
] + [[_random.uniform(low, high) for low, high in _RANGES] for _ in range(60)]

_passed = 0
_failed = 0


@contextlib.contextmanager
def check(name):
    """One check: a line, and the failure if there is one. The checks after it still run."""
    global _passed, _failed
    try:
        yield
    except Exception as error:
        _failed += 1
        print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        if not isinstance(error, AssertionError):
            traceback.print_exc(file=sys.stdout)
    else:
        _passed += 1
        print(f"ok {name}", flush=True)


def equal(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def contains(found, *parts):
    for part in parts:
        assert part in found, f"expected {part!r} in {found!r}"


@contextlib.contextmanager
def refused(kind, *texts):
    """The call inside must raise this exception, and the exception must show these texts."""
    try:
        yield
    except kind as error:
        contains(str(error), *texts)
    else:
        raise AssertionError(f"expected {kind.__name__} with {texts}, found no exception")


def post(address, path, body, headers):
    """An exchange without a client: status, content type and content."""
    request = urllib.request.Request(f"http://{address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


class Expected:
    """What `POST /predict` says about rows: labels, and probabilities in the classes' order."""

    def __init__(self, address, rows):
        body = json.dumps({"instances": [list(map(float, row)) for row in rows]}).encode()
        status, _, content = post(address, "/predict", body, {"Content-Type": "application/json"})
        assert status == 200, f"POST /predict: {status} {content!r}"
        answer = json.loads(content)
        self.labels = answer["predictions"]
        self.probabilities = [[row[name] for name in CLASSES] for row in answer["probabilities"]]

    def index(self):
        return [CLASSES.index(label) for label in self.labels]


def reference(address):
    """The answers to all rows, which must differ enough for a comparison to mean something."""
    expected = Expected(address, ROWS)
    with check("the rows to compare cover all classes, and not all of them are certain"):
        equal(sorted(set(expected.labels)), CLASSES)
        uncertain = [row for row in expected.probabilities if max(row) < 1]
        assert len(uncertain) > 10, f"only {len(uncertain)} rows are uncertain"
    return expected


def finish():
    """Ends the script with the verdict."""
    print(f"{_passed} passed, {_failed} failed")
    sys.exit(1 if _failed or not _passed else 0)
