"""Building, opening and searching."""

import copy
import doctest
import os
import pickle
import threading

import numpy as np
import pytest
from conftest import clustered, exact, nearest

import nonius
from nonius import Index


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_search_finds_the_nearest(vectors, metric):
    index = Index.build(vectors, metric=metric, keep="f32", nlist=20)
    ids, distances = index.search(vectors[:50], k=10, nprobe=20, rerank=100)
    assert ids.shape == distances.shape == (50, 10)
    assert ids.dtype == np.int64 and distances.dtype == np.float32
    hits = 0
    for query, found, at in zip(vectors, ids, distances):
        truth = exact(metric, vectors, query)[found]
        np.testing.assert_allclose(at, truth, rtol=1e-4, atol=1e-4)
        assert np.all(np.diff(-at if metric == "ip" else at) >= 0)
        hits += len(set(found) & set(nearest(metric, vectors, query, 10)))
    assert hits >= 0.99 * 500


def test_one_query_finds_what_it_finds_in_a_batch(index, vectors):
    ids, distances = index.search(vectors[:300], k=7, nprobe=5, rerank=20)
    for row in range(300):
        alone = index.search(vectors[row], k=7, nprobe=5, rerank=20)
        assert alone[0].shape == alone[1].shape == (7,)
        assert np.array_equal(alone[0], ids[row]) and np.array_equal(alone[1], distances[row])
    as_matrix = index.search(vectors[:1], k=7, nprobe=5, rerank=20)
    assert as_matrix[0].shape == (1, 7) and np.array_equal(as_matrix[0][0], ids[0])


def test_batches_larger_than_a_piece_and_of_nothing(index, vectors):
    many = np.tile(vectors, (9, 1))  # 18,000 queries
    ids, distances = index.search(many, k=3)
    assert np.array_equal(ids.reshape(9, 2000, 3), np.broadcast_to(ids[:2000], (9, 2000, 3)))
    one_thread = index.search(many[:3000], k=3, threads=1)
    assert np.array_equal(one_thread[0], ids[:3000]) and np.array_equal(one_thread[1], distances[:3000])
    ids, distances = index.search(many[:0], k=3)
    assert ids.shape == distances.shape == (0, 3)


def test_fewer_than_k(vectors):
    index = Index.build(vectors[:40], nlist=10)
    # All of them, and no column more.
    ids, distances = index.search(vectors[:2], k=100, nprobe=10)
    assert ids.shape == (2, 40) and sorted(ids[0]) == list(range(40))
    ids, distances = index.search(vectors[:2], k=10**12, nprobe=1)
    missing = ids == -1
    assert missing.any() and not missing[:, 0].any()
    assert np.array_equal(np.isinf(distances), missing) and (distances[missing] > 0).all()
    index = Index.build(vectors[:40], nlist=10, metric="ip")
    ids, distances = index.search(vectors[0], k=40, nprobe=1)
    assert (distances[ids == -1] == -np.inf).all() and (ids == -1).any()


def test_files(tmp_path, index, vectors):
    path = tmp_path / "a.nonius"
    index.save(path)
    expected = index.search(vectors[:20], k=5)
    for opened in [Index.open(path), Index.open(str(path), into_memory=True), Index.open(path, check_lists=True)]:
        opened.warm()
        opened.verify()
        assert opened.info() == index.info() and opened.build_report() is None
        for found, same in zip(opened.search(vectors[:20], k=5), expected):
            assert np.array_equal(found, same)
    # Straight into a file, the bytes are the same.
    other = tmp_path / "b.nonius"
    assert len(Index.build(vectors, nlist=20, path=other)) == 2000
    assert other.read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.nonius", "b.nonius"]


def test_what_an_index_says_of_itself(index):
    assert len(index) == 2000 and index
    assert (index.dim, index.metric, index.nlist, index.keep, index.quantizer) == (24, "l2", 20, "f16", "saq:4")
    assert repr(index) == "<nonius.Index: 2000 x 24, l2, saq:4, 20 lists>"
    info = index.info()
    assert (info["vectors"], info["dim"], info["nlist"], info["keep"]) == (2000, 24, 20, "f16")
    assert sum(segment["dims"] for segment in info["plan"]) == 24
    assert sum(section["bytes"] for section in info["sections"]) <= info["file_bytes"]
    report = index.build_report()
    assert report["vectors"] == 2000 and report["total_seconds"] > 0 and len(report["inertia"]) > 0


def test_parameters_reach_the_library(vectors):
    for options, name in [
        ({"bits": 2}, "saq:2"),
        ({"bits": 0.5}, "saq:0.5"),
        ({"bytes": 12}, "saq:12B"),
        ({"quantizer": "rabitq"}, "rabitq"),
        ({"quantizer": "erabitq", "bits": 3}, "erabitq:3"),
        ({"quantizer": "pq", "bytes": 8, "metric": "ip", "anisotropic": 0.2}, "pq:8B"),
        ({"quantizer": "rvq:6B", "beam": 2, "weights": np.arange(2000.0)}, "rvq:6B"),
        ({"quantizer": "lvq:4x8", "spill": 0.5, "nlist": 9}, "lvq:4x8"),
        ({"quantizer": "pq:8B", "outlier_bytes": 9.5}, "pq:8B"),
    ]:
        index = Index.build(vectors, **options)
        assert index.quantizer == name
        assert index.nlist == options.get("nlist", 89)
        outliers = options.get("outlier_bytes", 0) * 2000 // (4 * vectors.shape[1] + 8)
        assert index.info()["outliers"] == index.build_report()["outliers"] == outliers
        assert index.info()["spilled"] == (pytest.approx(1000, abs=50) if "spill" in options else 0)
        ids, _ = index.search(vectors[:20], k=10, nprobe=89)
        assert (ids == np.arange(20)[:, None]).any(axis=1).mean() > 0.8
    assert Index.build(vectors, quantizer="pq:8B").build_report()["codebooks"][0]["centroids"] == 256
    assert Index.build(vectors, keep="none").keep == "none"
    seeds = [Index.build(vectors[:500], seed=seed, fast=seed == 2).search(vectors[0], 5)[1] for seed in (0, 0, 1)]
    assert np.array_equal(seeds[0], seeds[1]) and not np.array_equal(seeds[0], seeds[2])


def test_search_parameters_reach_the_library(vectors):
    index = Index.build(vectors, nlist=50, keep="none")
    for options in [{"nprobe": 1}, {"patience": 1}, {"centroid_ratio": 1.0}]:
        ids, _ = index.search(vectors, k=10, **{"nprobe": 50, **options})
        all_lists, _ = index.search(vectors, k=10, nprobe=50)
        assert not np.array_equal(ids, all_lists), options
    # Nothing is ruled out with so much confidence, and much with none.
    sure, unsure = (index.search(vectors, k=10, nprobe=50, confidence=c)[0] for c in (5.0, 0.0))
    assert not np.array_equal(sure, unsure)


def test_rerank_with_vectors_from_elsewhere(vectors):
    index = Index.build(vectors, keep="none", nlist=20)
    kept = Index.build(vectors, keep="f32", nlist=20)
    with pytest.raises(nonius.SearchError, match="keep"):
        index.search(vectors[0], k=5, rerank=10)
    for queries in (vectors[:9], vectors[3]):
        ids, distances = index.search(queries, k=5, rerank=50, rerank_from=vectors)
        expected = kept.search(queries, k=5, rerank=50)
        assert np.array_equal(ids, expected[0])
        np.testing.assert_allclose(distances, expected[1], rtol=1e-5, atol=1e-6)
    for bad in (vectors[:, :5], vectors[:7]):
        with pytest.raises(nonius.Error):
            index.search(vectors[0], k=5, rerank=50, rerank_from=bad)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint8, "list"])
def test_ids(vectors, dtype):
    ids = np.random.default_rng(2).permutation(250)
    given = ids.tolist() if dtype == "list" else ids.astype(dtype)
    index = Index.build(vectors[:250], ids=given, nlist=5)
    found, _ = index.search(vectors[:250], k=1, nprobe=5, rerank=20)
    assert np.array_equal(found[:, 0], ids)


def test_large_ids(vectors):
    ids = np.arange(100, dtype=np.uint64) + (2**63 - 100)
    index = Index.build(vectors[:100], ids=ids)
    assert index.search(vectors[99], k=1, rerank=5)[0][0] == 2**63 - 1
    for ids, message in [
        (np.arange(100) - 1, "id 0 is -1"),
        (np.arange(100, dtype=np.uint64) + 2**63, "id 0 is 9223372036854775808"),
        (np.arange(99), "99 ids given for 100 vectors"),
        (np.zeros(100, dtype=int), "id 0 is given to more than one"),
    ]:
        with pytest.raises(nonius.BuildError, match=message):
            Index.build(vectors[:100], ids=ids)
    for ids in (np.arange(100.0), np.arange(100).reshape(50, 2), ["a"] * 100):
        with pytest.raises(TypeError, match="integers of one dimension"):
            Index.build(vectors[:100], ids=ids)


def test_pickle_and_copy_are_refused(index):
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"index\.save\(path\)"):
            refused(index)
    with pytest.raises(TypeError):
        Index()


def test_threads_search_at_once(index, vectors):
    expected = [index.search(vectors[row], k=5)[0] for row in range(200)]
    wrong = []

    def work():
        for row in range(200):
            if not np.array_equal(index.search(vectors[row], k=5)[0], expected[row]):
                wrong.append(row)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_lock_is_released(vectors):
    """Another thread counts while a build is under way."""
    large = clustered(30_000, 64)
    counted, ended = [0], threading.Event()

    def count():
        while not ended.is_set():
            counted[0] += 1
            ended.wait(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counted[0]
        Index.build(large, progress=False)
        during = counted[0] - before
        Index.build(vectors, progress=False)
    finally:
        ended.set()
        thread.join()
    assert during > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_searches(index, vectors):
    expected = index.search(vectors, k=5)[0]  # starts threads, which a fork leaves behind
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(index.search(vectors, k=5)[0], expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "error, of",
    [
        (nonius.VectorError, ValueError),
        (nonius.ConfigError, ValueError),
        (nonius.BuildError, ValueError),
        (nonius.SearchError, ValueError),
        (nonius.FormatError, ValueError),
        (nonius.FileError, OSError),
        (nonius.MissingFileError, FileNotFoundError),
    ],
)
def test_errors_have_two_bases(error, of):
    assert issubclass(error, nonius.Error) and issubclass(error, of) and error.__module__ == "nonius"


def test_wrong_files(tmp_path, index):
    with pytest.raises(nonius.MissingFileError, match="none.nonius") as caught:
        Index.open(tmp_path / "none.nonius")
    assert caught.value.errno == 2
    with pytest.raises(nonius.FileError):
        index.save(tmp_path / "no" / "folder.nonius")
    with pytest.raises(nonius.FileError):
        Index.open(tmp_path)
    path = tmp_path / "text.nonius"
    path.write_bytes(b"no index" * 200)
    with pytest.raises(nonius.FormatError, match="not a Nonius index"):
        Index.open(path)
    index.save(path)
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[:-100])
    with pytest.raises(nonius.FormatError):
        Index.open(path)
    section = next(s for s in index.info()["sections"] if s["name"] == "rest")
    whole[section["offset"] + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(nonius.FormatError, match="checksum of rest"):
        Index.open(path).verify()
    with pytest.raises(nonius.FormatError, match="damaged"):
        Index.open(path, check_lists=True).search(np.zeros(24, dtype=np.float32), k=1, nprobe=20)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "manhattan"}, "metric: .*manhattan"),
        ({"quantizer": "xyz"}, "quantizer: .*xyz"),
        ({"quantizer": "saq:4", "bits": 4}, "names its size already"),
        ({"bits": 4, "bytes": 4}, "bits or bytes"),
        ({"bits": 99}, "0.25 to 12"),
        ({"bits": float("nan")}, "quantizer"),
        ({"bytes": -1}, "bytes: .*-1"),
        ({"nlist": 0}, "nlist: .*found 0"),
        ({"nlist": -3}, "nlist: .*-3"),
        ({"spill": 2.0}, "spill: .*found 2"),
        ({"keep": "f64"}, "keep: .*f64"),
        ({"outlier_bytes": -1.0}, "outlier_bytes: .*found -1"),
        ({"training_rows": 0}, "training_rows: .*found 0"),
        ({"beam": 3}, "beam: expected rvq or prq"),
        ({"anisotropic": 0.2}, "anisotropic: "),
        ({"threads": 0}, "threads: .*found 0"),
        ({"threads": 10**9}, "threads: .*found 1000000000"),
        ({"weights": np.ones(2000)}, "weights"),
    ],
)
def test_wrong_configurations(vectors, options, message):
    with pytest.raises(nonius.ConfigError, match=message):
        Index.build(vectors, **options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"k": 0}, nonius.SearchError, "k is 0"),
        ({"k": -1}, nonius.ConfigError, "k: .*-1"),
        ({"nprobe": 0}, nonius.SearchError, "nprobe is 0"),
        ({"nprobe": -1}, nonius.ConfigError, "nprobe: .*-1"),
        ({"rerank": -1}, nonius.ConfigError, "rerank: .*-1"),
        ({"confidence": -1.0}, nonius.SearchError, "confidence"),
        ({"confidence": float("nan")}, nonius.SearchError, "confidence"),
        ({"centroid_ratio": 0.5}, nonius.SearchError, "centroid_ratio"),
        ({"patience": -1}, nonius.ConfigError, "patience: .*-1"),
        ({"threads": -1}, nonius.ConfigError, "threads: .*-1"),
        ({"k": "ten"}, TypeError, "integer"),
        ({"k": 1.5}, TypeError, "integer"),
    ],
)
def test_wrong_searches(index, vectors, options, error, message):
    with pytest.raises(error, match=message):
        index.search(vectors[:2], **options)


def test_too_few_vectors(vectors):
    with pytest.raises(nonius.BuildError, match="nlist is 11 but there are only 10 vectors"):
        Index.build(vectors[:10], nlist=11)
    with pytest.raises(nonius.BuildError, match="no vectors"):
        Index.build(vectors[:0])
    assert len(Index.build(vectors[:1])) == 1


def test_the_example_of_the_module():
    results = doctest.testmod(nonius)
    assert results.attempted >= 4 and results.failed == 0


def test_everything_is_explained():
    for kind in (Index, nonius.Saq, nonius.SaqCodes, nonius.Quantizer, nonius.Codes):
        names = [name for name in vars(kind) if not name.startswith("_")]
        assert kind.__doc__ and names
        for name in names:
            assert getattr(kind, name).__doc__, f"{kind.__name__}.{name}"
