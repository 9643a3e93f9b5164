"""Nonius for ann-benchmarks: IVF over SAQ codes, or any other quantizer of Nonius."""

import nonius
import numpy

from ..base.module import BaseANN

METRICS = {"euclidean": "l2", "angular": "cosine", "ip": "ip"}


class Nonius(BaseANN):
    def __init__(self, metric, options):
        """`options` are keyword arguments of `nonius.Index.build`."""
        if metric not in METRICS:
            raise NotImplementedError(f"Nonius has no metric {metric}")
        self._metric = METRICS[metric]
        self._options = dict(options)
        self._index = None
        self._search = {"nprobe": 1, "rerank": 0}
        self.res = None

    def fit(self, X):
        self._index = nonius.Index.build(_floats(X), metric=self._metric, progress=False, **self._options)

    def set_query_arguments(self, nprobe, rerank):
        """`rerank` estimates are compared exactly; 0 compares none."""
        self._search = {"nprobe": nprobe, "rerank": rerank}

    def query(self, v, n):
        ids, _ = self._index.search(_floats(v), n, **self._search)
        return _present(ids)

    def batch_query(self, X, n):
        # All threads that the harness leaves us.
        self.res, _ = self._index.search(_floats(X), n, **self._search)

    def get_batch_results(self):
        return [_present(ids) for ids in self.res]

    def get_additional(self):
        info = self._index.info()
        return {"bytes_per_vector": info["bytes_per_vector"], "file_bytes": info["file_bytes"]}

    def __str__(self):
        options = ", ".join(f"{name}={value}" for name, value in self._options.items())
        return f"Nonius({options}, nprobe={self._search['nprobe']}, rerank={self._search['rerank']})"


def _floats(values):
    """Nonius takes float32, float16, float64 and bytes as they are."""
    return values if values.dtype.kind == "f" or values.dtype.itemsize == 1 else values.astype(numpy.float32)


def _present(ids):
    """Where fewer than n are found, -1 stands; the harness wants every id once."""
    return ids[ids >= 0] if ids[-1] < 0 else ids
