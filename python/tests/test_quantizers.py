"""Quantizers without an index."""

import pickle

import numpy as np
import pytest
from conftest import exact

import nonius
from nonius import Quantizer, Saq


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_saq(vectors, metric):
    saq = Saq.train(vectors, metric=metric, bits=6)
    codes = saq.encode(vectors)
    assert len(codes) == 2000 and 18 <= codes.bytes_per_vector <= 26
    distances, deviations = saq.estimate(codes, vectors[:10])
    assert distances.shape == deviations.shape == (10, 2000) and distances.dtype == np.float32
    for query, row, deviation in zip(vectors, distances, deviations):
        errors = np.abs(row - exact(metric, vectors, query))
        assert (errors <= 3 * deviation + 1e-4).mean() > 0.98
    alone = saq.estimate(codes, vectors[3])
    assert alone[0].shape == (2000,) and np.array_equal(alone[0], distances[3])
    assert (saq.dim, saq.metric) == (24, metric) and sum(s["dims"] for s in saq.plan) == 24
    assert repr(saq) == f"<nonius.Saq: saq:6, 24 dimensions, {metric}>"


def test_decoding_comes_nearer_with_bits(vectors):
    saq = Saq.train(vectors, quantizer="erabitq:8")
    codes = saq.encode(vectors)
    errors = [((saq.decode(codes, bits=bits) - vectors) ** 2).sum() for bits in (2, 4, 6, None)]
    assert np.all(np.diff(errors) < 0) and errors[-1] < 1e-3 * (vectors**2).sum()
    decoded = saq.decode(codes)
    assert decoded.shape == vectors.shape and decoded.dtype == np.float32
    assert np.array_equal(saq.decode(codes, 7), decoded[7]) and np.array_equal(saq.decode(codes, -1), decoded[-1])
    assert np.array_equal(saq.decode(codes, [3, 1]), decoded[[3, 1]])
    assert np.array_equal(saq.decode(codes, np.arange(5)), decoded[:5])
    assert codes.numbers().shape == (2000, 24) and codes.numbers(4).max() < 256
    assert np.array_equal(codes.numbers([4])[0], codes.numbers(4))


def test_every_other_quantizer(vectors):
    for options in [
        {"quantizer": "pq", "bytes": 8},
        {"quantizer": "rvq:6B", "beam": 2},
        {"quantizer": "lvq:4x8"},
        {"quantizer": "f16"},
        {"quantizer": "pq:8B", "metric": "ip", "anisotropic": 0.2, "weights": np.arange(2000)[::-1] * 1.0},
    ]:
        quantizer = Quantizer.train(vectors, **options)
        codes = quantizer.encode(vectors[:777])
        assert len(codes) == 777 and codes.bytes_per_vector > 0
        estimates = quantizer.estimate(codes, vectors[:5])
        truth = np.stack([exact(quantizer.metric, vectors[:777], query) for query in vectors[:5]])
        assert ((estimates - truth) ** 2).sum() < 0.2 * ((truth - truth.mean()) ** 2).sum()
        assert np.array_equal(quantizer.estimate(codes, vectors[2]), estimates[2])
        assert quantizer.symmetric(codes, 3).shape == (777,)
        assert len(codes.uses()) == quantizer.codebooks
        coarse = ((quantizer.decode(codes, levels=0) - vectors[:777]) ** 2).sum()
        assert ((quantizer.decode(codes) - vectors[:777]) ** 2).sum() < coarse
        assert codes.numbers().shape[0] == 777 and quantizer.levels >= 1
    assert Quantizer.train(vectors).plan and repr(quantizer) == "<nonius.Quantizer: pq:8B, 24 dimensions, ip>"


@pytest.mark.parametrize("kind", [Saq, Quantizer])
def test_wrong_use(vectors, kind):
    quantizer, other = kind.train(vectors[:300]), kind.train(vectors[:300], seed=1)
    codes = quantizer.encode(vectors[:9])
    for wrong in (lambda: other.decode(codes), lambda: other.estimate(codes, vectors[0])):
        with pytest.raises(nonius.ConfigError, match="another quantizer"):
            wrong()
    for row in (9, -10, 10**18, [0, 9]):
        with pytest.raises(IndexError):
            quantizer.decode(codes, row)
    for row in (1.5, "a", [None]):
        with pytest.raises(TypeError):
            quantizer.decode(codes, row)
    for bad in (vectors[:, :5], np.full((2, 24), np.nan)):
        with pytest.raises(nonius.VectorError):
            quantizer.encode(bad)
        with pytest.raises(nonius.VectorError):
            quantizer.estimate(codes, bad)
        with pytest.raises(nonius.VectorError):
            quantizer.estimate(codes, bad[0])
    with pytest.raises(nonius.BuildError, match="no vectors"):
        kind.train(vectors[:0])
    with pytest.raises(nonius.ConfigError):
        kind.train(vectors, bits=99)
    for refused in (quantizer, codes):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(refused)
    empty = quantizer.encode(vectors[:0])
    assert len(empty) == 0 and quantizer.decode(empty).shape == (0, 24)
    assert np.shape(quantizer.estimate(empty, vectors[:3])) in [(3, 0), (2, 3, 0)]
    assert empty.numbers().shape[0] == 0
    with pytest.raises(nonius.ConfigError, match="expected saq, rabitq or erabitq"):
        Saq.train(vectors, quantizer="pq:8B")


def test_training_is_reproducible(vectors):
    one, two, fast = (Saq.train(vectors, seed=5, fast=fast).encode(vectors).numbers() for fast in (False, False, True))
    assert np.array_equal(one, two) and not np.array_equal(one, fast)
