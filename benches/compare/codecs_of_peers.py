"""The codes of peers, one class each. To add one: write a class, and add it to `CODECS`.

A codec is trained on a sample, encodes the base, and estimates the squared distances of queries to
all of it. Vectors come centred. `bytes` counts codes and factors of a vector, without an id.
`slow` marks estimators that take too long for all queries.
"""

import os
import tempfile
from pathlib import Path

import numpy as np


class Decoder:
    """Codes that are decoded: the estimate is the distance to the decoded vector.

    The norm of the decoded vector, which a scan of PQ-like codes may store (RQ and LSQ need it),
    is not counted in `bytes`.
    """

    slow = False

    def encode(self, base):
        self.codes = self.index.sa_encode(base)
        self.bytes = self.codes.shape[1]

    def prepare(self):
        self.decoded = self.index.sa_decode(self.codes)
        self.norms = np.einsum("ij,ij->i", self.decoded, self.decoded)

    def estimates(self, queries):
        norms = np.einsum("ij,ij->i", queries, queries)[:, None]
        return norms + self.norms - 2 * (queries @ self.decoded.T)


class Faiss(Decoder):
    """A codec of faiss by its factory string."""

    def __init__(self, name, dim, factory):
        import faiss

        faiss.omp_set_num_threads(1)
        self.name = "faiss " + name
        self.index = faiss.index_factory(dim, factory)

    def train(self, sample):
        self.index.train(sample)


class Padded(Faiss):
    """The same where the bytes do not divide the dimensions: zeros are appended to each vector."""

    def __init__(self, name, dim, padded_dim, factory):
        super().__init__(name, padded_dim, factory)
        self.extra = padded_dim - dim

    def pad(self, vectors):
        return np.pad(vectors, ((0, 0), (0, self.extra)))

    def train(self, sample):
        super().train(self.pad(sample))

    def encode(self, base):
        super().encode(self.pad(base))

    def estimates(self, queries):
        return super().estimates(self.pad(queries))


# `np` leaves polysemous training out: it only renumbers codewords, and takes most of the time.
def pq(name, dim, bytes_):
    if dim % bytes_:
        raise ValueError(f"PQ of {bytes_} bytes needs dimensions that they divide, found {dim}")
    return Faiss(name, dim, f"PQ{bytes_}x8np")


def pq4(name, dim, bytes_):
    parts = 2 * bytes_
    padded = -(-dim // parts) * parts
    return Padded(name, dim, padded, f"PQ{parts}x4np")


def opq(name, dim, bytes_):
    padded = -(-dim // bytes_) * bytes_
    return Padded(name, dim, padded, f"OPQ{bytes_},PQ{bytes_}x8np")


class Additive(Faiss):
    """RQ and LSQ."""

    def __init__(self, name, dim, bytes_):
        super().__init__(name, dim, f"{name.split(':')[0].upper()}{bytes_}x8")
        if name.startswith("rq"):
            import faiss

            # Sums of tables instead of distances of residuals: faster, with the same codes.
            faiss.downcast_index(self.index).rq.use_beam_LUT = 1


class Estimator:
    """Codes of faiss with factors, by its own estimator, behind a random rotation."""

    slow = True

    def __init__(self, name, dim, factory):
        import faiss

        faiss.omp_set_num_threads(1)
        self.name = "faiss " + name
        self.index = faiss.index_factory(dim, factory)
        if hasattr(self.index, "qb"):
            self.index.qb = 0  # queries as they are, not rounded
        random = np.random.default_rng(0)
        self.rotation = np.linalg.qr(random.standard_normal((dim, dim)))[0].astype(np.float32)

    def train(self, sample):
        self.index.train(sample @ self.rotation)

    def encode(self, base):
        self.index.add(base @ self.rotation)
        self.bytes = self.index.sa_code_size()

    def prepare(self):
        pass

    def estimates(self, queries):
        # All vectors within any distance: the estimates without a heap.
        _, distances, ids = self.index.range_search(queries @ self.rotation, np.inf)
        estimates = np.empty((len(queries), self.index.ntotal), dtype=np.float32)
        np.put_along_axis(estimates, ids.reshape(estimates.shape),
                          distances.reshape(estimates.shape), axis=1)
        return estimates


class Rabitqlib:
    """(Extended) RaBitQ of its authors: their IVF with one list, all of it searched."""

    slow = True

    def __init__(self, name, dim, bits):
        import rabitqlib

        self.name, self.dim, self.bits = name, dim, bits
        self.fast = name.startswith("rabitqlib-fast")
        self.library = rabitqlib

    def train(self, sample):
        pass

    def encode(self, base):
        count = len(base)
        self.index = self.library.IvfIndex(self.dim, count, 1, self.bits, "l2")
        self.index.build(base, np.zeros((1, self.dim), np.float32), np.zeros(count, np.uint32), 1,
                         self.fast)

    def prepare(self):
        count = self.index.num_points
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index")
            self.index.save(str(path))
            # All of the file but 4 bytes of id a vector.
            self.bytes = round(os.path.getsize(path) / count) - 4

    def estimates(self, queries):
        ids, distances = self.index.search(queries, self.index.num_points, 1, True, 1)
        estimates = np.empty_like(distances)
        np.put_along_axis(estimates, ids.astype(np.int64), distances, axis=1)
        return estimates


# Name: how to make it from (name, dim, number); the number is bytes or bits.
CODECS = {
    "pq": pq,
    "pq4": pq4,
    "opq": opq,
    "rq": Additive,
    "lsq": Additive,
    "sq": lambda name, dim, bits: Faiss(name, dim, f"SQ{bits}"),
    "eden": lambda name, dim, bits: Estimator(name, dim, f"EDEN{bits}"),
    "rabitq": lambda name, dim, bits: Estimator(
        name, dim, "RaBitQ" if bits == 1 else f"RaBitQ{bits}"),
    "rabitqlib": Rabitqlib,
    "rabitqlib-fast": Rabitqlib,
}

DEFAULT_BITS = {
    "sq": (4, 6, 8),
    "eden": (1, 2, 3, 4, 5, 6, 8),
    "rabitq": (1, 2, 4, 8),
    "rabitqlib": (1, 2, 3, 4, 6, 8),
    "rabitqlib-fast": (4, 8),
}


def names(codecs, bytes_):
    """The names asked for, or else those of all codecs at the default bits and the given bytes."""
    if codecs:
        return codecs.split(",")
    of_bits = [f"{kind}:{bits}" for kind, all_bits in DEFAULT_BITS.items() for bits in all_bits]
    of_bytes = [f"{kind}:{n}" for kind in ("pq", "opq", "rq") for n in bytes_.split(",")]
    return of_bits + of_bytes


def make(name, vectors):
    """A codec by its name, such as `pq:16` or `eden:4`."""
    kind, _, number = name.partition(":")
    if kind not in CODECS or not number.isdigit():
        raise ValueError(f"expected one of {', '.join(CODECS)} and a number, found {name}")
    return CODECS[kind](name, vectors.base.shape[1], int(number))
