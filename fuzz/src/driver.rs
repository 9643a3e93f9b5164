//! The driver: makes inputs, feeds them, and keeps those that show something new.
//!
//! It knows nothing of coverage, for which a compiler would have to be asked; what it goes by are
//! the [notes](crate::note) that targets make. The same target and seed make the same inputs in the
//! same order, on every machine.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nonius::random::Random;

use crate::mutate::pick;
use crate::notes::take_notes;
use crate::targets::Target;

/// The most inputs that are kept to be mutated again.
const MOST_KEPT: usize = 4096;

/// How long an input may take. Those of the targets take milliseconds.
pub const TOO_LONG: Duration = Duration::from_secs(10);

/// When to stop, and with what to begin.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Executions at most.
    pub executions: u64,
    /// Time at most.
    pub time: Duration,
    /// Chooses the inputs.
    pub seed: u64,
}

/// An input that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened: a panic and where, too much memory, or too long a time.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
    /// How many executions have failed the same way.
    pub times: u64,
}

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Executions.
    pub executions: u64,
    /// The time they took.
    pub time: Duration,
    /// Different notes of the target.
    pub behaviours: usize,
    /// Inputs kept for a note that was new.
    pub kept: usize,
    /// The most bytes that an execution held at once.
    pub most_bytes: u64,
    /// The longest execution.
    pub longest: Duration,
    /// One input for each kind of failure.
    pub failures: Vec<Failure>,
}

/// What is around each execution.
pub trait Around {
    /// Is told of an input before it is fed, for the case that nothing comes after.
    fn before(&mut self, input: &[u8]);

    /// Runs and tells the most bytes that were held at once.
    fn measure(&mut self, run: &mut dyn FnMut()) -> u64;
}

/// Nothing around: memory is not measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmeasured;

impl Around for Unmeasured {
    fn before(&mut self, _input: &[u8]) {}

    fn measure(&mut self, run: &mut dyn FnMut()) -> u64 {
        run();
        0
    }
}

/// Feeds a target with its seeds and with mutations of these.
///
/// Targets use rayon; for memory to be measured this has to run in a pool of one thread.
pub fn drive(target: &Target, limits: &Limits, around: &mut dyn Around) -> Report {
    let name = target.name.bytes().fold(0, |sum: u64, byte| sum * 31 + u64::from(byte));
    let mut random = Random::new(limits.seed, name);
    let seeds = (target.seeds)();
    let mut kept = seeds.clone();
    let mut known = HashSet::new();
    let mut failures: BTreeMap<String, Failure> = BTreeMap::new();
    let mut report = Report::default();
    let start = Instant::now();
    while report.executions < limits.executions && start.elapsed() < limits.time {
        let input = match seeds.get(report.executions as usize) {
            Some(seed) => seed.clone(),
            None => {
                // What was found later is deeper, but the seeds are the shortest way everywhere.
                let from = if random.below(3) == 0 { seeds.len() } else { kept.len() };
                let mut input = kept[pick(&mut random, from)].clone();
                (target.mutate)(&mut input, &mut random, &kept);
                input
            }
        };
        report.executions += 1;
        let execution = execute(target, &input, around);
        report.most_bytes = report.most_bytes.max(execution.bytes);
        report.longest = report.longest.max(execution.time);
        if let Some(what) = execution.failure {
            // Numbers differ from input to input; what panics is at one place.
            let key = what.split([':', '[']).take(6).collect::<String>();
            let key = key.chars().filter(|c| !c.is_ascii_digit()).collect();
            let failure = Failure { what, input: input.clone(), times: 0 };
            failures.entry(key).or_insert(failure).times += 1;
        }
        let new = execution.notes.into_iter().filter(|&note| known.insert(note)).count();
        if new > 0 && kept.len() < MOST_KEPT {
            kept.push(input);
        }
    }
    report.time = start.elapsed();
    report.behaviours = known.len();
    report.kept = kept.len() - seeds.len();
    report.failures = failures.into_values().collect();
    report
}

/// What came of one input.
#[derive(Clone, Debug, Default)]
pub struct Execution {
    /// What went wrong.
    pub failure: Option<String>,
    /// The most bytes held at once.
    pub bytes: u64,
    /// The time.
    pub time: Duration,
    notes: Vec<u64>,
}

/// Feeds a target with one input. [`quiet_panics`] makes panics be told with their place.
pub fn execute(target: &Target, input: &[u8], around: &mut dyn Around) -> Execution {
    around.before(input);
    take_notes();
    LAST_PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    let mut panicked = false;
    let start = Instant::now();
    let bytes = around.measure(&mut || {
        panicked = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
    });
    let time = start.elapsed();
    let cap = target.memory.cap(input.len());
    let failure = if panicked {
        let last = LAST_PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        Some(format!("panic: {}", last.unwrap_or_else(|| "without a message".to_owned())))
    } else if bytes > cap {
        Some(format!("memory: {bytes} bytes held, {cap} allowed for {} of input", input.len()))
    } else if time > TOO_LONG {
        Some(format!("time: {time:?}"))
    } else {
        None
    };
    Execution { failure, bytes, time, notes: take_notes() }
}

/// The message of the last panic, and where it was.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Panics are remembered from here on instead of written to stderr: thousands may be caught.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("not a text");
        let place = info.location().map_or(String::new(), ToString::to_string);
        let message = format!("{place}: {text}");
        *LAST_PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(message);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note;
    use crate::targets::{Memory, TARGETS};

    fn limits(executions: u64, seed: u64) -> Limits {
        Limits { executions, time: Duration::from_secs(600), seed }
    }

    /// Panics for inputs that it takes three steps to find.
    const PICKY: Target = Target {
        name: "picky",
        about: "",
        run: |data| {
            if data.first() == Some(&b'n') {
                note("one");
                if data.get(1) == Some(&b'o') {
                    note("two");
                    assert!(data.get(2) != Some(&b'n'), "found {}", data.len());
                }
            }
        },
        seeds: || vec![vec![0; 8]],
        mutate: |data, random, others| crate::mutate::bytes(data, random, &[], others),
        memory: Memory { times: 0, bytes: 0 },
    };

    #[test]
    fn new_behaviour_leads_on_to_the_failure() {
        let report = drive(&PICKY, &limits(300_000, 1), &mut Unmeasured);
        assert_eq!((report.executions, report.behaviours), (300_000, 2));
        let [failure] = &report.failures[..] else { panic!("{:?}", report.failures) };
        assert!(failure.input.starts_with(b"non") && failure.times > 0, "{failure:?}");
        assert!(execute(&PICKY, &failure.input, &mut Unmeasured).failure.is_some());
        assert_eq!(execute(&PICKY, b"no", &mut Unmeasured).failure, None);
        // The same again for the same seed, something else for another.
        let again = drive(&PICKY, &limits(300_000, 1), &mut Unmeasured);
        assert_eq!(again.failures, report.failures);
        let other = drive(&PICKY, &limits(300_000, 2), &mut Unmeasured);
        assert_ne!(other.failures, report.failures);
    }

    struct Hungry;

    impl Around for Hungry {
        fn before(&mut self, _input: &[u8]) {}

        fn measure(&mut self, run: &mut dyn FnMut()) -> u64 {
            run();
            1001
        }
    }

    #[test]
    fn too_much_memory_is_a_failure() {
        let target = Target { memory: Memory { times: 100, bytes: 300 }, ..PICKY };
        assert_eq!(execute(&target, &[0; 8], &mut Hungry).failure, None);
        let failure = execute(&target, &[0; 7], &mut Hungry).failure.unwrap();
        assert!(failure.contains("1001") && failure.contains("1000"), "{failure}");
    }

    /// A few inputs for each target; the program of this crate is for more.
    #[test]
    fn no_target_fails_on_its_seeds_and_some_mutations() {
        for target in TARGETS {
            let seeds = (target.seeds)().len() as u64;
            let report = drive(&target, &limits(seeds + 200, 1), &mut Unmeasured);
            assert_eq!(report.failures, [], "{}", target.name);
            assert!(report.behaviours > 3, "{}: {report:?}", target.name);
        }
    }
}
