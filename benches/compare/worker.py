"""A peer in a process of its own, driven over pipes; `nonius_worker.rs` speaks the same.

Commands come on standard input, one line of JSON each; each is answered with a line of JSON:

    {"build": {"base": F, "queries": F, "k": 10, "options": {...}}}
        -> {"bytes": a vector, "wall": s, "cpu": s}
    {"search": {"setting": {...}, "mode": "batch" or "single", "seconds": s, "ids": F or null}}
        -> {"queries": answered, "wall": s, "cpu": s}

A search warms up with 100 queries, then answers all of them again and again until the seconds have
passed. Whatever goes wrong is answered with {"error": message}.
"""

import json
import os
import sys
import time
import traceback

import numpy as np

import peers

WARM_UP = 100


class Worker:
    def __init__(self, name):
        self.name = name

    def build(self, base, queries, k, options):
        self.queries, self.k = np.load(queries), k
        vectors = np.load(base)
        self.peer = peers.PEERS[self.name](options["nlist"])
        wall, cpu = time.perf_counter(), time.process_time()
        size = self.peer.build(vectors, k)
        # Measuring the size is in these times: it is small beside the build.
        return dict(bytes=size, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)

    def search(self, setting, mode, seconds, ids):
        self.peer.set(setting)
        answer = self.batch if mode == "batch" else self.singles
        answer(self.queries[:WARM_UP])
        answered = 0
        wall, cpu = time.perf_counter(), time.process_time()
        while answered == 0 or time.perf_counter() - wall < seconds:
            found = answer(self.queries)
            answered += len(self.queries)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if ids:
            np.asarray(found).reshape(len(self.queries), self.k).astype("<i4").tofile(ids)
        return dict(queries=answered, wall=wall, cpu=cpu)

    def batch(self, queries):
        return self.peer.batch(queries)

    def singles(self, queries):
        single = self.peer.single
        return [single(queries[i:i + 1]) for i in range(len(queries))]


def main():
    # What peers print goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        ((command, arguments),) = json.loads(line).items()
        try:
            answer = getattr(worker, command)(**arguments)
        except Exception as error:  # whatever a peer may throw
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
