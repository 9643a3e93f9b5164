//! The program from the outside: what it prints, saves and returns.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nonius-fuzz"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// The numbers of a report that do not depend on the machine.
fn counts(text: &str) -> Vec<&str> {
    text.split([';', ',']).filter(|part| !part.contains(" s") && !part.contains("ms")).collect()
}

#[test]
fn a_run_reports_and_is_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let save = folder.path().join("found").to_str().unwrap().to_owned();
    let arguments =
        ["kernels", "--seconds", "300", "--executions", "3000", "--seed", "7", "--save", &save];
    let (output, first) = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{first}");
    assert!(first.starts_with("kernels: 3000 executions in ") && first.contains("behaviours"));
    assert!(first.contains("; 0 kinds of failures"), "{first}");
    assert!(!folder.path().join("found").exists(), "nothing was found, nothing is saved");
    let (_, again) = run(&arguments);
    assert_eq!(counts(&first), counts(&again));
}

#[test]
fn targets_are_listed_and_unknown_ones_refused() {
    let (output, text) = run(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    for target in nonius_fuzz::targets::TARGETS {
        assert!(text.contains(target.name) && text.contains(target.about), "{text}");
    }
    for wrong in [&["nope"][..], &["index", "--seconds", "-1"], &["all", "--replay", "x"], &[]] {
        let (output, _) = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn seeds_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = run(&["index", "--seeds", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        nonius::Index::from_bytes(&bytes).unwrap();
        seeds += 1;
    }
    assert!(seeds > 12, "{seeds}");
}

#[test]
fn an_input_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    std::fs::write(&path, b"build\nbase.fvecs\n-o\nx").unwrap();
    let (output, text) = run(&["arguments", "--replay", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("21 bytes"), "{text}");
}
