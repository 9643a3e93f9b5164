//! Builds: where their vectors come from, how they show their progress and how they are stopped.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nonius::{
    BuildError, BuildReport, Index, IndexBuilder, IndexConfig, Progress, Stage, VectorSource,
};
use nonius_datasets::{Element, VectorFile, VectorWriter};
use numpy::PyUntypedArray;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};
use tempfile::TempDir;

use crate::arrays::{Array, Rows, Shape, view};
use crate::errors::{Failure, panicked};
use crate::pool::pool;

/// Progress reports that may be under way: a build does not run ahead of who is told.
const REPORTS: usize = 16;
/// How often Ctrl-C is looked for at least.
const CHECK: Duration = Duration::from_millis(50);
/// How often the line on a terminal is drawn at most.
const DRAW: Duration = Duration::from_millis(100);

/// What an index is built from.
pub(crate) enum Input<'py> {
    Array(Array<'py>),
    File(Box<dyn VectorFile>),
    Spooled(Spooled),
}

/// Vectors that came in blocks, in a temporary file: builds read them several times.
pub(crate) struct Spooled {
    file: Box<dyn VectorFile>,
    /// Removed when dropped.
    _folder: TempDir,
}

impl<'py> Input<'py> {
    /// An array, the path of a file, or an iterable of blocks, which are written to a temporary file beside
    /// the output, or where the system has such files.
    pub(crate) fn new(
        object: &Bound<'py, PyAny>,
        output: Option<&Path>,
    ) -> Result<Input<'py>, Failure> {
        if object.is_instance_of::<PyUntypedArray>() {
            return Ok(Input::Array(Array::new(object, "vectors", Shape::Matrix)?));
        }
        if object.is_instance_of::<PyBytes>() {
            let message = "vectors: expected an array, a path or blocks, found bytes";
            return Err(PyTypeError::new_err(message).into());
        }
        if object.is_instance_of::<PyString>() || object.hasattr("__fspath__")? {
            let path: PathBuf = object.extract()?;
            return Ok(Input::File(nonius_datasets::open(path)?));
        }
        // Tensors of other libraries, and tables.
        if object.hasattr("__array__")? {
            return Ok(Input::Array(Array::new(object, "vectors", Shape::Matrix)?));
        }
        Ok(Input::Spooled(spool(object, output)?))
    }

    /// The vectors, for a thread without Python.
    fn source(&self) -> Result<Source<'_>, Failure> {
        Ok(match self {
            Input::Array(array) => Source::Rows(array.rows()?),
            Input::File(file) => Source::File(&**file),
            Input::Spooled(spooled) => Source::File(&*spooled.file),
        })
    }
}

enum Source<'a> {
    Rows(Rows<'a>),
    File(&'a dyn VectorFile),
}

impl Source<'_> {
    fn vectors(&self) -> &dyn VectorSource {
        match self {
            Source::Rows(rows) => rows,
            Source::File(file) => *file,
        }
    }
}

/// Writes blocks to a temporary file.
fn spool(blocks: &Bound<'_, PyAny>, output: Option<&Path>) -> Result<Spooled, Failure> {
    let py = blocks.py();
    let blocks = blocks.try_iter().map_err(|_| {
        PyTypeError::new_err(format!(
            "vectors: expected an array, the path of a file or an iterable of blocks, found {}",
            blocks.get_type()
        ))
    })?;
    let parent = output.and_then(Path::parent).map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nonius-blocks-");
    let folder = match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }?;
    let path = folder.path().join("blocks.fvecs");
    let mut writer: Option<VectorWriter> = None;
    let (mut first, mut dim) = (0, 0);
    for (number, block) in blocks.enumerate() {
        let what = format!("block {number} of vectors");
        let array = Array::new(&block?, &what, Shape::MatrixOrVector)?;
        let rows = array.rows()?;
        if rows.rows == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => {
                rows.expect_dim(dim)
                    .map_err(|error| Failure::Vector(format!("{what}: {error}")))?;
                writer
            }
            None => {
                dim = rows.dim;
                writer.insert(VectorWriter::create(&path, dim, Element::F32)?)
            }
        };
        py.detach(|| {
            // A large block need not be in memory twice.
            let step = ((1 << 20) / dim).max(1);
            for start in (0..rows.rows).step_by(step) {
                let values = rows.floats(start, (start + step).min(rows.rows))?;
                view(first + start, dim, &values)?;
                writer.write_rows(&values)?;
            }
            Ok::<(), Failure>(())
        })?;
        first += rows.rows;
    }
    let Some(writer) = writer else { return Err(BuildError::Empty.into()) };
    writer.finish()?;
    Ok(Spooled { file: nonius_datasets::open(&path)?, _folder: folder })
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Python(error.into())
    }
}

/// Whom a build tells how far it is.
pub(crate) enum Listener<'py> {
    Nobody,
    /// A terminal, as Python's `sys.stderr`.
    Terminal {
        stderr: Bound<'py, PyAny>,
        drawn: Option<(Stage, Instant)>,
    },
    Function(Bound<'py, PyAny>),
}

impl<'py> Listener<'py> {
    /// `True` (and nothing) for the terminal if there is one, `False` for nobody, or a function.
    pub(crate) fn new(
        py: Python<'py>,
        object: Option<&Bound<'py, PyAny>>,
    ) -> Result<Listener<'py>, Failure> {
        let yes = match object {
            None => true,
            Some(object) => match object.cast::<PyBool>() {
                Ok(yes) => yes.is_true(),
                Err(_) => return Listener::function(object),
            },
        };
        if !yes {
            return Ok(Listener::Nobody);
        }
        let stderr = py.import("sys")?.getattr("stderr")?;
        // Whatever stands there need not be a file.
        let terminal = !stderr.is_none()
            && stderr.call_method0("isatty").and_then(|yes| yes.is_truthy()).unwrap_or(false);
        Ok(match terminal {
            true => Listener::Terminal { stderr, drawn: None },
            false => Listener::Nobody,
        })
    }

    fn function(object: &Bound<'py, PyAny>) -> Result<Listener<'py>, Failure> {
        if object.is_callable() {
            return Ok(Listener::Function(object.clone()));
        }
        let message = format!(
            "progress: expected True, False or a function of (stage, done, total), found {}",
            object.get_type()
        );
        Err(PyTypeError::new_err(message).into())
    }

    fn tell(&mut self, progress: Progress) -> PyResult<()> {
        let Progress { stage, done, total } = progress;
        match self {
            Listener::Nobody => Ok(()),
            Listener::Function(function) => function.call1((stage.name(), done, total)).map(|_| ()),
            Listener::Terminal { stderr, drawn } => {
                let now = Instant::now();
                if let Some((last, when)) = *drawn
                    && last == stage
                    && now - when < DRAW
                {
                    return Ok(());
                }
                *drawn = Some((stage, now));
                let share = 100.0 * done as f64 / total.max(1) as f64;
                stderr.call_method1("write", (format!("\r{:<12}{share:4.0}%", stage.name()),))?;
                stderr.call_method0("flush").map(|_| ())
            }
        }
    }

    /// Takes the line away.
    fn clear(&self) -> PyResult<()> {
        if let Listener::Terminal { stderr, drawn: Some(_) } = self {
            stderr.call_method1("write", (format!("\r{:20}\r", ""),))?;
            stderr.call_method0("flush")?;
        }
        Ok(())
    }
}

/// Builds in a thread of its own, while this one looks for Ctrl-C and tells the listener; both end the build.
pub(crate) fn build(
    py: Python<'_>,
    input: &Input<'_>,
    config: &IndexConfig,
    ids: Option<&[u64]>,
    weights: Option<&[f32]>,
    threads: Option<i64>,
    output: Option<&Path>,
    mut listener: Listener<'_>,
) -> Result<(Index, BuildReport), Failure> {
    let source = input.source()?;
    let vectors = source.vectors();
    let pool = pool(threads)?;
    let stop = &AtomicBool::new(false);
    let (reports, mut told) = sync_channel(REPORTS);
    // Takes the sender along, which is gone when the work is done.
    let work = move || {
        let mut report = |progress| {
            // The other end listens until this one is gone.
            let _ = reports.send(progress);
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let mut builder = IndexBuilder::new(config).progress(&mut report);
        if let Some(ids) = ids {
            builder = builder.ids(ids);
        }
        if let Some(weights) = weights {
            builder = builder.weights(weights);
        }
        match output {
            None => builder.build(vectors).map_err(Failure::from),
            Some(path) => {
                let report = builder.write(vectors, path)?;
                Ok((Index::open(path)?, report))
            }
        }
    };
    let mut raised: Option<PyErr> = None;
    let outcome = std::thread::scope(|scope| {
        let worker = scope.spawn(|| pool.install(work));
        loop {
            let (receiver, report) = py.detach(move || {
                let report = told.recv_timeout(CHECK);
                (told, report)
            });
            told = receiver;
            let told = match report {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Ok(progress) if raised.is_none() => listener.tell(progress),
                Ok(_) => Ok(()),
            };
            if let Err(error) = told.and_then(|()| py.check_signals()) {
                // The first Ctrl-C counts.
                stop.store(true, Ordering::Relaxed);
                raised.get_or_insert(error);
            }
        }
        py.detach(|| worker.join())
    });
    let cleared = listener.clear();
    if let Some(error) = raised {
        return Err(error.into());
    }
    cleared?;
    match outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(panicked().into()),
    }
}
