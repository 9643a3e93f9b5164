//! The library's errors as Python exceptions with the same text.

use std::io;

use nonius::{
    BuildError, ConfigError, OpenError, SearchError, SourceError, UnknownMetric, VectorError,
    WriteError,
};
use nonius_datasets::DatasetError;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;

/// The classes, which are written in Python: there an exception may have two bases.
mod classes {
    pyo3::import_exception!(nonius._errors, VectorError);
    pyo3::import_exception!(nonius._errors, ConfigError);
    pyo3::import_exception!(nonius._errors, BuildError);
    pyo3::import_exception!(nonius._errors, SearchError);
    pyo3::import_exception!(nonius._errors, FormatError);
    pyo3::import_exception!(nonius._errors, FileError);
    pyo3::import_exception!(nonius._errors, MissingFileError);
}

/// An error of the library on its way to Python.
pub(crate) enum Failure {
    Vector(String),
    Config(String),
    Build(String),
    Search(String),
    Format(String),
    File { message: String, errno: Option<i32>, missing: bool },
    Memory(String),
    Python(PyErr),
}

impl Failure {
    fn file(message: String, source: &io::Error) -> Failure {
        if source.kind() == io::ErrorKind::OutOfMemory {
            return Failure::Memory(message);
        }
        let missing = source.kind() == io::ErrorKind::NotFound;
        Failure::File { message, errno: source.raw_os_error(), missing }
    }

    /// Memory that cannot be had.
    pub(crate) fn memory(what: &str) -> Failure {
        Failure::Memory(format!("there is not enough memory for {what}"))
    }

    /// A parameter that makes no sense, in the words of [`ConfigError`].
    pub(crate) fn config(field: &str, message: impl std::fmt::Display) -> Failure {
        Failure::Config(format!("{field}: {message}"))
    }

    /// What kind of error a source has, with another text if one is given.
    fn source(error: SourceError, text: Option<String>) -> Failure {
        let text = text.unwrap_or_else(|| error.to_string());
        match error {
            SourceError::Vector(_) | SourceError::BeyondHalf { .. } => Failure::Vector(text),
            SourceError::Io(error) => Failure::file(text, &error),
            SourceError::Other(error) => match error.downcast::<DatasetError>() {
                Ok(error) => Failure::dataset(*error, Some(text)),
                Err(_) => Failure::Format(text),
            },
            _ => Failure::Build(text),
        }
    }

    fn dataset(error: DatasetError, text: Option<String>) -> Failure {
        let text = text.unwrap_or_else(|| error.to_string());
        match error {
            DatasetError::Io { source, .. } => Failure::file(text, &source),
            DatasetError::NonFinite { .. } | DatasetError::DoesNotFit { .. } => {
                Failure::Vector(text)
            }
            DatasetError::Source(error) => Failure::source(error, Some(text)),
            _ => Failure::Format(text),
        }
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Python(error)
    }
}

impl From<VectorError> for Failure {
    fn from(error: VectorError) -> Failure {
        Failure::Vector(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Config(error.to_string())
    }
}

impl From<UnknownMetric> for Failure {
    fn from(error: UnknownMetric) -> Failure {
        Failure::config("metric", error)
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Failure {
        Failure::dataset(error, None)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        Failure::file(error.to_string(), &error.source)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        let text = error.to_string();
        match error {
            BuildError::Config(error) => error.into(),
            BuildError::Source(error) => Failure::source(error, Some(text)),
            BuildError::Write(error) => Failure::file(text, &error.source),
            _ => Failure::Build(text),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let text = error.to_string();
        match error {
            OpenError::Io { source, .. } => Failure::file(text, &source),
            _ => Failure::Format(text),
        }
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Failure {
        let text = error.to_string();
        match error {
            SearchError::Query(_) => Failure::Vector(text),
            SearchError::Damaged { .. } | SearchError::Shortened { .. } => Failure::Format(text),
            _ => Failure::Search(text),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        match failure {
            Failure::Vector(text) => classes::VectorError::new_err(text),
            Failure::Config(text) => classes::ConfigError::new_err(text),
            Failure::Build(text) => classes::BuildError::new_err(text),
            Failure::Search(text) => classes::SearchError::new_err(text),
            Failure::Format(text) => classes::FormatError::new_err(text),
            Failure::Memory(text) => PyMemoryError::new_err(text),
            Failure::Python(error) => error,
            Failure::File { message, errno, missing } => {
                let error = if missing {
                    classes::MissingFileError::new_err(message)
                } else {
                    classes::FileError::new_err(message)
                };
                // With its number alone the exception still says nothing but the message.
                let numbered = Python::attach(|py| match errno {
                    Some(errno) => error.value(py).setattr("errno", errno),
                    None => Ok(()),
                });
                match numbered {
                    Ok(()) => error,
                    Err(other) => other,
                }
            }
        }
    }
}

/// What a thread of ours that panicked becomes: a defect of the library.
pub(crate) fn panicked() -> PyErr {
    PyRuntimeError::new_err("a thread of the library panicked, which is a defect: please report it")
}
