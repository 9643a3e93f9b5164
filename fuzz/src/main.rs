//! Feeds targets with random input.
//!
//! Exit codes: 0 if nothing was found, 1 if something was, 2 for wrong use.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use nonius_fuzz::driver::{Around, Limits, drive, execute, quiet_panics};
use nonius_fuzz::targets::{TARGETS, Target, find};

/// Feeds a target with random input, and says what it finds.
#[derive(Debug, Parser)]
#[command(name = "nonius-fuzz", version)]
struct Arguments {
    /// The target, or `list` to list them, or `all` for one after the other
    target: String,

    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,

    /// Executions at most
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    executions: u64,

    /// Chooses the inputs
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Where inputs that fail are saved
    #[arg(long, value_name = "FOLDER", default_value = "fuzz-failures")]
    save: PathBuf,

    /// Feeds the target with this file instead, once
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// Writes the inputs that the target begins with into this folder, and does nothing else
    #[arg(long, value_name = "FOLDER")]
    seeds: Option<PathBuf>,

    /// Works in this process and leaves each input in FILE before it is fed
    #[arg(long, value_name = "FILE", hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.target == "list" {
        for target in TARGETS {
            println!("{:10} {}", target.name, target.about);
        }
        return ExitCode::SUCCESS;
    }
    let targets = match (arguments.target.as_str(), find(&arguments.target)) {
        ("all", _) if arguments.replay.is_none() => TARGETS.to_vec(),
        (_, Some(target)) => vec![target],
        _ => {
            eprintln!("error: there is no target {:?}; `list` lists them", arguments.target);
            return ExitCode::from(2);
        }
    };
    if !(arguments.seconds >= 0.0 && arguments.seconds < 1e9) {
        eprintln!("error: expected seconds from 0 on, found {}", arguments.seconds);
        return ExitCode::from(2);
    }
    let mut failed = false;
    for target in targets {
        match work(&arguments, &target) {
            Ok(clean) => failed |= !clean,
            Err(error) => {
                eprintln!("error: {}: {error}", target.name);
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

/// True if nothing was found.
fn work(arguments: &Arguments, target: &Target) -> std::io::Result<bool> {
    if let Some(folder) = &arguments.seeds {
        for seed in (target.seeds)() {
            save(folder, target, "seed", &seed)?;
        }
        return Ok(true);
    }
    if let Some(running) = &arguments.worker {
        return on_one_thread(|| feed(arguments, target, Some(running)));
    }
    if arguments.replay.is_some() {
        // Here, so that a debugger can be attached, and what kills the process is seen.
        return on_one_thread(|| feed(arguments, target, None));
    }
    supervise(arguments, target)
}

/// Runs a worker and looks what became of it: an input may be its end, by a stack that overflows or
/// memory that there is not.
fn supervise(arguments: &Arguments, target: &Target) -> std::io::Result<bool> {
    let folder = tempfile::tempdir()?;
    let running = folder.path().join("running");
    let status = Command::new(std::env::current_exe()?)
        .arg(target.name)
        .args(["--seconds", &arguments.seconds.to_string()])
        .args(["--executions", &arguments.executions.to_string()])
        .args(["--seed", &arguments.seed.to_string()])
        .arg("--save")
        .arg(&arguments.save)
        .arg("--worker")
        .arg(&running)
        .status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => {
            let input = last_input(&running)?;
            let path = save(&arguments.save, target, "died", &input)?;
            println!("{}: the process died ({status}) of {}", target.name, path.display());
            Ok(false)
        }
    }
}

/// Runs on a thread of its own that is a pool of rayon's as well: memory is counted by threads.
fn on_one_thread<T: Send>(work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.map_err(std::io::Error::other)?.install(work)
}

fn feed(arguments: &Arguments, target: &Target, running: Option<&Path>) -> std::io::Result<bool> {
    if let Some(path) = &arguments.replay {
        let input = fs::read(path)?;
        let execution = execute(target, &input, &mut Counted::default());
        println!("{} bytes, {} held, {:?}", input.len(), execution.bytes, execution.time);
        if let Some(failure) = &execution.failure {
            println!("{failure}");
        }
        return Ok(execution.failure.is_none());
    }
    quiet_panics();
    watch();
    let mut around = Counted { running: running.map(File::create_new).transpose()? };
    let limits = Limits {
        executions: arguments.executions,
        time: Duration::from_secs_f64(arguments.seconds),
        seed: arguments.seed,
    };
    let report = drive(target, &limits, &mut around);
    STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    let seconds = report.time.as_secs_f64();
    println!(
        "{}: {} executions in {seconds:.1} s, {:.0} a second; {} behaviours, {} inputs kept; \
         at most {} bytes held and {:.1} ms taken; {} kinds of failures",
        target.name,
        report.executions,
        report.executions as f64 / seconds.max(1e-9),
        report.behaviours,
        report.kept,
        report.most_bytes,
        report.longest.as_secs_f64() * 1e3,
        report.failures.len()
    );
    for failure in &report.failures {
        let path = save(&arguments.save, target, "failed", &failure.input)?;
        println!("{}: {} times {}", path.display(), failure.times, failure.what);
    }
    Ok(report.failures.is_empty())
}

/// Saves an input under a name that its bytes decide.
fn save(folder: &Path, target: &Target, how: &str, input: &[u8]) -> std::io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}-{how}-{:08x}", target.name, crc32c::crc32c(input)));
    fs::write(&path, input)?;
    Ok(path)
}

/// Counts memory, and leaves each input in a file: its length in 8 bytes, and the bytes.
#[derive(Default)]
struct Counted {
    running: Option<File>,
}

impl Around for Counted {
    fn before(&mut self, input: &[u8]) {
        if let Some(file) = &mut self.running {
            let bytes = [&(input.len() as u64).to_le_bytes(), input].concat();
            // Without it the input that ends all is lost, and nothing else.
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&bytes));
        }
        *STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
    }

    fn measure(&mut self, run: &mut dyn FnMut()) -> u64 {
        allocation_counter::measure(run).bytes_max
    }
}

/// The last input that a worker was fed.
fn last_input(running: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(running)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut input = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut input)?;
    Ok(input)
}

/// When the execution at work has started.
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);

/// How long before an execution is given up.
const HUNG: Duration = Duration::from_secs(60);

/// Ends the process if an execution does not.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let started = *STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if started.is_some_and(|started| started.elapsed() > HUNG) {
                eprintln!("an execution has taken more than {HUNG:?}");
                std::process::abort();
            }
        }
    });
}
