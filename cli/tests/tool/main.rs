//! The tool from the outside: arguments in; files, text and exit codes out.

mod build;
mod demo;
mod files;
mod gpu;
#[cfg(feature = "hdf5")]
mod hdf5;
mod kills;
mod misuse;
mod search;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nonius::Matrix;
use nonius_datasets::{Element, Synthetic, VectorWriter, read_matrix};
use serde_json::Value;
use tempfile::TempDir;

/// What a run of the tool came to.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The run must have succeeded, without a word on stderr.
    #[track_caller]
    fn success(self) -> Outcome {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr, "", "stderr is no terminal, so nothing is drawn on it");
        self
    }

    /// The run must have ended with `code` and a message with all of `parts`.
    #[track_caller]
    fn failure(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in: {}", self.stderr);
        }
    }

    /// The JSON on stdout.
    #[track_caller]
    fn json(self) -> Value {
        let outcome = self.success();
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout))
    }
}

/// A folder with a small set of vectors, in which the tool runs.
struct Sandbox {
    folder: TempDir,
    base: Matrix,
    queries: Matrix,
}

const ROWS: usize = 1500;
const DIM: usize = 24;
const QUERIES: usize = 40;

impl Sandbox {
    /// `base.fvecs`, 1,500 x 24, and `queries.fvecs`, 40 x 24.
    fn new() -> Sandbox {
        let generator =
            Synthetic { rows: ROWS, dim: DIM, clusters: 20, seed: 7, ..Synthetic::default() }
                .generator();
        let sandbox = Sandbox {
            folder: tempfile::tempdir().unwrap(),
            base: read_matrix(&generator).unwrap(),
            queries: generator.queries(QUERIES),
        };
        sandbox.write("base.fvecs", &sandbox.base);
        sandbox.write("queries.fvecs", &sandbox.queries);
        sandbox
    }

    /// The same, with `truth.ivecs` of 20 neighbours a query.
    fn with_truth() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.run("truth base.fvecs queries.fvecs -k 20 -o truth.ivecs").success();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, rows: &Matrix) {
        write_vectors(&self.path(name), rows.dim(), rows.data());
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn read_json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    /// The tool with arguments that are separated by spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nonius"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        finish(&mut self.command(arguments))
    }

    /// The names of all files in the folder, sorted.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn finish(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn write_vectors(path: &Path, dim: usize, values: &[f32]) {
    let mut writer = VectorWriter::create(path, dim, Element::F32).unwrap();
    writer.write_rows(values).unwrap();
    writer.finish().unwrap();
}

/// The number at `key`, which must be within the range.
#[track_caller]
fn number_within(json: &Value, key: &str, low: f64, high: f64) -> f64 {
    let number = json[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {json}"));
    assert!((low..=high).contains(&number), "{key} is {number}, not within {low} to {high}");
    number
}

/// The dimensions that a plan covers.
fn plan_dims(json: &Value) -> u64 {
    json["plan"].as_array().unwrap().iter().map(|segment| segment["dims"].as_u64().unwrap()).sum()
}

#[test]
fn sandboxes_hold_what_they_say() {
    let sandbox = Sandbox::new();
    let file = nonius_datasets::open(sandbox.path("base.fvecs")).unwrap();
    assert_eq!((file.rows(), file.dim()), (ROWS, DIM));
    assert_eq!(sandbox.queries.rows(), QUERIES);
}
