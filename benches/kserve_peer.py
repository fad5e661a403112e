"""KServe's own server with a model that computes nothing, for benches/protocols.rs.

It says on stderr where it listens, as lanekeeper does, and ends when its stdin does.
"""

import argparse
import os
import socket
import sys
import threading

import numpy
from kserve import InferOutput, InferResponse, Model, ModelServer

parser = argparse.ArgumentParser()
parser.add_argument("--core", type=int)
own, _ = parser.parse_known_args()
if own.core is not None:
    os.sched_setaffinity(0, {own.core})

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]


class Bench(Model):
    """Answers a number for each row."""

    def __init__(self):
        super().__init__("bench")
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        rows = payload.inputs[0].as_numpy().shape[0]
        output = InferOutput("output-0", [rows], "FP64")
        output.set_data_from_numpy(numpy.zeros(rows), binary_data=False)
        # It refuses an answer without an id.
        return InferResponse(payload.id or "none", "bench", [output])


def end_with_the_parent():
    sys.stdin.read()
    os._exit(0)


def say_when_it_listens():
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        threading.Event().wait(0.1)
    print(f"listening on http://127.0.0.1:{port}", file=sys.stderr, flush=True)


threading.Thread(target=end_with_the_parent, daemon=True).start()
threading.Thread(target=say_when_it_listens, daemon=True).start()
ModelServer(http_port=port, enable_grpc=False, access_log_format=None).start([Bench()])
