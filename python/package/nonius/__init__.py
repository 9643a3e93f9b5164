"""Approximate nearest-neighbour search over compressed vectors.

Vectors are compressed by SAQ, or one of several other quantizers, to a few bits a dimension, clustered
into lists, and kept in one file that is opened by memory mapping.

>>> import numpy as np, nonius
>>> vectors = np.random.default_rng(1).standard_normal((2000, 64), dtype=np.float32)
>>> index = nonius.Index.build(vectors, metric="cosine")
>>> ids, distances = index.search(vectors[17], k=10, rerank=50)
>>> int(ids[0]), ids.shape
(17, (10,))
>>> index
<nonius.Index: 2000 x 64, cosine, saq:4, 89 lists>

Arrays. Vectors and queries are arrays of float32, float16, float64, uint8 or int8, `rows x dim`; others
are refused with a TypeError. C-contiguous arrays, `numpy.memmap` among them, are used where they are,
without a copy; others are copied once. Values are computed with as float32. NaN and infinity are refused.

Threads. The interpreter lock is released while Rust works, so other Python threads go on. None of them
may write to an array that a call is using: nothing crashes, but what that call returns, or builds, is not
defined. Work is spread over all processors, or as many threads as `threads` or the environment variable
RAYON_NUM_THREADS say; results do not depend on it. A process that is forked gets threads of its own.
"""

from ._errors import (
    BuildError,
    ConfigError,
    Error,
    FileError,
    FormatError,
    MissingFileError,
    SearchError,
    VectorError,
)
from ._nonius import Codes, Index, Quantizer, Saq, SaqCodes, __version__

__all__ = [
    "BuildError",
    "Codes",
    "ConfigError",
    "Error",
    "FileError",
    "FormatError",
    "Index",
    "MissingFileError",
    "Quantizer",
    "Saq",
    "SaqCodes",
    "SearchError",
    "VectorError",
    "__version__",
]
