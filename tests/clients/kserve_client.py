"""KServe's client, in both of its protocols, and the types of its API.

Usage: kserve_client.py HOST:PORT MANIFEST, of a server with the embedded iris model under the name
`iris`, and what `lanekeeper manifest kserve` prints.
"""

import asyncio
import sys

import httpx
import kserve
import numpy as np
import yaml
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from checks import FEATURES, ROWS, Expected, check, equal, finish, reference, refused

address = sys.argv[1]
base = f"http://{address}"
rows = np.array(ROWS)
expected = reference(address)
# What a client sends as FP32 is another number than the double it was made of.
rounded = rows.astype(np.float32)
expected_rounded = Expected(address, rounded)


def tensor(array, name="input-0", binary=True, datatype="FP32"):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def request(inputs, outputs=None, **more):
    return InferRequest(model_name="iris", infer_inputs=inputs, request_outputs=outputs, **more)


def labels(output):
    flat = np.array(output.as_numpy()).reshape(-1)
    return [one.decode() if isinstance(one, bytes) else one for one in flat]


def right(response, wanted, *names):
    """An answer with these outputs: labels, or probabilities to the bit."""
    equal([one.name for one in response.outputs], list(names))
    for one in response.outputs:
        if one.name == "predict_proba":
            found = np.array(one.as_numpy(), dtype=np.float64).reshape(-1, 3)
            assert found.tobytes() == np.array(wanted.probabilities).tobytes(), (
                f"expected {wanted.probabilities}, found {found.tolist()}"
            )
        else:
            equal(labels(one), wanted.labels)


async def version_2():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(inputs, outputs=None, **more):
            return await client.infer(base, request(inputs, outputs, **more), model_name="iris")

        with check("v2: is_server_live"):
            equal(await client.is_server_live(base), True)
        with check("v2: is_server_ready"):
            equal(await client.is_server_ready(base), True)
        with check("v2: is_model_ready"):
            equal(await client.is_model_ready(base, "iris"), True)
        with check("v2: is_model_ready of another model"):
            equal(await client.is_model_ready(base, "nobody"), False)
        with check("v2: infer, JSON"):
            response = await infer([tensor(rounded, binary=False)])
            right(response, expected_rounded, "predict")
            # This client does not read an answer's version.
            equal(response.model_name, "iris")
        with check("v2: infer, a dict"):
            body = {
                "inputs": [
                    {
                        "name": "x",
                        "shape": list(rows.shape),
                        "datatype": "FP64",
                        "data": rows.tolist(),
                    }
                ]
            }
            right(await client.infer(base, body, model_name="iris"), expected, "predict")
        with check("v2: infer, binary"):
            right(await infer([tensor(rounded)]), expected_rounded, "predict")
        with check("v2: infer, binary_data_output"):
            response = await infer(
                [tensor(rounded, binary=False)], parameters={"binary_data_output": True}
            )
            right(response, expected_rounded, "predict")
        names = ["predict", "predict_proba"]
        for binary_in in [True, False]:
            for binary_out in [True, False]:
                with check(
                    f"v2: two outputs, binary input {binary_in}, binary outputs {binary_out}"
                ):
                    outputs = [RequestedOutput(name, {"binary_data": binary_out}) for name in names]
                    response = await infer([tensor(rounded, binary=binary_in)], outputs)
                    right(response, expected_rounded, *names)
        with check("v2: the output output-0, and a request's id"):
            outputs = [RequestedOutput("output-0", {"binary_data": True})]
            response = await infer([tensor(rounded)], outputs, request_id="k-1")
            right(response, expected_rounded, "output-0")
            equal((response.id, response.outputs[0].shape), ("k-1", [len(rows)]))
        both = [RequestedOutput(name) for name in names]
        halves, whole, truths = (
            rows.astype(np.float16),
            np.rint(rows).astype(np.int64),
            rows > np.median(rows, axis=0),
        )
        for datatype, array in [
            ("FP64", rows),
            ("FP16", halves),
            ("INT64", whole),
            ("BOOL", truths),
        ]:
            wanted = Expected(address, array)
            with check(f"v2: {datatype}, binary"):
                right(await infer([tensor(array, datatype=datatype)], both), wanted, *names)
            if datatype == "FP16":
                continue  # this client has no JSON for it
            with check(f"v2: {datatype}, JSON"):
                right(
                    await infer([tensor(array, datatype=datatype, binary=False)], both),
                    wanted,
                    *names,
                )
        with check("v2: a tensor for each feature, content_type pd"):
            columns = [
                InferInput(name, [len(rows)], "FP64", data=column.tolist())
                for name, column in zip(FEATURES, rows.T)
            ]
            right(await infer(columns, both, parameters={"content_type": "pd"}), expected, *names)
        with check("v2: infer of a version"):
            response = await client.infer(
                base, request([tensor(rounded)]), model_name="iris/versions/1"
            )
            right(response, expected_rounded, "predict")
        with check("v2: zero rows"):
            response = await infer([tensor(rounded[:0])])
            equal(response.outputs[0].shape, [0, 1])
        with check("v2: 8 at a time"):
            responses = await asyncio.gather(
                *(infer([tensor(rounded[at:])], both) for at in range(8))
            )
            for at, response in enumerate(responses):
                right(response, Expected(address, rounded[at:]), *names)
        with check("v2: another model is a 404 that names both"):
            with refused(httpx.HTTPStatusError, '"nobody"', '"iris"', "404 Not Found"):
                await client.infer(base, request([tensor(rounded)]), model_name="nobody")
        with check("v2: another width is a 400 that names both widths"):
            with refused(httpx.HTTPStatusError, "[63, 3]", "[rows, 4]", "400 Bad Request"):
                await infer([tensor(rounded[:, :3].copy())])
        with check("v2: an output that is not there is a 400 that names what is"):
            with refused(httpx.HTTPStatusError, "mine", "predict_proba", "400 Bad Request"):
                await infer([tensor(rounded)], [RequestedOutput("mine")])


async def version_1():
    instances = {"instances": rows.tolist()}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        with check("v1: is_server_live"):
            equal(await client.is_server_live(base), True)
        with check("v1: is_model_ready"):
            equal(await client.is_model_ready(base, "iris"), True)
        with check("v1: is_model_ready of another model is a 404"):
            with refused(httpx.HTTPStatusError, '"nobody"', "404 Not Found"):
                await client.is_model_ready(base, "nobody")
        records = [dict(zip(FEATURES, row)) for row in rows.tolist()]
        bodies = [
            ("instances", instances),
            ("instances that are records", {"instances": records}),
            ("inputs", {"inputs": rows.tolist()}),
            (
                "a signature and parameters",
                {"signature_name": "serving_default", "parameters": {"a": 1}, **instances},
            ),
        ]
        for name, body in bodies:
            with check(f"v1: infer, {name}"):
                equal(
                    await client.infer(base, body, model_name="iris"),
                    {"predictions": expected.labels},
                )
        with check("v1: infer of a version"):
            found = await client.infer(base, instances, model_name="iris/versions/1")
            equal(found, {"predictions": expected.labels})
        with check("v1: infer, inputs by column"):
            body = {"inputs": dict(zip(FEATURES, rows.T.tolist()))}
            equal(await client.infer(base, body, model_name="iris"), {"outputs": expected.labels})
        with check("v1: no instances are a 400, as on /predict"):
            with refused(httpx.HTTPStatusError, "instances", "empty", "400 Bad Request"):
                await client.infer(base, {"instances": []}, model_name="iris")
        with check("v1: another model is a 404 that names both"):
            with refused(httpx.HTTPStatusError, '"nobody"', '"iris"', "404 Not Found"):
                await client.infer(base, instances, model_name="nobody")
        with check("v1: another width is a 400 that names both widths"):
            with refused(httpx.HTTPStatusError, "has 3 features", "takes 4", "400 Bad Request"):
                await client.infer(base, {"instances": rows[:, :3].tolist()}, model_name="iris")
        with check("v1: explain is a 501"):
            with refused(httpx.HTTPStatusError, "explanations", "501 Not Implemented"):
                await client.explain(base, "iris", instances)


def known(kind, fields):
    """Checks that a type of KServe's API has these fields, and that none it requires is missing."""
    names = set(kind.attribute_map.values())
    assert set(fields) <= names, f"{kind.__name__} has no {sorted(set(fields) - names)}"
    # The type's own setters refuse a missing field that is required.
    attributes = {name: attribute for attribute, name in kind.attribute_map.items()}
    kind(**{attributes[name]: value for name, value in fields.items()})


def manifest():
    runtime, service = yaml.safe_load_all(sys.argv[2])
    models = kserve.models
    with check("manifest: the runtime is of KServe's types"):
        known(models.V1alpha1ClusterServingRuntime, runtime)
        known(models.V1alpha1ServingRuntimeSpec, runtime["spec"])
        for one in runtime["spec"]["supportedModelFormats"]:
            known(models.V1alpha1SupportedModelFormat, one)
    with check("manifest: the service is of KServe's types"):
        known(models.V1beta1InferenceService, service)
        known(models.V1beta1InferenceServiceSpec, service["spec"])
        known(models.V1beta1PredictorSpec, service["spec"]["predictor"])
        known(models.V1beta1ModelSpec, service["spec"]["predictor"]["model"])
        known(models.V1beta1ModelFormat, service["spec"]["predictor"]["model"]["modelFormat"])


manifest()
asyncio.run(version_2())
asyncio.run(version_1())
finish()
