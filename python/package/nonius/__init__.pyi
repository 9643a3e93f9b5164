from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, TypedDict, Union, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

__version__: str

_Path = Union[str, PathLike[str]]
# Arrays of float32, float16, float64, uint8 or int8, and what numpy.asarray makes one of.
_Vectors = ArrayLike
_Source = Union[_Vectors, _Path, Iterable[_Vectors]]
_Progress = Union[bool, Callable[[str, int, int], object]]

# These names are for type checkers alone: at run time they are plain dictionaries.
class _PlanSegment(TypedDict):
    dims: int
    bits: int

class _CodebookUse(TypedDict):
    centroids: int
    used: int
    perplexity: float

class _Section(TypedDict):
    name: str
    offset: int
    bytes: int

class _IndexInfo(TypedDict):
    version: int
    vectors: int
    dim: int
    metric: str
    quantizer: str
    bits: float
    nlist: int
    smallest_list: int
    largest_list: int
    spilled: int
    outliers: int
    keep: str
    bytes_per_vector: float
    code_bytes: int
    first_stage_bits: int
    file_bytes: int
    plan: list[_PlanSegment]
    sections: list[_Section]

class _BuildReport(TypedDict):
    vectors: int
    nlist: int
    spilled: int
    outliers: int
    bytes_per_vector: float
    file_bytes: int
    train_seconds: float
    encode_seconds: float
    encoder_cpu_seconds: float
    total_seconds: float
    inertia: NDArray[np.float64]
    plan: list[_PlanSegment]
    codebooks: list[_CodebookUse]

class Error(Exception): ...
class VectorError(Error, ValueError): ...
class ConfigError(Error, ValueError): ...
class BuildError(Error, ValueError): ...
class SearchError(Error, ValueError): ...
class FormatError(Error, ValueError): ...
class FileError(Error, OSError): ...
class MissingFileError(FileError, FileNotFoundError): ...

@final
class Index:
    @staticmethod
    def build(
        vectors: _Source,
        *,
        metric: str = "l2",
        quantizer: str = "saq",
        bits: float | None = None,
        bytes: int | None = None,
        nlist: int | None = None,
        spill: float = 0.0,
        keep: str = "f16",
        outlier_bytes: float = 0.0,
        ids: ArrayLike | None = None,
        weights: _Vectors | None = None,
        seed: int = 0,
        fast: bool = False,
        training_rows: int = 65536,
        anisotropic: float | None = None,
        beam: int | None = None,
        path: _Path | None = None,
        threads: int | None = None,
        progress: _Progress = True,
    ) -> Index: ...
    @staticmethod
    def open(path: _Path, *, into_memory: bool = False, check_lists: bool = False) -> Index: ...
    def search(
        self,
        queries: _Vectors,
        k: int = 10,
        *,
        nprobe: int = 32,
        rerank: int = 0,
        confidence: float = 2.0,
        patience: int = 0,
        centroid_ratio: float | None = None,
        rerank_from: _Vectors | None = None,
        threads: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    def save(self, path: _Path) -> None: ...
    def verify(self) -> None: ...
    def warm(self) -> None: ...
    def info(self) -> _IndexInfo: ...
    def build_report(self) -> _BuildReport | None: ...
    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def quantizer(self) -> str: ...
    @property
    def nlist(self) -> int: ...
    @property
    def keep(self) -> str: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class Saq:
    @staticmethod
    def train(
        vectors: _Vectors,
        *,
        metric: str = "l2",
        quantizer: str = "saq",
        bits: float | None = None,
        bytes: int | None = None,
        fast: bool = False,
        seed: int = 0,
        threads: int | None = None,
    ) -> Saq: ...
    def encode(self, vectors: _Vectors, *, threads: int | None = None) -> SaqCodes: ...
    def decode(
        self,
        codes: SaqCodes,
        rows: int | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        *,
        bits: int | None = None,
    ) -> NDArray[np.float32]: ...
    def estimate(
        self, codes: SaqCodes, queries: _Vectors
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def plan(self) -> list[_PlanSegment]: ...
    def __reduce__(self) -> Any: ...

@final
class SaqCodes:
    @property
    def bytes_per_vector(self) -> int: ...
    def numbers(
        self, rows: int | Sequence[int] | NDArray[np.integer[Any]] | None = None
    ) -> NDArray[np.uint16]: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class Quantizer:
    @staticmethod
    def train(
        vectors: _Vectors,
        *,
        metric: str = "l2",
        quantizer: str = "saq",
        bits: float | None = None,
        bytes: int | None = None,
        weights: _Vectors | None = None,
        anisotropic: float | None = None,
        beam: int | None = None,
        fast: bool = False,
        seed: int = 0,
        threads: int | None = None,
    ) -> Quantizer: ...
    def encode(self, vectors: _Vectors, *, threads: int | None = None) -> Codes: ...
    def decode(
        self,
        codes: Codes,
        rows: int | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        *,
        levels: int | None = None,
    ) -> NDArray[np.float32]: ...
    def estimate(self, codes: Codes, queries: _Vectors) -> NDArray[np.float32]: ...
    def symmetric(self, codes: Codes, row: int) -> NDArray[np.float32]: ...
    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def plan(self) -> list[_PlanSegment]: ...
    @property
    def codebooks(self) -> int: ...
    @property
    def levels(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class Codes:
    @property
    def bytes_per_vector(self) -> int: ...
    def numbers(
        self, rows: int | Sequence[int] | NDArray[np.integer[Any]] | None = None
    ) -> NDArray[np.uint16]: ...
    def uses(self) -> list[_CodebookUse]: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> Any: ...
