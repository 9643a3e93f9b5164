"""The entrants of ann-benchmarks and VIBE, called as these call them."""

import importlib.util
import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import nearest

import nonius

yaml = pytest.importorskip("yaml")
BENCHES = Path(__file__).resolve().parents[2] / "benches"


class BaseANN:
    """What the entrants are derived from; the real one is the harness's."""


def entrant(harness):
    """Imports the module of an entrant where it would lie in its harness."""
    package = f"{harness.replace('-', '_')}.algorithms"
    names = [package.split(".")[0], package, f"{package}.base", f"{package}.base.module", f"{package}.nonius"]
    modules = {name: types.ModuleType(name) for name in names}
    for module in modules.values():
        module.__path__ = []
    modules[f"{package}.base.module"].BaseANN = BaseANN
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(modules)
    try:
        path = BENCHES / harness / "nonius" / "module.py"
        spec = importlib.util.spec_from_file_location(f"{package}.nonius.module", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Nonius
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def runs(harness, constructor_of):
    """Pairs of the arguments for the constructor and of those for queries, as the harness reads them."""
    config = yaml.safe_load((BENCHES / harness / "nonius" / "config.yml").read_text())
    for of_type in config.values():
        for algorithms in of_type.values():
            for algorithm in algorithms:
                assert algorithm["constructor"] == "Nonius" and algorithm["base_args"] == ["@metric"]
                assert algorithm["module"] == f"{harness.replace('-', '_')}.algorithms.nonius"
                for group in algorithm["run_groups"].values():
                    yield from constructor_of(group)


def lists(group):
    """ann-benchmarks: all combinations of lists."""
    queries = list(itertools.product(*group["query_args"]))
    for args in itertools.product(*group["args"]):
        yield list(args), queries


def dictionaries(group):
    """VIBE: combinations of the values of a dictionary; dictionaries among arguments become lists."""
    queries = [[list(arg.values()) for arg in args] for args in itertools.product(*group["query_args"])]
    for args in itertools.product(*group["args"].values()):
        yield list(args), queries


@pytest.mark.parametrize("harness, read", [("ann-benchmarks", lists), ("vibe", dictionaries)])
def test_every_configuration_is_accepted(harness, read):
    Nonius = entrant(harness)
    names, settings = set(), 0
    for args, queries in runs(harness, read):
        # Through JSON, as arguments go to the container.
        algorithm = Nonius("euclidean", *json.loads(json.dumps(args)))
        assert queries
        for query in json.loads(json.dumps(queries)):
            algorithm.set_query_arguments(*query)
            names.add(str(algorithm))
            settings += 1
        # The numbers of lists need more vectors than there are here.
        options = {name: value for name, value in algorithm._options.items() if name not in ("nlist", "metric")}
        nonius.Index.build(np.random.default_rng(1).random((40, 16), dtype=np.float32), **options)
    assert settings >= 50 and len(names) >= 50


@pytest.mark.parametrize(
    "harness, metric, of",
    [
        ("ann-benchmarks", "euclidean", "l2"),
        ("ann-benchmarks", "angular", "cosine"),
        ("vibe", "euclidean", "l2"),
        ("vibe", "cosine", "cosine"),
        ("vibe", "ip", "ip"),
        ("vibe", "normalized", "ip"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_answers(vectors, harness, metric, of, dtype):
    Nonius = entrant(harness)
    if dtype is np.uint8:
        vectors = np.clip(vectors * 30 + 100, 0, 255)
    vectors = vectors.astype(dtype)
    if harness == "vibe":
        algorithm = Nonius(metric, "saq:6", 20, 0.0, "f16")
        algorithm.fit(vectors)
        algorithm.set_query_arguments([20, 100])
    else:
        algorithm = Nonius(metric, {"quantizer": "saq:6", "nlist": 20})
        algorithm.fit(vectors)
        algorithm.set_query_arguments(20, 100)
    hits = 0
    for query in vectors[:40]:
        ids = algorithm.query(query, 10)
        assert len(ids) == len(set(ids)) == 10
        hits += len(set(ids) & set(nearest(of, vectors, query, 10)))
    assert hits > 0.97 * 400
    assert algorithm.batch_query(vectors[:40], 10) is None
    batch = algorithm.get_batch_results()
    assert len(batch) == 40 and np.array_equal(batch[7], algorithm.query(vectors[7], 10))
    assert algorithm.get_additional()["bytes_per_vector"] > 0
    assert "nprobe=20, rerank=100" in str(algorithm)
    with pytest.raises(NotImplementedError):
        Nonius("jaccard", *([{}] if harness != "vibe" else ["saq", 1, 0.0, "f16"]))


@pytest.mark.parametrize("harness", ["ann-benchmarks", "vibe"])
def test_no_id_stands_for_nothing(vectors, harness):
    """Where a search finds fewer than were asked for, the harness gets fewer."""
    Nonius = entrant(harness)
    algorithm = Nonius("euclidean", *(["saq:4", 20, 0.0, "f16"] if harness == "vibe" else [{"nlist": 20}]))
    algorithm.fit(vectors[:100])
    algorithm.set_query_arguments(*([[1, 0]] if harness == "vibe" else [1, 0]))
    ids = algorithm.query(vectors[0], 50)
    assert 0 < len(ids) < 50 and (ids >= 0).all()
    algorithm.batch_query(vectors[:9], 50)
    assert all(0 < len(ids) < 50 and (ids >= 0).all() for ids in algorithm.get_batch_results())
