"""Sets of vectors: files in, f32 arrays out, and what recall means."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def read_vectors(path):
    """Vectors of a .npy, .fvecs, .bvecs or .fbin file as f32."""
    path = Path(path)
    suffix = path.suffix
    if suffix == ".npy":
        vectors = np.load(path)
    elif suffix in (".fvecs", ".bvecs"):
        raw = np.fromfile(path, dtype=np.uint8)
        (dim,) = struct.unpack("<i", raw[:4].tobytes())
        value = np.dtype("<f4") if suffix == ".fvecs" else np.dtype("u1")
        rows = raw.reshape(-1, 4 + dim * value.itemsize)[:, 4:]
        vectors = np.ascontiguousarray(rows).view(value)
    elif suffix == ".fbin":
        with open(path, "rb") as file:
            rows, dim = struct.unpack("<II", file.read(8))
            vectors = np.fromfile(file, dtype="<f4").reshape(rows, dim)
    else:
        raise ValueError(f"{path}: expected .npy, .fvecs, .bvecs or .fbin")
    if vectors.ndim != 2:
        raise ValueError(f"{path}: expected rows of vectors, found shape {vectors.shape}")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def read_ids(path):
    """Rows of ids of an .ivecs file."""
    raw = np.fromfile(path, dtype="<i4")
    return raw.reshape(-1, raw[0] + 1)[:, 1:].copy()


@dataclass
class Set:
    """A base, queries, and the true neighbours of each query by squared L2, nearest first."""

    base: np.ndarray
    queries: np.ndarray
    truth: np.ndarray

    @property
    def unit_norm(self):
        """Whether L2, cosine and inner product rank alike."""
        return bool(np.allclose(np.linalg.norm(self.base[:1000], axis=1), 1.0, atol=1e-2))


def load(base, queries, truth, max_queries=None):
    """Reads a set; with `max_queries`, only so many queries of it."""
    loaded = Set(read_vectors(base), read_vectors(queries), read_ids(truth))
    if len(loaded.truth) != len(loaded.queries):
        raise ValueError(f"{len(loaded.queries)} queries, truth for {len(loaded.truth)}")
    if max_queries:
        loaded.queries, loaded.truth = loaded.queries[:max_queries], loaded.truth[:max_queries]
    return loaded


def recall(found, truth, k):
    """The share of the true k nearest among the ids found."""
    hits = sum(len(np.intersect1d(row, true[:k])) for row, true in zip(found, truth))
    return hits / (k * len(truth))
