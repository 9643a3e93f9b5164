"""Builds an index, saves it, opens it again and searches it; then codes without an index.

    python quickstart.py [BASE.npy QUERIES.npy]

Without files it makes vectors of its own.
"""

import os
import sys
import tempfile

import numpy as np

import nonius


def main():
    if len(sys.argv) == 3:
        base, queries = (np.load(path, mmap_mode="r") for path in sys.argv[1:])
    else:
        # Vectors around 200 centres; yours come from an embedding model.
        random = np.random.default_rng(1)
        centres = random.standard_normal((200, 96), dtype=np.float32)
        base = centres[random.integers(200, size=20_000)] + random.standard_normal((20_000, 96), dtype=np.float32)
        queries = base[:100] + 0.3 * random.standard_normal((100, 96), dtype=np.float32)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vectors.nonius")
        # Straight into a file; without `path` in memory, and index.save(path) writes it.
        index = nonius.Index.build(base, metric="cosine", bits=4, path=path)
        print(index)
        print(f"{index.info()['bytes_per_vector']:.1f} bytes a vector, {4 * index.dim} as float32")

        index = nonius.Index.open(path)  # mapped, not read
        ids, distances = index.search(queries[0], k=3)
        for i, distance in zip(ids, distances):
            print(f"vector {i:5}, cosine distance {distance:.4f}")

        ids, _ = index.search(queries, k=10, nprobe=64, rerank=50)
        print(f"recall@10 of {len(queries)} queries: {recall(base, queries, ids):.3f}")
        del index  # unmapped before the folder goes

    saq = nonius.Saq.train(base[:5_000], metric="cosine", bits=2)
    codes = saq.encode(base)
    estimates, deviations = saq.estimate(codes, queries[0])
    nearest = np.argmin(estimates)
    print(f"{codes}: vector {nearest} at {estimates[nearest]:.3f}, give or take {deviations[nearest]:.3f}")


def recall(base, queries, found):
    """The share of the true nearest neighbours that were found."""
    def unit(rows):
        rows = np.asarray(rows, dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    k = found.shape[1]
    truth = np.argsort(-(unit(queries) @ unit(base).T), axis=1)[:, :k]
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(truth, found)])


if __name__ == "__main__":
    main()
