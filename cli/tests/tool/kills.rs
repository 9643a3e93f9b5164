//! Builds that are killed: whatever the moment, the index is the old one or the new one, whole.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nonius_datasets::Synthetic;

use crate::Sandbox;

/// How often a build is killed.
const KILLS: u32 = 300;

#[test]
fn a_killed_build_leaves_the_old_index_or_the_new_one() {
    let sandbox = Sandbox::new();
    // Little work beside the writing: so most moments are in or about it.
    let set = Synthetic { rows: 300, dim: 8, seed: 3, ..Synthetic::default() }.generator();
    sandbox.write("few.fvecs", &nonius_datasets::read_matrix(&set).unwrap());
    let build = |seed: u32| format!("build few.fvecs -o a.nonius --nlist 12 --seed {seed}");
    // The two files that may be seen, and how long it takes to make one.
    sandbox.run(&build(1)).success();
    let new = sandbox.bytes("a.nonius");
    let mut times = [(); 9].map(|()| {
        let start = Instant::now();
        sandbox.run(&build(0)).success();
        start.elapsed()
    });
    times.sort();
    let whole = times[4];
    let old = sandbox.bytes("a.nonius");
    assert!(old != new);

    let (mut killed, mut finished, mut replaced, mut left_over) = (0, 0, 0, 0);
    for turn in 0..KILLS {
        // From the first moment to a little after the last; every other time in the last half, where
        // files are written.
        let share = f64::from(turn) / f64::from(KILLS);
        let delay = whole.mul_f64(if turn % 2 == 0 { 1.2 * share } else { 0.5 + 0.7 * share });
        let mut child =
            sandbox.command(&build(1)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        let whole = child.wait().unwrap().success();
        let found = sandbox.bytes("a.nonius");
        assert!(found == old || found == new, "turn {turn}: {} bytes", found.len());
        if whole {
            finished += 1;
            assert!(found == new, "turn {turn}: finished, and the old index is there");
        } else {
            killed += 1;
            replaced += u32::from(found == new);
        }
        left_over += u32::from(sandbox.files().iter().any(|name| name.contains(".nonius-tmp-")));
        if found == new {
            std::fs::write(sandbox.path("a.nonius"), &old).unwrap();
        }
    }
    println!(
        "{killed} killed, {replaced} of them after the rename; {finished} finished before; \
         {left_over} times a file was left over"
    );
    // A child that is killed at once has done nothing: some kills there always are.
    assert!(killed > 0);
    // The next build removes what the killed ones have left.
    sandbox.run(&build(1)).success();
    assert_eq!(sandbox.files(), ["a.nonius", "base.fvecs", "few.fvecs", "queries.fvecs"]);
    sandbox.run("verify a.nonius").success();
    // Some time after the kill, not before: nobody is left to write.
    std::thread::sleep(Duration::from_millis(20));
    assert!(sandbox.bytes("a.nonius") == new);
}
