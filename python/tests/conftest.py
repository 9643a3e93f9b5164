import numpy as np
import pytest

import nonius


def clustered(rows, dim, seed=1):
    """Vectors around a few centres, with fewer and fewer spread from dimension to dimension."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dim))
    values = 0.7 * centres[random.integers(20, size=rows)] + random.standard_normal((rows, dim))
    return (values / (1 + np.arange(dim) / 8)).astype(np.float32)


def exact(metric, vectors, query):
    """Distances in float64, with the signs and scales of the metric."""
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return ((vectors - query) ** 2).sum(axis=1)
    products = vectors @ query
    if metric == "ip":
        return products
    return 1 - products / np.sqrt((vectors**2).sum(axis=1) * (query**2).sum())


def nearest(metric, vectors, query, k):
    distances = exact(metric, vectors, query)
    return np.argsort(-distances if metric == "ip" else distances, kind="stable")[:k]


@pytest.fixture(scope="session")
def vectors():
    return clustered(2000, 24)


@pytest.fixture(scope="session")
def index(vectors):
    return nonius.Index.build(vectors, nlist=20)
