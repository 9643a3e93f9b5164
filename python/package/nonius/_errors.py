"""The exceptions. Their texts are those of the Rust library."""


class Error(Exception):
    """Any error of Nonius: what all the others here are derived from."""


class VectorError(Error, ValueError):
    """Vectors or queries that cannot be accepted: NaN, infinity, another dimension, a zero vector under
    cosine, a value that half precision cannot hold."""


class ConfigError(Error, ValueError):
    """A parameter that makes no sense. The message starts with its name."""


class BuildError(Error, ValueError):
    """A build that cannot be: no vectors, fewer vectors than lists, ids that repeat or do not match."""


class SearchError(Error, ValueError):
    """A search that cannot be answered: `k` or `nprobe` of 0, a rerank where nothing is kept."""


class FormatError(Error, ValueError):
    """A file that is not what it should be: no Nonius index, a damaged or truncated one, a file of vectors
    with a wrong header."""


class FileError(Error, OSError):
    """The system refused to read or to write a file. `errno` says why."""


class MissingFileError(FileError, FileNotFoundError):
    """A file that does not exist."""


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, Error):
        _class.__module__ = "nonius"
del _class
