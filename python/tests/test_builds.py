"""Builds from files and blocks, their progress, and how they end."""

import io
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import clustered

import nonius
from nonius import Index


@pytest.fixture(scope="module")
def expected(vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "index.nonius"
    Index.build(vectors, nlist=20, path=path)
    return path.read_bytes()


def test_files_of_vectors(tmp_path, vectors, expected):
    np.save(tmp_path / "vectors.npy", vectors)
    prefix = np.full((len(vectors), 1), vectors.shape[1], dtype=np.int32).view(np.float32)
    np.hstack([prefix, vectors]).tofile(tmp_path / "vectors.fvecs")
    for name in ("vectors.npy", "vectors.fvecs"):
        for path in (tmp_path / name, str(tmp_path / name)):
            Index.build(path, nlist=20, path=tmp_path / "index")
            assert (tmp_path / "index").read_bytes() == expected
    with pytest.raises(nonius.MissingFileError, match="none.npy"):
        Index.build(tmp_path / "none.npy")
    with pytest.raises(nonius.FormatError, match="unknown format"):
        Index.build("vectors.txt")
    with pytest.raises(nonius.FormatError, match="without the feature"):
        Index.build("vectors.parquet")
    np.save(tmp_path / "nan.npy", np.where(np.arange(24) == 7, np.nan, vectors))
    with pytest.raises(nonius.VectorError, match="nan.npy: row 0, column 7"):
        Index.build(tmp_path / "nan.npy")
    with pytest.raises(TypeError, match="found bytes"):
        Index.build(b"vectors.npy")


def blocks(vectors, *cuts):
    yield from np.split(vectors, cuts)


@pytest.mark.parametrize("path", [None, "index"])
def test_blocks(tmp_path, monkeypatch, vectors, expected, path):
    monkeypatch.chdir(tmp_path)
    for source in (
        blocks(vectors, 1, 700, 700, 1999),
        [vectors[:5].astype(np.float64), np.asfortranarray(vectors[5:1000]), vectors[1000:]],
        iter(vectors),
    ):
        index = Index.build(source, nlist=20, path=path)
        index.save("copy")
        assert (tmp_path / "copy").read_bytes() == expected
        assert sorted(os.listdir()) == (["copy"] if path is None else ["copy", "index"])


def test_wrong_blocks(tmp_path, vectors):
    def failing():
        yield vectors
        raise KeyError("the database is gone")

    bad = vectors.copy()
    bad[10, 3] = np.inf
    for source, error, message in [
        (blocks(vectors[:0]), nonius.BuildError, "no vectors"),
        ([], nonius.BuildError, "no vectors"),
        ([vectors, vectors[:, :5]], nonius.VectorError, "block 1 of vectors: .*dimension 24, found 5"),
        ([vectors, bad], nonius.VectorError, "row 2010, column 3 is inf"),
        ([vectors.astype(int)], TypeError, "block 0 of vectors: .*int64"),
        ([[["a"]]], TypeError, "block 0 of vectors"),
        (failing(), KeyError, "the database is gone"),
        (17, TypeError, "vectors: .*int"),
        (None, TypeError, "vectors: .*NoneType"),
    ]:
        with pytest.raises(error, match=message):
            Index.build(source, path=tmp_path / "index")
        assert os.listdir(tmp_path) == []


def test_progress(vectors):
    heard = []
    Index.build(vectors, nlist=20, progress=lambda *report: heard.append(report))
    stages = list(dict.fromkeys(stage for stage, _, _ in heard))
    assert stages[0] == "sampling" and "encoding" in stages and len(stages) >= 4
    assert all(0 <= done <= total for _, done, total in heard)
    for wrong in ("yes", 3):
        with pytest.raises(TypeError, match="progress"):
            Index.build(vectors, progress=wrong)


def test_progress_on_a_terminal(vectors, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stderr, progress, shown in [
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
        (None, True, False),
    ]:
        monkeypatch.setattr(sys, "stderr", stderr)
        Index.build(vectors, nlist=20, progress=progress)
        text = stderr.getvalue() if stderr else ""
        assert ("encoding" in text) == shown
        assert not shown or text.endswith("\r")


def test_an_exception_of_the_listener_ends_the_build(tmp_path, vectors):
    def listener(stage, done, total):
        raise LookupError("enough of " + stage)

    with pytest.raises(LookupError, match="enough of sampling"):
        Index.build(vectors, path=tmp_path / "index", progress=listener)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_a_build(tmp_path):
    """In a process of its own, as Ctrl-C meets the whole process."""
    np.save(tmp_path / "vectors.npy", clustered(20_000, 64))
    out = tmp_path / "out"
    out.mkdir()
    program = textwrap.dedent(
        """
        import signal, sys, nonius
        # Where the tests run in the background, the signal may be ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            # It would take half a minute or more.
            nonius.Index.build(sys.argv[1], quantizer="rvq:48B", beam=64, path=sys.argv[2],
                               progress=lambda stage, done, total: print(stage, flush=True))
        except KeyboardInterrupt:
            sys.exit(42)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "vectors.npy"), str(out / "index")],
        stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()  # the build has begun
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 42
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert os.listdir(out) == []
