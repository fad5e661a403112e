"""What schemathesis cannot know of this server: tables, arrays and tensors that a model takes.

It also has answers in all media types, and writes down what came for each operation.
"""

import collections
import itertools
import json
import os
import re
import struct

import requests
import schemathesis
from hypothesis import strategies as st

ADDRESS = os.environ["OPENAPI_ADDRESS"]
ANSWERS = os.environ["OPENAPI_ANSWERS"]
DATES = os.environ.get("OPENAPI_DATES")
DOCUMENT = requests.get(f"http://{ADDRESS}/openapi.json", timeout=10).json()
SCHEMAS = DOCUMENT["components"]["schemas"]
MODEL = DOCUMENT["components"]["parameters"]["model"]["schema"]["enum"][0]
METADATA = requests.get(f"http://{ADDRESS}/v2/models/{MODEL}", timeout=10).json()
NAMES = SCHEMAS["Columns"]["required"]
PROPERTIES = SCHEMAS["Instance"]["properties"]

# Counts the calls of each operation.
_calls = collections.defaultdict(itertools.count)


def value(schema):
    """Values of a feature."""
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    shown = [one for one in schema.get("examples", []) if one is not None]
    choices = [st.sampled_from(schema["enum"])] if "enum" in schema else []
    if "number" in types:
        choices.append(st.floats(-1e6, 1e6))
    if "integer" in types:
        choices.append(st.integers(-(10**6), 10**6))
    if "boolean" in types:
        choices.append(st.booleans())
    if "null" in types:
        choices.append(st.none())
    if shown:
        choices.append(st.sampled_from(shown))
    return st.one_of(choices)


ROWS = st.lists(st.tuples(*(value(PROPERTIES[name]) for name in NAMES)), min_size=1, max_size=5)
ANY = st.binary(max_size=200)


def cell(one):
    if one is None:
        return ""
    text = str(one)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def table(rows, header):
    lines = [NAMES, *rows] if header else rows
    return "".join(",".join(map(cell, line)) + "\n" for line in lines).encode()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def array(rows):
    """What numpy.save writes; 0 stands for what is no number."""
    is_number = lambda one: isinstance(one, (int, float))
    numbers = [float(one) if is_number(one) else 0.0 for row in rows for one in row]
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, {len(NAMES)}), }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    return head + struct.pack(f"<{len(numbers)}d", *numbers)


def tensors(rows):
    """A request of V2 with its data in binary, or in JSON where the model takes texts."""
    inputs, binary = [], b""
    if len(METADATA["inputs"]) == 1 and METADATA["inputs"][0]["datatype"] != "BYTES":
        numbers = [0.0 if one is None else float(one) for row in rows for one in row]
        binary = struct.pack(f"<{len(numbers)}d", *numbers)
        inputs.append(
            {
                "name": "rows",
                "datatype": "FP64",
                "shape": [len(rows), len(NAMES)],
                "parameters": {"binary_data_size": len(binary)},
            }
        )
    else:
        for tensor in METADATA["inputs"]:
            data = [row[NAMES.index(tensor["name"])] for row in rows]
            if tensor["datatype"] == "BYTES":
                data = [None if one is None else str(one) for one in data]
            inputs.append({**tensor, "shape": [len(rows)], "data": data})
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    return json.dumps(asked).encode() + b"\n" + binary


schemathesis.openapi.media_type(
    "text/csv", st.one_of(st.builds(table, ROWS, st.just(True)), st.builds(table, ROWS, st.booleans()), ANY)
)
for name in ["application/jsonlines", "application/x-ndjson"]:
    schemathesis.openapi.media_type(name, st.one_of(st.builds(lines, ROWS), ANY))
schemathesis.openapi.media_type("application/x-npy", st.one_of(st.builds(array, ROWS), ANY))
schemathesis.openapi.media_type(
    "application/octet-stream", st.one_of(st.builds(tensors, ROWS), ANY)
)


@schemathesis.serializer(
    "application/jsonlines",
    "application/octet-stream",
    "application/x-ndjson",
    "application/x-npy",
    "text/csv",
)
def as_bytes(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Takes away the examples that are texts: for these media types, it wants bytes."""
    for item in raw_schema["paths"].values():
        for name, body in item.get("post", {}).get("requestBody", {}).get("content", {}).items():
            if name != "application/json":
                body.pop("example", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for one of the documented media types, and for binary where the body is."""
    operation = case.operation.definition.raw
    forms = [*operation["responses"]["200"]["content"], "*/*"]
    case.headers["Accept"] = forms[next(_calls[operation["operationId"]]) % len(forms)]
    body = case.body
    if case.media_type == "application/octet-stream" and isinstance(body, bytes):
        if body.startswith(b'{"inputs"'):
            case.headers["Inference-Header-Content-Length"] = str(body.index(b"\n") + 1)
    elif isinstance(body, dict) and isinstance(body.get("parameters"), dict):
        # It is in microseconds; most end in 504, as they should.
        body["parameters"].pop("timeout", None)


@schemathesis.hook
def after_call(context, case, response):
    """Writes down what came."""
    operation = case.operation.definition.raw["operationId"]
    if case.method != case.operation.method.upper():
        operation = f"{case.method} {operation}"
    content_type = response.headers.get("content-type", [""])[0].split(";")[0]
    with open(ANSWERS, "a", encoding="utf-8") as file:
        file.write(json.dumps([operation, response.status_code, content_type]) + "\n")


@schemathesis.check
def errors_are_lines_for_a_person(context, response, case):
    """An error of the server's own has a short text of one line, and the request's id."""
    if response.status_code < 400 or not response.headers.get("content-type", [""])[0].endswith("json"):
        return
    error = response.json()
    if "code" in error:
        text = error["error"]
        assert text and "\n" not in text and len(text) < 1000, text
        # Nothing of how the server is written; what it quotes is the client's.
        own = re.sub(r'"(\\.|[^"\\])*"', "", text)
        assert not re.search(r"panic|\bstruct |\b[iu](8|16|32|64)\b", own), text
        assert error["request_id"] == response.headers["x-request-id"][0], error


@schemathesis.check
def instances_are_taken_as_the_schema_says(context, response, case):
    """What the schema of a model without dates allows in JSON, /predict takes."""
    if case.operation.definition.raw.get("operationId") != "predict" or DATES:
        return
    if case.method == "POST" and case.media_type == "application/json":
        if case.meta is not None and case.meta.generation.mode.is_positive:
            assert response.status_code == 200, response.text
