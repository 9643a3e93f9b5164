//! Builds that are killed: whatever the moment, the index is the old one or the new one, whole.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Sandbox;

/// How often a build is killed.
const KILLS: u32 = 60;

#[test]
fn a_killed_build_leaves_the_old_index_or_the_new_one() {
    let sandbox = Sandbox::new();
    let build = |seed: u32| format!("build base.fvecs -o a.nonius --nlist 12 --seed {seed}");
    // The two files that may be seen, and how long it takes to make one.
    sandbox.run(&build(1)).success();
    let new = sandbox.bytes("a.nonius");
    let start = Instant::now();
    sandbox.run(&build(0)).success();
    let whole = start.elapsed();
    let old = sandbox.bytes("a.nonius");
    assert!(old != new);

    let (mut killed, mut finished, mut left_over) = (0, 0, 0);
    for turn in 0..KILLS {
        // From the first moment to a little after the last.
        let delay = whole * turn / KILLS * 11 / 10;
        let mut child =
            sandbox.command(&build(1)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            finished += 1
        } else {
            killed += 1
        }
        let found = sandbox.bytes("a.nonius");
        assert!(found == old || found == new, "turn {turn}: {} bytes", found.len());
        left_over += u32::from(sandbox.files().iter().any(|name| name.contains(".nonius-tmp-")));
        if found == new {
            sandbox.run(&build(0)).success();
        }
    }
    println!("{killed} killed, {finished} finished before; {left_over} times a file was left over");
    // A child that is killed at once has done nothing: some kills there always are.
    assert!(killed > 0);
    // The next build removes what the killed ones have left.
    sandbox.run(&build(1)).success();
    assert_eq!(sandbox.files(), ["a.nonius", "base.fvecs", "queries.fvecs"]);
    sandbox.run("verify a.nonius").success();
    // Some time after the kill, not before: nobody is left to write.
    std::thread::sleep(Duration::from_millis(20));
    assert!(sandbox.bytes("a.nonius") == new);
}
