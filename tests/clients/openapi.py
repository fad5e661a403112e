"""OpenAPI: the document is valid, and the server does what it says, whatever schemathesis sends.

Usage: openapi.py HOST:PORT SEED EXAMPLES [dates]. EXAMPLES is how many cases each operation gets in
each phase. With `dates`, the model takes some: no schema says which texts are.
"""

import collections
import functools
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

import jsonschema
import openapi_spec_validator
import requests

from checks import check, equal, finish

address, seed, examples, *dates = sys.argv[1:]
url = f"http://{address}/openapi.json"
here = pathlib.Path(__file__).resolve().parent

# A schema cannot say that columns are equally long, that a tensor's data fit its shape, or that
# bytes are a table or an array. What it can say of JSON for /predict, the hooks check.
LENIENT = [
    "invocations",
    "predict",
    "score",
    "v1Predict",
    "v1PredictVersion",
    "v2Infer",
    "v2InferVersion",
]

CONFIG = """
[checks]
# The server is forgiving on purpose: it does without what it can do without.
negative_data_rejection.enabled = false

[parameters]
# Shorter ones end in 504, as they should.
"header.X-Request-Timeout" = "30"
"""

OPERATION = """
[[operations]]
include-operation-id = "{}"
checks.positive_data_acceptance.enabled = false
"""


def run(folder):
    """Runs schemathesis; gives what it printed and whether it found nothing."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG + "".join(OPERATION.format(name) for name in LENIENT))
    command = [
        *(sys.executable, "-B", "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", url, "--max-examples", examples, "--seed", seed),
        *("--continue-on-failure", "--no-color", "--warnings", "off"),
    ]
    variables = {
        "SCHEMATHESIS_HOOKS": "openapi_hooks",
        "PYTHONPATH": str(here),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        "OPENAPI_ADDRESS": address,
        "OPENAPI_ANSWERS": str(folder / "answers"),
        "OPENAPI_DATES": "".join(dates),
    }
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ended.stdout, ended.returncode == 0


def media_types(operation):
    """The documented media types of an operation's success."""
    return set(operation["responses"]["200"]["content"])


document = requests.get(url, timeout=10).json()

with check("the document is valid"):
    openapi_spec_validator.validate(document)

with check("HEAD gives the length of the document"):
    length = requests.head(url, timeout=10).headers["Content-Length"]
    equal(int(length), len(requests.get(url, timeout=10).content))

# What no client in Python sends: a request line and fields, and the status that it gets.
RAW = [
    ("GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe", "GET /livez", 417),
    ("GET /statusz HTTP/2.0\r\nHost: x", "GET /statusz", 505),
    ("GET /v2 HTTP/1.1\r\nHost: x\r\nHost: y", "GET /v2", 400),
    ("GET /ping HTTP/1.1\r\nHost: x\r\nX: " + "x" * 20_000, "GET /ping", 431),
    ("GET /v2/models/none HTTP/1.1\r\nHost: x", "GET /v2/models/{model}", 404),
    ("GET /livez/none HTTP/1.1\r\nHost: x", "GET /livez/{check}", 404),
    ("POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999", "POST /score", 413),
    ("POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip", "POST /score", 501),
    ("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip", "POST /predict", 415),
    ("POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Encoding: br", "POST /invocations", 415),
    ("POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: soon", "POST /predict", 400),
    (
        "POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 9999",
        "POST /v2/repository/index",
        413,
    ),
]


def exchange(head):
    """Status, fields and JSON of the answer to a head without a body."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers, json.loads(response.read())


def resolved(piece):
    """What a reference refers to."""
    while "$ref" in piece:
        name = piece["$ref"].removeprefix("#/").split("/")
        piece = functools.reduce(lambda place, key: place[key], name, document)
    return piece


for head, place, expected in RAW:
    with check(f"{place} answers {expected} as documented"):
        method, path = place.split()
        status, fields, content = exchange(head)
        equal(status, expected)
        operation = document["paths"][path][method.lower()]
        answer = resolved(operation["responses"][str(status)])
        for name, field in answer["headers"].items():
            assert name in fields or not resolved(field).get("required"), name
        schema = answer["content"][fields["Content-Type"]]["schema"]
        jsonschema.Draft202012Validator({**document, **schema}).validate(content)

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    printed, passed = run(folder)
    generated = re.search(r"(\d+) generated", printed)
    cases = int(generated[1]) if generated else 0
    with check(f"schemathesis finds nothing in {cases} cases with seed {seed}"):
        assert passed and cases, printed
    answers = collections.Counter((folder / "answers").read_text().splitlines())

statuses = collections.Counter()
for answer, count in answers.items():
    statuses[json.loads(answer)[1]] += count
print(f"answers by status: {dict(sorted(statuses.items()))}")

# What depends on more than an Accept of one media type: a page, and Prometheus's formats.
PAGES = {"text/html", "text/plain", "application/openmetrics-text"}
for path, item in document["paths"].items():
    for method, operation in item.items():
        # Metrics are elsewhere, and schemathesis leaves out the path that it reads the document from.
        if method == "servers" or "servers" in item or path == "/openapi.json":
            continue
        with check(f"{operation['operationId']} succeeds in every documented media type"):
            seen = {
                answered[2]
                for answered in map(json.loads, answers)
                if answered[0] == operation["operationId"] and answered[1] == 200
            }
            wanted = media_types(operation)
            equal(sorted(wanted - seen - PAGES), [])
            assert seen <= wanted, seen

finish()
