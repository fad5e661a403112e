"""Triton's client for Python, its asynchronous variant, MLServer's codecs, and requests.

Usage: triton.py HOST:PORT, of a server with the embedded iris model under the name `iris`.
"""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import requests
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from checks import (
    CLASSES,
    FEATURES,
    ROWS,
    Expected,
    check,
    contains,
    equal,
    finish,
    post,
    reference,
    refused,
)

address = sys.argv[1]
client = triton.InferenceServerClient(address, concurrency=4)
rows = np.array(ROWS)
expected = reference(address)
# What a client sends as FP32 is another number than the double it was made of.
rounded = rows.astype(np.float32)
expected_rounded = Expected(address, rounded)


def tensor(array, name="input-0", binary=True, datatype="FP32"):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def columns(arrays, datatypes):
    """A tensor [N, 1] for each feature."""
    together = zip(FEATURES, arrays, datatypes)
    return [
        tensor(array.reshape(-1, 1), name, datatype=datatype) for name, array, datatype in together
    ]


def output(name, binary=True, class_count=0):
    return triton.InferRequestedOutput(name, binary_data=binary, class_count=class_count)


def labels(result, name="predict"):
    """Texts of an output: bytes if it was binary, else text."""
    flat = result.as_numpy(name).reshape(-1)
    return [one.decode() if isinstance(one, bytes) else one for one in flat]


def same_bits(found, probabilities):
    wanted = np.array(probabilities)
    equal((found.dtype, found.shape), (wanted.dtype, wanted.shape))
    assert found.tobytes() == wanted.tobytes(), (
        f"expected {wanted.tolist()}, found {found.tolist()}"
    )


def both(result, wanted):
    """An answer with predict and predict_proba."""
    equal(labels(result), wanted.labels)
    same_bits(result.as_numpy("predict_proba"), wanted.probabilities)


def ask_both(inputs, binary=True, **more):
    outputs = [output("predict", binary), output("predict_proba", binary)]
    return client.infer("iris", inputs, outputs=outputs, **more)


def health_and_documents():
    with check("is_server_live"):
        equal(client.is_server_live(), True)
    with check("is_server_ready"):
        equal(client.is_server_ready(), True)
    with check("is_model_ready"):
        equal(client.is_model_ready("iris"), True)
    with check("is_model_ready with a version"):
        equal(client.is_model_ready("iris", "1"), True)
    with check("is_model_ready of another model"):
        equal(client.is_model_ready("nobody"), False)
    with check("is_model_ready of another version"):
        equal(client.is_model_ready("iris", "7"), False)
    with check("get_server_metadata names the extensions"):
        found = client.get_server_metadata()
        equal(found["name"], "lanekeeper")
        contains(found["extensions"], "binary_tensor_data", "statistics")
    for version in ["", "1"]:
        with check(f"get_model_metadata, version {version!r}"):
            found = client.get_model_metadata("iris", version)
            equal((found["name"], found["versions"]), ("iris", ["1"]))
            equal(found["inputs"], [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}])
            outputs = [(one["name"], one["datatype"], one["shape"]) for one in found["outputs"]]
            equal(outputs, [("predict", "BYTES", [-1, 1]), ("predict_proba", "FP64", [-1, 3])])
        with check(f"get_model_config, version {version!r}"):
            found = client.get_model_config("iris", version)
            equal(found["name"], "iris")
            assert found["max_batch_size"] > 0, found
            equal(found["input"][0]["data_type"], "TYPE_FP64")
            equal(found["input"][0]["dims"], [4])
            kinds = [(one["name"], one["data_type"]) for one in found["output"]]
            equal(kinds, [("predict", "TYPE_STRING"), ("predict_proba", "TYPE_FP64")])
    with check("get_model_repository_index"):
        found = [
            (one["name"], one["version"], one["state"])
            for one in client.get_model_repository_index()
        ]
        equal(found, [("iris", "1", "READY")])
    for name, version in [("iris", ""), ("iris", "1"), ("", "")]:
        with check(f"get_inference_statistics({name!r}, {version!r}) counts an inference"):

            def count():
                stats = client.get_inference_statistics(name, version)["model_stats"][0]
                equal(stats["name"], "iris")
                own = stats["inference_stats"]
                return stats["inference_count"], own["success"]["count"], own["queue"]["count"]

            before = count()
            client.infer("iris", [tensor(rounded[:5])])
            equal(tuple(now - then for now, then in zip(count(), before)), (5, 1, 1))
    with check("metadata of another model is a 404 that names both"):
        with refused(InferenceServerException, "[404]", '"nobody"', '"iris"'):
            client.get_model_metadata("nobody")


def forms():
    with check("infer with defaults: binary, and only predict"):
        result = client.infer("iris", [tensor(rounded)])
        equal(labels(result), expected_rounded.labels)
        answer = result.get_response()
        equal([one["name"] for one in answer["outputs"]], ["predict"])
        equal(answer["outputs"][0]["shape"], [len(rows), 1])
        assert "binary_data_size" in answer["outputs"][0]["parameters"], answer
    for binary_in in [True, False]:
        for binary_out in [True, False]:
            with check(f"infer with binary input {binary_in} and binary output {binary_out}"):
                both(ask_both([tensor(rounded, binary=binary_in)], binary_out), expected_rounded)
    with check("one output in binary and one in JSON, in the order asked for"):
        outputs = [output("predict_proba", True), output("predict", False)]
        result = client.infer("iris", [tensor(rounded)], outputs=outputs)
        both(result, expected_rounded)
        equal(
            [one["name"] for one in result.get_response()["outputs"]], ["predict_proba", "predict"]
        )
    for name in ["output-0", "label", "output_label", "output-1"]:
        with check(f"the output {name}"):
            result = client.infer("iris", [tensor(rounded)], outputs=[output(name)])
            equal(labels(result, name), expected_rounded.labels)
    for name in ["probabilities", "output_probability"]:
        with check(f"the output {name}"):
            result = client.infer("iris", [tensor(rounded)], outputs=[output(name)])
            same_bits(result.as_numpy(name), expected_rounded.probabilities)
    with check("the output output__0: the class's index"):
        result = client.infer("iris", [tensor(rounded)], outputs=[output("output__0")])
        equal(result.as_numpy("output__0").reshape(-1).tolist(), expected_rounded.index())


def datatypes():
    for binary in [True, False]:
        with check(f"FP64, binary {binary}"):
            both(ask_both([tensor(rows, datatype="FP64", binary=binary)]), expected)
    with check("FP16"):
        halves = rows.astype(np.float16)
        both(ask_both([tensor(halves, datatype="FP16")]), Expected(address, halves))
    for datatype, kind in [
        ("INT64", np.int64),
        ("INT32", np.int32),
        ("INT8", np.int8),
        ("UINT8", np.uint8),
        ("UINT64", np.uint64),
    ]:
        whole = np.rint(rows).astype(kind)
        wanted = Expected(address, whole)
        for binary in [True, False]:
            with check(f"{datatype}, binary {binary}"):
                both(ask_both([tensor(whole, datatype=datatype, binary=binary)]), wanted)
    truths = rows > np.median(rows, axis=0)
    wanted = Expected(address, truths)
    for binary in [True, False]:
        with check(f"BOOL, binary {binary}"):
            both(ask_both([tensor(truths, datatype="BOOL", binary=binary)]), wanted)
    with check("a text is a 400 that names the feature"):
        texts = np.array([[b"5.1", b"b", b"c", b"d"]], dtype=np.object_)
        with refused(InferenceServerException, "[400]", "sepal_length", "number"):
            client.infer("iris", [tensor(texts, datatype="BYTES")])
    with check("a tensor for each feature"):
        both(ask_both(columns(rounded.T, ["FP32"] * 4)), expected_rounded)
    with check("a tensor for each feature, in another order"):
        both(ask_both(columns(rounded.T, ["FP32"] * 4)[::-1]), expected_rounded)
    with check("a tensor for each feature, of different datatypes"):
        mixed = rows.copy()
        mixed[:, 0] = np.rint(mixed[:, 0])
        mixed[:, 1] = mixed[:, 1].astype(np.float32)
        mixed[:, 2] = mixed[:, 2].astype(np.float16)
        arrays = [
            mixed[:, 0].astype(np.int64),
            mixed[:, 1].astype(np.float32),
            mixed[:, 2].astype(np.float16),
            mixed[:, 3],
        ]
        both(ask_both(columns(arrays, ["INT64", "FP32", "FP16", "FP64"])), Expected(address, mixed))


def requests_of_all_kinds():
    inputs = [tensor(rounded)]
    with check("classification"):
        result = client.infer("iris", inputs, outputs=[output("predict_proba", class_count=2)])
        found = [[one.decode() for one in row] for row in result.as_numpy("predict_proba")]
        equal(np.array(found).shape, (len(rows), 2))
        for texts, shares in zip(found, expected_rounded.probabilities):
            split = [text.split(":") for text in texts]
            for share, index, label in split:
                equal((CLASSES[int(index)], share), (label, f"{shares[int(index)]:.6f}"))
            equal(
                [float(share) for share, _, _ in split],
                [float(f"{share:.6f}") for share in sorted(shares)[::-1][:2]],
            )
    with check("request id and version"):
        answer = client.infer("iris", inputs, request_id="42", model_version="1").get_response()
        equal((answer["id"], answer["model_name"], answer["model_version"]), ("42", "iris", "1"))
    with check("priority, sequence, timeout, and a parameter of one's own"):
        result = ask_both(
            inputs,
            priority=1,
            timeout=30_000_000,
            sequence_id=7,
            sequence_start=True,
            sequence_end=True,
            parameters={"mine": "x"},
        )
        both(result, expected_rounded)
    with check("a timeout of one microsecond is a 504"):
        with refused(InferenceServerException, "[504]"):
            client.infer("iris", inputs, timeout=1)
    with check("headers and a query"):
        both(
            ask_both(inputs, headers={"X-Tenant": "a"}, query_params={"a": "b c"}), expected_rounded
        )
    for coding in ["gzip", "deflate"]:
        for binary in [True, False]:
            with check(f"a request in {coding}, binary {binary}"):
                sent = [tensor(rounded, binary=binary)]
                both(ask_both(sent, request_compression_algorithm=coding), expected_rounded)
        with check(f"an answer asked for in {coding}"):
            both(ask_both(inputs, response_compression_algorithm=coding), expected_rounded)
    with check("zero rows"):
        result = ask_both([tensor(rounded[:0])])
        equal(result.as_numpy("predict_proba").shape, (0, 3))
        equal([one["shape"] for one in result.get_response()["outputs"]], [[0, 1], [0, 3]])
    with check("one row as [F]"):
        both(ask_both([tensor(rounded[0])]), Expected(address, rounded[:1]))
    with check("1,000 rows"):
        many = np.resize(rounded, (1000, 4))
        both(ask_both([tensor(many)]), Expected(address, many))
    with check("async_infer, 8 at a time"):
        pending = [
            client.async_infer("iris", [tensor(rounded[at:])], request_id=str(at))
            for at in range(8)
        ]
        for at, one in enumerate(pending):
            result = one.get_result(timeout=30)
            equal(result.get_response()["id"], str(at))
            equal(labels(result), expected_rounded.labels[at:])


def refusals():
    good = tensor(rounded)
    with check("another model is a 404 that names both"):
        with refused(InferenceServerException, "[404]", '"nobody"', '"iris"'):
            client.infer("nobody", [good])
    with check("another version is a 404 that names it"):
        with refused(InferenceServerException, "[404]", '"7"', '"1"'):
            client.infer("iris", [good], model_version="7")
    with check("another width is a 400 that names both widths"):
        with refused(InferenceServerException, "[400]", "[63, 3]", "[rows, 4]"):
            client.infer("iris", [tensor(rounded[:, :3].copy())])
    with check("a missing column is a 400 that names it"):
        with refused(InferenceServerException, "[400]", "petal_width"):
            client.infer("iris", columns(rounded.T[:3], ["FP32"] * 3))
    with check("an output that is not there is a 400 that names what is"):
        with refused(InferenceServerException, "[400]", "mine", "predict_proba"):
            client.infer("iris", [good], outputs=[output("mine")])
    with check("async_infer of another model is a 404"):
        with refused(InferenceServerException, "[404]", '"nobody"'):
            client.async_infer("nobody", [good]).get_result(timeout=30)
    for name, call in [("load_model", client.load_model), ("unload_model", client.unload_model)]:
        with check(f"{name} is a 501"):
            with refused(InferenceServerException, "[501]", "SIGHUP"):
                call("iris")
    for name, call in [
        ("get_log_settings", client.get_log_settings),
        ("get_trace_settings", client.get_trace_settings),
        ("get_system_shared_memory_status", client.get_system_shared_memory_status),
    ]:
        with check(f"{name} is a 404"):
            with refused(InferenceServerException, "[404]"):
                call()


async def asynchronous():
    async with triton_aio.InferenceServerClient(address) as aio:
        with check("aio: is_server_live, is_server_ready, is_model_ready"):
            found = [
                await aio.is_server_live(),
                await aio.is_server_ready(),
                await aio.is_model_ready("iris", "1"),
            ]
            equal(found, [True, True, True])
        # This client asks for compressed answers and unpacks only inferences.
        with check("aio: metadata, config, statistics and index"):
            equal((await aio.get_model_metadata("iris"))["name"], "iris")
            equal((await aio.get_model_config("iris"))["name"], "iris")
            equal((await aio.get_inference_statistics("iris"))["model_stats"][0]["name"], "iris")
            equal((await aio.get_model_repository_index())[0]["state"], "READY")
        outputs = [output("predict"), output("predict_proba", False)]
        with check("aio: infer"):
            both(await aio.infer("iris", [tensor(rounded)], outputs=outputs), expected_rounded)
        for coding in ["gzip", "deflate"]:
            with check(f"aio: a request in {coding}"):
                result = await aio.infer(
                    "iris", [tensor(rounded)], outputs=outputs, request_compression_algorithm=coding
                )
                both(result, expected_rounded)
            with check(f"aio: an answer asked for in {coding}"):
                result = await aio.infer(
                    "iris",
                    [tensor(rounded)],
                    outputs=outputs,
                    response_compression_algorithm=coding,
                )
                both(result, expected_rounded)
        with check("aio: 8 at a time"):
            calls = [
                aio.infer("iris", [tensor(rounded[at:])], request_id=str(at)) for at in range(8)
            ]
            for at, result in enumerate(await asyncio.gather(*calls)):
                equal(result.get_response()["id"], str(at))
                equal(labels(result), expected_rounded.labels[at:])
        with check("aio: another model is a 404 that names both"):
            with refused(InferenceServerException, "[404]", '"nobody"', '"iris"'):
                await aio.infer("nobody", [tensor(rounded)])
        with check("aio: another width is a 400"):
            with refused(InferenceServerException, "[400]", "[63, 3]", "[rows, 4]"):
                await aio.infer("iris", [tensor(rounded[:, :3].copy())])
        with check("aio: load_model is a 501"):
            with refused(InferenceServerException, "[501]", "SIGHUP"):
                await aio.load_model("iris")


def codecs():
    try:
        from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
        from mlserver.types import InferenceRequest, InferenceResponse, RequestOutput
    except ImportError as error:
        print(f"left out: MLServer's codecs: {error}")
        return
    import pandas

    def infer(request):
        body = request.model_dump_json(exclude_none=True).encode()
        status, _, content = post(
            address, "/v2/models/iris/infer", body, {"Content-Type": "application/json"}
        )
        equal((status, content if status != 200 else b""), (200, b""))
        return InferenceResponse.model_validate_json(content)

    with check("MLServer: NumpyCodec in, StringCodec out"):
        response = infer(InferenceRequest(inputs=[NumpyCodec.encode_input("predict", rows)]))
        equal(StringCodec.decode_output(response.outputs[0]), expected.labels)
    with check("MLServer: NumpyRequestCodec"):
        response = infer(NumpyRequestCodec.encode_request(rows))
        # It takes exactly one output.
        equal(
            [
                one.decode() if isinstance(one, bytes) else one
                for one in NumpyRequestCodec.decode_response(response).reshape(-1)
            ],
            expected.labels,
        )
    with check("MLServer: PandasCodec"):
        frame = pandas.DataFrame(rows, columns=FEATURES)
        response = infer(PandasCodec.encode_request(frame, use_bytes=False))
        equal(StringCodec.decode_output(response.outputs[0]), expected.labels)
    with check("MLServer: outputs predict and predict_proba"):
        outputs = [RequestOutput(name="predict"), RequestOutput(name="predict_proba")]
        request = InferenceRequest(
            id="m-1", inputs=[NumpyCodec.encode_input("predict", rows)], outputs=outputs
        )
        response = infer(request)
        equal(response.id, "m-1")
        equal(StringCodec.decode_output(response.outputs[0]), expected.labels)
        same_bits(NumpyCodec.decode_output(response.outputs[1]), expected.probabilities)
    with check("MLServer: ids of one's own where a request has none"):
        request = InferenceRequest(inputs=[NumpyCodec.encode_input("predict", rows)])
        first, second = infer(request).id, infer(request).id
        assert first and second and first != second, f"found {first!r} and {second!r}"


def mlservers_batch_client():
    """`mlserver infer`: a file of requests, which it joins into batches and takes apart again."""
    program = pathlib.Path(sys.executable).with_name("mlserver")
    if not program.exists():
        print("left out: mlserver infer, which is not installed")
        return
    lines = [
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": row}]}
        for row in ROWS
    ]
    for size in ["1", "8"]:
        with check(f"mlserver infer, {size} at a time"), tempfile.TemporaryDirectory() as folder:
            sent, answered = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
            sent.write_text("".join(json.dumps(line) + "\n" for line in lines))
            files = ["-i", sent, "-o", answered, "--batch-size", size]
            command = [program, "infer", "-u", address, "-m", "iris", *files]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, f"exit code {run.returncode}: {run.stderr}"
            found = {}
            for line in answered.read_text().splitlines():
                answer = json.loads(line)
                found[answer["parameters"]["batch_index"]] = answer["outputs"][0]["data"]
            equal([found[at] for at in range(len(ROWS))], [[label] for label in expected.labels])


def plain_requests():
    session = requests.Session()
    url = f"http://{address}/v2/models/iris/infer"
    body = {
        "inputs": [
            {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.tolist()}
        ],
        "outputs": [{"name": "predict"}, {"name": "predict_proba"}],
    }

    def right(response):
        equal(response.status_code, 200)
        equal(response.headers["Content-Type"], "application/json")
        label, shares = response.json()["outputs"]
        equal(label["data"], expected.labels)
        equal(np.array(shares["data"]).reshape(-1, 3).tolist(), expected.probabilities)

    with check("requests: nested data, json="):
        right(session.post(url, json=body))
    with check("requests: data in pieces (chunked)"):
        text = json.dumps(body).encode()
        pieces = (text[at : at + 100] for at in range(0, len(text), 100))
        right(session.post(url, data=pieces, headers={"Content-Type": "application/json"}))
    with check("requests: no Content-Type"):
        right(session.post(url, data=json.dumps(body).encode()))
    with check("requests: the bare tensor"):
        response = session.post(
            url, data=rows.tobytes(), headers={"Inference-Header-Content-Length": "0"}
        )
        equal(response.status_code, 200)
        length = response.headers.get("Inference-Header-Content-Length")
        result = client.parse_response_body(response.content, header_length=length and int(length))
        equal(labels(result), expected.labels)
    with check("requests: an error has exactly the media type application/json"):
        response = session.post(f"http://{address}/v2/models/nobody/infer", json=body)
        equal((response.status_code, response.headers["Content-Type"]), (404, "application/json"))
        contains(response.json()["error"], "nobody")


health_and_documents()
forms()
datatypes()
requests_of_all_kinds()
refusals()
asyncio.run(asynchronous())
codecs()
mlservers_batch_client()
plain_requests()
client.close()
finish()
