"""What arrays are taken, and how."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import nonius
from nonius import Index

whole = np.random.default_rng(3).integers(0, 100, (400, 16))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8", ">f4", "<f8", ">f2"])
def test_types_that_are_taken(dtype):
    expected = Index.build(whole.astype(np.float32)).search(whole[:9].astype(np.float32), k=4)
    index = Index.build(whole.astype(dtype))
    for queries in (whole[:9].astype(dtype), whole[:9].astype(np.float32)):
        for found, same in zip(index.search(queries, k=4), expected):
            assert np.array_equal(found, same)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "bool", "complex64", "U3", "object", "longdouble"])
def test_types_that_are_refused(dtype):
    with pytest.raises(TypeError, match="vectors: expected an array of float32.*astype"):
        Index.build(whole.astype(dtype))
    with pytest.raises(TypeError, match="queries: expected an array of float32"):
        Index.build(whole.astype(np.float32)).search(whole[0].astype(dtype))


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: np.frombuffer(b"x" + a.tobytes(), dtype=a.dtype, offset=1).reshape(a.shape),
        lambda a: np.ma.array(a),
        lambda a: memoryview(a),
        lambda a: a.view(type("Sub", (np.ndarray,), {})),
    ],
    ids=["fortran", "rows", "columns", "reversed", "unaligned", "masked", "memoryview", "subclass"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_layouts(layout, dtype):
    plain = whole.astype(dtype)
    expected = Index.build(plain).search(plain[:9], k=4)[0]
    index = Index.build(np.asarray(layout(plain)))
    assert np.array_equal(index.search(layout(plain[:9]), k=4)[0], expected)


def test_readonly_arrays_and_lists_are_taken():
    plain = whole.astype(np.float32)
    plain.flags.writeable = False
    index = Index.build(plain)
    ids, _ = index.search(plain[0].astype(float).tolist(), k=4)
    assert np.array_equal(ids, index.search(plain[0], k=4)[0])
    assert np.array_equal(index.search(plain[:2].astype(float).tolist(), k=4)[0][0], ids)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.uint8, np.int8])
def test_contiguous_arrays_are_not_copied(dtype):
    large = np.tile(whole, (100, 1)).astype(dtype)  # 40,000 x 16

    def copied(array):
        tracemalloc.start()
        try:
            Index.build(array, quantizer="f16", nlist=1, training_rows=100)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert copied(large) < large.nbytes / 4
    assert copied(np.asfortranarray(large)) >= large.nbytes


def test_mapped_arrays(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, whole.astype(np.float16))
    index = Index.build(np.load(path, mmap_mode="r"), path=tmp_path / "a.nonius")
    assert np.array_equal(index.search(whole[3].astype(np.float16), k=1, rerank=5)[0], [3])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_values_that_are_not_finite(bad, dtype):
    vectors = whole.astype(dtype)
    index = Index.build(vectors)
    vectors[123, 5] = bad
    with pytest.raises(nonius.VectorError, match="row 123, column 5"):
        Index.build(vectors)
    with pytest.raises(nonius.VectorError, match="row 123, column 5"):
        index.search(vectors)
    with pytest.raises(nonius.VectorError, match="row 0, column 5"):
        index.search(vectors[123])
    many = np.tile(vectors, (25, 1))[:9900]
    many[:8500] = 1
    with pytest.raises(nonius.VectorError, match="row 8523, column 5"):
        index.search(many)


def test_float64_beyond_float32():
    vectors = whole.astype(np.float64)
    vectors[7, 1] = 1e300
    with pytest.raises(nonius.VectorError, match="row 7, column 1"):
        Index.build(vectors)


def test_values_that_cannot_be_kept_or_compared():
    vectors = whole.astype(np.float32)
    vectors[9, 2] = 70_000
    with pytest.raises(nonius.VectorError, match="row 9, column 2 is 70000"):
        Index.build(vectors)
    assert len(Index.build(vectors, keep="f32")) == 400
    vectors[9] = 3e38
    with pytest.raises(nonius.VectorError, match="row 9"):
        Index.build(vectors, keep="f32")
    vectors[9] = 0
    with pytest.raises(nonius.VectorError, match="row 9 is a zero vector"):
        Index.build(vectors, metric="cosine")
    index = Index.build(vectors[:9], metric="cosine")
    with pytest.raises(nonius.VectorError, match="zero vector"):
        index.search(vectors[9])


def test_shapes():
    vectors = whole.astype(np.float32)
    index = Index.build(vectors)
    for bad in (vectors[0], vectors.reshape(20, 20, 16), np.float32(1)):
        with pytest.raises(nonius.VectorError, match="two dimensions, rows x dim"):
            Index.build(np.asarray(bad))
    for bad in (vectors.reshape(20, 20, 16), np.float32(1)):
        with pytest.raises(nonius.VectorError, match="rows x dim, or one of dim"):
            index.search(bad)
    for bad in (vectors[:, :5], vectors[0, :5], np.zeros((3, 0), np.float32), np.zeros(0, np.float32)):
        with pytest.raises(nonius.VectorError, match="dimension 16, found"):
            index.search(bad)
    for rows in (0, 5):
        with pytest.raises(nonius.Error):
            Index.build(np.zeros((rows, 0), np.float32))
    with pytest.raises(nonius.VectorError, match="65537"):
        Index.build(np.zeros((2, 65_537), np.float32))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    vectors=arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 40), st.integers(0, 12)),
        elements=st.floats(width=32),
    ),
    metric=st.sampled_from(["l2", "ip", "cosine"]),
    keep=st.sampled_from(["none", "f16", "f32"]),
    quantizer=st.sampled_from(["saq", "saq:0.5", "rabitq", "sq:4", "lvq:8", "f16"]),
    k=st.integers(0, 50),
    nprobe=st.integers(0, 50),
    nlist=st.none() | st.integers(0, 50),
)
def test_anything_is_answered_or_refused(vectors, metric, keep, quantizer, k, nprobe, nlist):
    """No array makes anything but an exception of our own."""
    try:
        index = Index.build(vectors, metric=metric, keep=keep, quantizer=quantizer, nlist=nlist)
        ids, distances = index.search(vectors, k=k, nprobe=nprobe)
    except nonius.Error as error:
        assert isinstance(error, ValueError) and str(error)
        return
    rows = len(vectors)
    assert np.isfinite(vectors).all() and len(index) == rows and 0 < k and 0 < nprobe
    assert ids.shape == distances.shape == (rows, min(k, rows))
    found = ids != -1
    assert ((ids[found] >= 0) & (ids[found] < rows)).all() and np.isfinite(distances[found]).all()
    for row in ids:
        row = row[row != -1]
        assert len(set(row)) == len(row)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60),
    dim=st.integers(1, 20),
    dtype=st.sampled_from([np.float32, np.float16, np.float64, np.uint8, np.int8]),
    transposed=st.booleans(),
    step=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_layout_and_type_change_nothing(rows, dim, dtype, transposed, step, seed):
    values = np.random.default_rng(seed).integers(0, 100, (rows * step, dim))
    array = values.astype(dtype)
    array = (array.T.copy().T if transposed else array)[::step]
    plain = np.ascontiguousarray(values[::step].astype(np.float32))
    expected = Index.build(plain, keep="f32").search(plain, k=3, rerank=10)
    for found, same in zip(Index.build(array, keep="f32").search(array, k=3, rerank=10), expected):
        assert np.array_equal(found, same)
