"""Nonius for VIBE: IVF over SAQ codes, or any other quantizer of Nonius."""

import nonius
import numpy as np

from ..base.module import BaseANN

# Vectors of the sets called normalized have unit norm, where inner products rank like cosines.
METRICS = {"euclidean": "l2", "cosine": "cosine", "ip": "ip", "normalized": "ip"}


class Nonius(BaseANN):
    def __init__(self, metric, quantizer, nlist, spill, keep):
        if metric not in METRICS:
            raise NotImplementedError(f"Nonius has no metric {metric}")
        self._options = {
            "metric": METRICS[metric],
            "quantizer": quantizer,
            "nlist": nlist,
            "spill": spill,
            "keep": keep,
        }
        self._index = None
        self._search = {"nprobe": 1, "rerank": 0}
        self.res = None

    def fit(self, X):
        # All indexes of VIBE are built on one thread.
        self._index = nonius.Index.build(_floats(X), threads=1, progress=False, **self._options)

    def set_query_arguments(self, query_args):
        """Lists to search, and how many estimates to compare exactly."""
        nprobe, rerank = query_args
        self._search = {"nprobe": nprobe, "rerank": rerank}

    def query(self, v, n):
        ids, _ = self._index.search(_floats(v), n, **self._search)
        return _present(ids)

    def batch_query(self, X, n):
        self.res, _ = self._index.search(_floats(X), n, threads=1, **self._search)

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
    return values if values.dtype.kind == "f" or values.dtype.itemsize == 1 else values.astype(np.float32)


def _present(ids):
    """Where fewer than n are found, -1 stands, which would be the last vector."""
    return ids[ids >= 0] if ids[-1] < 0 else ids
