"""The peer of the http and overload benches: FastAPI + scikit-learn with a forest of the same size.

Plain `def` handlers, so that FastAPI runs them in its thread pool, probes beside predictions; with
--own-executor, predictions on an executor of their own with one thread, and probes on the event loop.
100 trees on the iris data; the answer has the same content as lanekeeper's, from one call of
predict_proba. It says on stderr where it listens, keeps to one core where asked, and ends when its
stdin does.

With --burn-ms each prediction computes for so long besides, in CPU time of its thread. It does so in
calls of numpy that let go of the interpreter's lock: the kindest case for probes.
"""

import argparse
import asyncio
import concurrent.futures
import os
import socket
import sys
import threading
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

iris = load_iris()
classes = [str(name) for name in iris.target_names]
forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(iris.data, iris.target)
app = FastAPI()
# Sorting it takes about a millisecond.
noise = numpy.random.default_rng(0).random(120_000)
burn_seconds = 0.0


class Body(BaseModel):
    instances: list[list[float]]


def compute(body: Body):
    ends = time.thread_time() + burn_seconds
    while time.thread_time() < ends:
        numpy.sort(noise)
    shares = forest.predict_proba(body.instances)
    return {
        "model": "iris",
        "predictions": [classes[index] for index in shares.argmax(axis=1)],
        "probabilities": [dict(zip(classes, map(float, row))) for row in shares],
    }


def share_the_pool():
    @app.get("/livez")
    def livez():
        return "ok"

    @app.post("/predict")
    def predict(body: Body):
        return compute(body)


def use_own_executor():
    executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    @app.get("/livez")
    async def livez():
        return "ok"

    @app.post("/predict")
    async def predict(body: Body):
        return await asyncio.get_running_loop().run_in_executor(executor, compute, body)


def end_with_stdin():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="keep to this core")
    parser.add_argument("--burn-ms", type=float, default=0.0, help="CPU time of a prediction")
    parser.add_argument("--own-executor", action="store_true", help="keep predictions from probes")
    args = parser.parse_args()
    global burn_seconds
    burn_seconds = args.burn_ms / 1000
    use_own_executor() if args.own_executor else share_the_pool()
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
    # Kept as long as lanekeeper keeps them: a connection closed under a client would count as failed.
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=75)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
