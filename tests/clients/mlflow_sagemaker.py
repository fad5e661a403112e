"""MLflow's client of scoring servers, and the predictors of SageMaker's SDK.

Usage: mlflow_sagemaker.py HOST:PORT, of a server with the embedded iris model under the name
`iris`.
"""

import gzip
import json
import os
import sys

import numpy as np
import pandas as pd
import requests

# Nothing here is to leave the machine, and no file of a person's is to change what is sent.
os.environ.update(
    AWS_ACCESS_KEY_ID="a",
    AWS_SECRET_ACCESS_KEY="a",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    MLFLOW_DISABLE_TELEMETRY="true",
    SAGEMAKER_SUPPRESS_V2_WARNING="1",
)

import boto3
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import dump_input_data
from sagemaker import local
from sagemaker.deserializers import (
    CSVDeserializer,
    JSONDeserializer,
    JSONLinesDeserializer,
    NumpyDeserializer,
    PandasDeserializer,
    StringDeserializer,
)
from sagemaker.predictor import Predictor
from sagemaker.serializers import (
    CSVSerializer,
    JSONLinesSerializer,
    JSONSerializer,
    LibSVMSerializer,
    NumpySerializer,
)
from sagemaker.sklearn.model import SKLearnPredictor

from checks import FEATURES, ROWS, Expected, check, contains, equal, finish, reference, refused

address = sys.argv[1]
host, port = address.rsplit(":", 1)
rows = np.array(ROWS)
frame = pd.DataFrame(rows, columns=FEATURES)
records = frame.to_dict(orient="records")
expected = reference(address)


def mlflow():
    client = ScoringServerClient(host, int(port))

    def right(answer):
        equal(dict(answer), {"predictions": expected.labels})

    with check("mlflow: ping"):
        client.ping()
    with check("mlflow: wait_server_ready"):
        client.wait_server_ready(timeout=5)
    with check("mlflow: get_version"):
        assert client.get_version()[0].isdigit(), client.get_version()
    with check("mlflow: invoke(DataFrame)"):
        right(client.invoke(frame))
    with check("mlflow: invoke(DataFrame, params)"):
        right(client.invoke(frame, {"a": 1}))
    with check("mlflow: invoke(DataFrame) with other columns, in another order"):
        other = frame[FEATURES[::-1]].assign(note="x")
        right(client.invoke(other))
    with check("mlflow: invoke(ndarray)"):
        right(client.invoke(rows))
    with check("mlflow: invoke(list of records)"):
        right(client.invoke(records))
    with check("mlflow: invoke(list of rows)"):
        right(client.invoke(rows.tolist()))
    with check("mlflow: invoke(text)"):
        right(client.invoke(dump_input_data(frame)))
    with check("mlflow: invoke of a dict's text"):
        # 3.17.2 cannot write a dict itself: it takes the dict's keys for pairs.
        columns = {name: column.tolist() for name, column in frame.items()}
        right(client.invoke(json.dumps({"inputs": columns})))
    with check("mlflow: what mlflow.sagemaker sends, inputs_key='instances'"):
        right(client.invoke(dump_input_data(rows, inputs_key="instances")))
    with check("mlflow: get_predictions as a frame and as an array"):
        answer = client.invoke(frame)
        equal(answer.get_predictions()[0].tolist(), expected.labels)
        equal(answer.get_predictions("ndarray").tolist(), expected.labels)
    with check("mlflow: no rows are a 400, as on /predict"):
        with refused(Exception, "error code 400", "BAD_REQUEST", "empty"):
            client.invoke(frame[:0])
    with check("mlflow: another width is a 400 that names both widths"):
        with refused(Exception, "error code 400", "BAD_REQUEST", "has 3 features", "takes 4"):
            client.invoke(rows[:, :3])
    with check("mlflow: a missing column is a 400 that names it"):
        with refused(Exception, "error code 400", "BAD_REQUEST", "petal_width"):
            client.invoke(frame[FEATURES[:3]])
    with check("mlflow: two keys of rows are a 400"):
        with refused(Exception, "error code 400", "BAD_REQUEST"):
            client.invoke(json.dumps({"inputs": rows.tolist(), "instances": rows.tolist()}))

    url = f"http://{address}/invocations"
    headers = {"Content-Type": "text/csv"}
    with check("requests: a frame as CSV"):
        right(requests.post(url, frame.to_csv(index=False), headers=headers).json())
    with check("requests: a frame as CSV with its index"):
        right(requests.post(url, frame.to_csv(), headers=headers).json())
    with check("requests: a frame as CSV in gzip"):
        packed = gzip.compress(frame.to_csv(index=False).encode())
        right(requests.post(url, packed, headers={"Content-Encoding": "gzip", **headers}).json())
    with check("requests: dataframe_records"):
        right(requests.post(url, json={"dataframe_records": records}).json())
    with check("requests: POST /score, as Azure's clients send a frame"):
        split = frame.to_dict(orient="split")
        response = requests.post(f"http://{address}/score", json={"input_data": split})
        equal((response.status_code, response.json()), (200, expected.labels))
    with check("requests: GET /execution-parameters, as batch transform asks"):
        found = requests.get(f"http://{address}/execution-parameters").json()
        equal(found["BatchStrategy"], "MULTI_RECORD")
        assert found["MaxConcurrentTransforms"] > 0 and found["MaxPayloadInMB"] > 0, found


def sagemaker():
    # Local mode without its container: only the name of Docker's host would ask Docker.
    local.local_session.get_docker_host = lambda: host
    session = local.LocalSession(boto3.Session())
    session.config = {"local": {"serving_port": int(port)}}

    def predictor(serializer, deserializer, kind=Predictor):
        return kind(
            "iris", sagemaker_session=session, serializer=serializer, deserializer=deserializer
        )

    def predict(data, serializer, deserializer):
        return predictor(serializer, deserializer).predict(data)

    rows_list = rows.tolist()
    with check("sagemaker: CSV in, CSV out"):
        equal(
            predict(rows, CSVSerializer(), CSVDeserializer()),
            [[label] for label in expected.labels],
        )
    with check("sagemaker: CSV in, a frame out"):
        found = predict(rows, CSVSerializer(), PandasDeserializer(accept="text/csv"))
        equal([*found.columns, *found.iloc[:, 0]], expected.labels)
    with check("sagemaker: CSV in, JSON out"):
        equal(
            predict(rows_list, CSVSerializer(), JSONDeserializer()),
            {"predictions": expected.labels},
        )
    with check("sagemaker: JSON, a list"):
        equal(predict(rows_list, JSONSerializer(), JSONDeserializer()), expected.labels)
    with check("sagemaker: JSON, an array"):
        equal(predict(rows, JSONSerializer(), JSONDeserializer()), expected.labels)
    with check("sagemaker: JSON, records"):
        equal(predict(records, JSONSerializer(), JSONDeserializer()), expected.labels)
    with check("sagemaker: JSON, instances"):
        found = predict({"instances": rows_list}, JSONSerializer(), JSONDeserializer())
        equal(found, {"predictions": expected.labels})
    with check("sagemaker: JSON lines"):
        found = predict(rows_list, JSONLinesSerializer(), JSONLinesDeserializer())
        equal(found, [{"prediction": label} for label in expected.labels])
    with check("sagemaker: JSON lines of records"):
        found = predict(records, JSONLinesSerializer(), JSONLinesDeserializer())
        equal(found, [{"prediction": label} for label in expected.labels])
    with check("sagemaker: JSON lines in, JSON out"):
        found = predict(rows_list, JSONLinesSerializer(), JSONDeserializer())
        equal(found, {"predictions": expected.labels})
    for dtype in ["float64", "float32", "int64", "int32"]:
        with check(f"sagemaker: NumPy, {dtype}"):
            sent = rows.astype(dtype)
            found = predict(sent, NumpySerializer(), NumpyDeserializer())
            equal(found.tolist(), Expected(address, sent).labels)
    with check("sagemaker: NumPy in, JSON out"):
        equal(
            predict(rows, NumpySerializer(), JSONDeserializer()), {"predictions": expected.labels}
        )
    with check("sagemaker: SKLearnPredictor as it is"):
        found = SKLearnPredictor("iris", sagemaker_session=session).predict(rows)
        equal(found.tolist(), expected.labels)
    # Local mode hands over the answer to a refusal as if it were a prediction.
    with check("sagemaker: LIBSVM is refused, and what is read is named"):
        found = predict("0:5.1 1:3.5 2:1.4 3:0.2", LibSVMSerializer(), StringDeserializer())
        contains(found, "BAD_REQUEST", "text/libsvm", "text/csv", "application/x-npy")
    with check("sagemaker: another width is refused, and both widths are named"):
        found = predict(rows[:, :3], JSONSerializer(), JSONDeserializer())
        equal(found["error_code"], "BAD_REQUEST")
        contains(found["message"], "body[0] has 3 features", "takes 4")


mlflow()
sagemaker()
finish()
