"""The peers, one class each, as thin as can be. To add one: write a class, and add it to `PEERS`.

A peer builds its index from the base, says how many bytes it keeps, and answers queries at a
setting. `families` lists settings; within a family recall grows from one setting to the next, and
the driver looks for the first that reaches a recall. All peers get the same base and queries (f32),
one thread, and the same number of lists where they have lists.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

# Finer than powers of two, so that a recall is not overshot by much.
NPROBE = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 26, 28,
          30, 32, 34, 36, 38, 40, 42, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 96, 104, 112, 120,
          128, 136, 144, 152, 160, 168, 176, 192, 208, 224, 240, 256, 272, 288, 304, 320, 352, 384,
          416, 448, 480, 512]
EF = [10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 88, 96, 112,
      128, 144, 160, 176, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1280]


def product(grid, name, **others):
    """One family for each value of another parameter, over a grid of the main one."""
    ((other, values),) = others.items() if others else ((None, [None]),)
    fixed = [{} if other is None else {other: value} for value in values]
    return [[{name: value} | rest for value in grid] for rest in fixed]


def file_bytes(save):
    """The size of what `save(path)` writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(str(Path(folder, "index")))
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


class Peer:
    """What the classes below share."""

    def __init__(self, nlist):
        self.nlist = nlist

    def set(self, setting):
        """Prepares for searches at a setting."""
        self.setting = setting

    def single(self, query):
        """The ids of one query, given as a row."""
        return self.batch(query)


class Faiss(Peer):
    factory = "Flat"

    def build(self, base, k):
        import faiss

        faiss.omp_set_num_threads(1)
        self.k = k
        self.faiss = faiss
        dim = base.shape[1]
        factory = self.factory.format(nlist=self.nlist, half=dim // 2, quarter=dim // 4, dim=dim)
        self.index = faiss.index_factory(dim, factory)
        self.index.train(base)
        self.index.add(base)
        return len(faiss.serialize_index(self.index)) / len(base)

    def families(self):
        return [[{}]]

    def batch(self, queries):
        return self.index.search(queries, self.k)[1]


class FaissRefine(Faiss):
    """Lists of 4-bit PQ with FastScan; `factor` times k of them are compared again."""

    def families(self):
        return product([n for n in NPROBE if n <= self.nlist], "nprobe", factor=[2, 4, 8, 16, 32])

    def set(self, setting):
        self.faiss.extract_index_ivf(self.index.base_index).nprobe = setting["nprobe"]
        self.index.k_factor = setting["factor"]


class FaissPqSq8(FaissRefine):
    factory = "IVF{nlist},PQ{half}x4fs,Refine(SQ8)"


class FaissPqF32(FaissRefine):
    factory = "IVF{nlist},PQ{half}x4fs,RFlat"


class FaissShortPqSq8(FaissRefine):
    factory = "IVF{nlist},PQ{quarter}x4fs,Refine(SQ8)"


class FaissRabitqSq8(FaissRefine):
    factory = "RR{dim},IVF{nlist},RaBitQfs,Refine(SQ8)"


class FaissRabitq8(Faiss):
    factory = "RR{dim},IVF{nlist},RaBitQfs8"

    def families(self):
        return product([n for n in NPROBE if n <= self.nlist], "nprobe")

    def set(self, setting):
        self.faiss.extract_index_ivf(self.index).nprobe = setting["nprobe"]


class Hnswlib(Peer):
    def build(self, base, k):
        import hnswlib

        self.k = k
        self.index = hnswlib.Index(space="l2", dim=base.shape[1])
        self.index.init_index(len(base), ef_construction=200, M=16, random_seed=0)
        self.index.set_num_threads(1)
        self.index.add_items(base, num_threads=1)
        return file_bytes(self.index.save_index) / len(base)

    def families(self):
        return product(EF, "ef")

    def set(self, setting):
        self.index.set_ef(setting["ef"])

    def batch(self, queries):
        return self.index.knn_query(queries, k=self.k, num_threads=1)[0]


class Usearch(Peer):
    """8-bit integers where vectors have unit norm, as its scaling wants; else half precision."""

    def build(self, base, k):
        from usearch.index import Index

        self.k = k
        unit = bool(np.allclose(np.linalg.norm(base[:1000], axis=1), 1.0, atol=1e-2))
        metric, dtype = ("cos", "i8") if unit else ("l2sq", "f16")
        self.index = Index(ndim=base.shape[1], metric=metric, dtype=dtype, connectivity=16,
                           expansion_add=200)
        self.index.add(np.arange(len(base)), base, threads=1)
        return self.index.serialized_length / len(base)

    def families(self):
        return product(EF, "ef")

    def set(self, setting):
        self.index.expansion_search = setting["ef"]

    def batch(self, queries):
        return self.index.search(queries, self.k, threads=1).keys

    def single(self, query):
        return self.index.search(query[0], self.k, threads=1).keys


class Glass(Peer):
    quantizer, refiner = "SQ8", "FP32"
    bytes_of = {"SQ4": 0.5, "SQ8": 1, "FP16": 2, "FP32": 4, "": 0}

    def build(self, base, k):
        import glass

        self.k = k
        # It may change what it is given, so each gets a copy.
        degree = 32
        graph = glass.Index("HNSW", "L2", quant="SQ8U", R=degree, L=200).build(base.copy())
        self.searcher = glass.Searcher(graph, base.copy(), "L2", self.quantizer, self.refiner)
        self.searcher.set_ef(64)
        self.searcher.optimize(1)
        values = self.bytes_of[self.quantizer] + self.bytes_of[self.refiner]
        # Codes and links of the lowest level; upper levels add about 8 bytes.
        return base.shape[1] * values + 4 * degree + 8

    def families(self):
        return product(EF, "ef")

    def set(self, setting):
        self.searcher.set_ef(setting["ef"])

    def batch(self, queries):
        return self.searcher.batch_search(queries, self.k, 1)[0]

    def single(self, query):
        return self.searcher.search(query[0], self.k)[0]


class GlassSq4(Glass):
    quantizer, refiner = "SQ4", "FP16"


class GlassSq8(Glass):
    quantizer, refiner = "SQ8", ""


class Vsag(Peer):
    """It has no call for a batch: a batch is a loop."""

    def build(self, base, k):
        import pyvsag

        pyvsag.set_logger_off()
        self.k = k
        parameters = {
            "dtype": "float32", "metric_type": "l2", "dim": base.shape[1],
            "index_param": {
                "base_quantization_type": "sq8", "max_degree": 32, "ef_construction": 200,
                "build_thread_count": 1, "use_reorder": True, "precise_quantization_type": "fp32"}}
        self.index = pyvsag.Index("hgraph", json.dumps(parameters))
        ids = np.arange(len(base), dtype=np.int64)
        self.index.build(base.ravel(), ids, len(base), base.shape[1])
        return file_bytes(self.index.save) / len(base)

    def families(self):
        # Beyond 1,000 its answers are wrong.
        return product([ef for ef in EF if ef <= 1000], "ef")

    def set(self, setting):
        self.parameters = json.dumps({"hgraph": {"ef_search": setting["ef"]}})

    def batch(self, queries):
        return [self.index.knn_search(query, self.k, self.parameters)[0] for query in queries]


class RabitqlibIvf(Peer):
    bits = 8

    def build(self, base, k):
        import rabitqlib

        self.k = k
        dim = base.shape[1]
        clusters = rabitqlib.RaBitQKMeans(dim, self.nlist, num_threads=1)
        clusters.train(base)
        self.index = rabitqlib.IvfIndex(dim, len(base), self.nlist, self.bits, "l2")
        # Full optimisation of codes, not `fast_quantization`.
        self.index.build(base, clusters.centroids, clusters.assignments, 1, False)
        return file_bytes(self.index.save) / len(base)

    def families(self):
        grid = [n for n in NPROBE if n <= self.nlist]
        return product(grid, "nprobe", high_accuracy=[False, True])

    def batch(self, queries):
        setting = self.setting
        return self.index.search(queries, self.k, setting["nprobe"], setting["high_accuracy"], 1)[0]


class RabitqlibIvf4(RabitqlibIvf):
    bits = 4


class RabitqlibIvf5(RabitqlibIvf):
    bits = 5


class RabitqlibIvfF32(RabitqlibIvf):
    bits = 32

    def families(self):
        return [[setting | {"high_accuracy": None} for setting in family]
                for family in product([n for n in NPROBE if n <= self.nlist], "nprobe")]


class RabitqlibHnsw(Peer):
    bits = 5

    def build(self, base, k):
        import rabitqlib

        self.k = k
        dim = base.shape[1]
        clusters = rabitqlib.RaBitQKMeans(dim, 16, num_threads=1)
        clusters.train(base)
        self.index = rabitqlib.HnswIndex(dim, len(base), 16, 200, self.bits, "l2")
        self.index.build(base, clusters.centroids, clusters.assignments, 1, False)
        return file_bytes(self.index.save) / len(base)

    def families(self):
        return product(EF, "ef")

    def batch(self, queries):
        return self.index.search(queries, self.k, self.setting["ef"], 1)[0]


class RabitqlibHnsw8(RabitqlibHnsw):
    bits = 8


class SymphonyQg(Peer):
    bits = 0

    def build(self, base, k):
        import rabitqlib

        self.k = k
        self.index = rabitqlib.SymqgIndex(base.shape[1], 32, "l2", self.bits)
        self.index.build(base, 200, 1)
        return file_bytes(self.index.save) / len(base)

    def families(self):
        return product(EF, "ef")

    def batch(self, queries):
        return self.index.search_batch(queries, self.k, self.setting["ef"], 1)[0]

    def single(self, query):
        return self.index.search(query, self.k, self.setting["ef"], 1)[0]


class SymphonyQg8(SymphonyQg):
    bits = 8


class Scann(Peer):
    reorder = "FLOAT32"

    def build(self, base, k):
        from scann.scann_ops.py import scann_builder, scann_ops_pybind

        self.k = k
        unit = bool(np.allclose(np.linalg.norm(base[:1000], axis=1), 1.0, atol=1e-2))
        builder = scann_ops_pybind.builder(base, k, "dot_product" if unit else "squared_l2")
        builder.set_n_training_threads(1)
        builder.tree(self.nlist, 32, training_sample_size=len(base))
        builder.score_ah(2, anisotropic_quantization_threshold=0.2 if unit else float("nan"))
        builder.reorder(100, scann_builder.ReorderType[self.reorder])
        self.searcher = builder.build()
        return file_bytes(lambda path: (os.mkdir(path), self.searcher.serialize(path))) / len(base)

    def families(self):
        grid = [n for n in NPROBE if n <= self.nlist]
        return product(grid, "leaves", reorder=[20, 40, 80, 160, 320])

    def arguments(self):
        return dict(leaves_to_search=self.setting["leaves"],
                    pre_reorder_num_neighbors=self.setting["reorder"])

    def batch(self, queries):
        return self.searcher.search_batched(queries, **self.arguments())[0]

    def single(self, query):
        return self.searcher.search(query[0], **self.arguments())[0]


class ScannInt8(Scann):
    reorder = "INT8"


class Turbovec(Peer):
    """A flat scan: nothing to set but the bits."""

    bits = 4

    def build(self, base, k):
        import turbovec

        if not np.allclose(np.linalg.norm(base[:1000], axis=1), 1.0, atol=1e-2):
            raise ValueError("only cosine and inner products")
        self.k = k
        self.index = turbovec.TurboQuantIndex(dim=base.shape[1], bit_width=self.bits)
        random = np.random.default_rng(0)
        self.index.calibrate(base[random.permutation(len(base))[:4096]])
        self.index.add(base)
        self.index.prepare()
        return len(self.index.to_bytes()) / len(base)

    def families(self):
        return [[{}]]

    def batch(self, queries):
        return self.index.search(queries, k=self.k)[1]


class Svs(Peer):
    """Vamana over LVQ, which it refuses on processors that are not Intel's."""

    def build(self, base, k):
        import svs

        self.k = k
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "base.fvecs"))
            svs.write_vecs(base, path)
            data = svs.VectorDataLoader(path, svs.DataType.float32, dims=base.shape[1])
            loader = svs.LVQLoader(data, primary=4, residual=8)
            parameters = svs.VamanaBuildParameters(graph_max_degree=32, window_size=200)
            self.index = svs.Vamana.build(parameters, loader, svs.DistanceType.L2, num_threads=1)
        return base.shape[1] * 1.5 + 4 * 32

    def families(self):
        return product(EF, "window")

    def set(self, setting):
        self.index.search_window_size = setting["window"]

    def batch(self, queries):
        return self.index.search(queries, self.k)[0]


PEERS = {
    "faiss-flat": Faiss,
    "faiss-ivfpq-sq8": FaissPqSq8,
    "faiss-ivfpq-f32": FaissPqF32,
    "faiss-ivfpq-short-sq8": FaissShortPqSq8,
    "faiss-ivfrabitq-sq8": FaissRabitqSq8,
    "faiss-ivfrabitq-8": FaissRabitq8,
    "rabitqlib-ivf-4": RabitqlibIvf4,
    "rabitqlib-ivf-5": RabitqlibIvf5,
    "rabitqlib-ivf-8": RabitqlibIvf,
    "rabitqlib-ivf-f32": RabitqlibIvfF32,
    "rabitqlib-hnsw-5": RabitqlibHnsw,
    "rabitqlib-hnsw-8": RabitqlibHnsw8,
    "symphonyqg-f32": SymphonyQg,
    "symphonyqg-8": SymphonyQg8,
    "scann-f32": Scann,
    "scann-i8": ScannInt8,
    "turbovec-4": Turbovec,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "glass-sq4-f16": GlassSq4,
    "glass-sq8-f32": Glass,
    "glass-sq8": GlassSq8,
    "vsag-sq8-f32": Vsag,
    "svs-lvq4x8": Svs,
}

# Nonius runs in a worker of its own, in Rust: quantizer, kept vectors, share with a second list.
NONIUS = {
    "nonius-saq4": ("saq:4", "none", 0),
    "nonius-saq4-spill.8": ("saq:4", "none", 0.8),
    "nonius-saq4.5-spill": ("saq:4.5", "none", 1),
    "nonius-saq5.5": ("saq:5.5", "none", 0),
    "nonius-saq6": ("saq:6", "none", 0),
    "nonius-saq6-spill.7": ("saq:6", "none", 0.7),
    "nonius-saq8": ("saq:8", "none", 0),
    "nonius-saq2-f16": ("saq:2", "f16", 0),
    "nonius-saq2.5-f16-spill": ("saq:2.5", "f16", 1),
    "nonius-saq4-f16": ("saq:4", "f16", 0),
    "nonius-saq4-f16-spill": ("saq:4", "f16", 1),
}


def nonius_families(keep, nlist):
    """Settings of an index of Nonius."""
    grid = [n for n in NPROBE if n <= nlist]
    reranks = [0] if keep == "none" else [20, 40, 80]
    most = grid[-1]
    lists = [[{"nprobe": nprobe} for nprobe in grid],
             [{"nprobe": most, "centroid_ratio": 1 + step / 200} for step in range(61)]]
    return [[setting | {"rerank": rerank, "confidence": confidence} for setting in family]
            for family in lists for rerank in reranks for confidence in (3.0, 2.0, 1.5)]
