"""The peer of the http bench: FastAPI + scikit-learn with a forest of the same size.

Plain `def` handlers, so that FastAPI runs them in its thread pool; 100 trees on the iris data; the
answer has the same content as lanekeeper's, from one call of predict_proba. It says on stderr where
it listens, keeps to one core where asked, and ends when its stdin does.
"""

import argparse
import os
import socket
import sys
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

iris = load_iris()
classes = [str(name) for name in iris.target_names]
forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(iris.data, iris.target)
app = FastAPI()


class Body(BaseModel):
    instances: list[list[float]]


@app.get("/livez")
def livez():
    return "ok"


@app.post("/predict")
def predict(body: Body):
    shares = forest.predict_proba(body.instances)
    return {
        "model": "iris",
        "predictions": [classes[index] for index in shares.argmax(axis=1)],
        "probabilities": [dict(zip(classes, map(float, row))) for row in shares],
    }


def end_with_stdin():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="keep to this core")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    threading.Thread(target=end_with_stdin, daemon=True).start()
    # With the protocol named, asyncio sets TCP_NODELAY, as it does where uvicorn binds by itself;
    # without, every keep-alive answer would wait 40 ms for a delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    host, port = listener.getsockname()
    print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
