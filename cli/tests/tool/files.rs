//! `info`, `verify` and `convert`; damaged files; closed pipes.

use std::process::Stdio;

use crate::{DIM, ROWS, Sandbox, number_within, plan_dims};

#[test]
fn info_shows_the_sections() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius --metric cosine --nlist 10 --keep f16").success();
    let text = sandbox.run("info a.nonius").success().stdout;
    for part in ["1500 x 24, cosine", "saq:4", "section", "offset"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let json = sandbox.run("info a.nonius --json -").json();
    assert_eq!((&json["vectors"], &json["dim"]), (&ROWS.into(), &DIM.into()));
    assert_eq!((&json["nlist"], &json["keep"]), (&10.into(), &"f16".into()));
    assert_eq!(json["file_bytes"], sandbox.bytes("a.nonius").len());
    assert_eq!(plan_dims(&json), DIM as u64);
    let largest = number_within(&json, "largest_list", 150.0, ROWS as f64);
    number_within(&json, "smallest_list", 1.0, largest);
    let sections = json["sections"].as_array().unwrap();
    assert!(sections.len() > 3);
    let ends =
        sections.iter().map(|s| s["offset"].as_u64().unwrap() + s["bytes"].as_u64().unwrap());
    assert!(ends.max().unwrap() <= json["file_bytes"].as_u64().unwrap());
}

#[test]
fn verify_finds_a_flipped_byte_in_every_section() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius --nlist 10").success();
    let text = sandbox.run("verify a.nonius").success().stdout;
    let good = sandbox.bytes("a.nonius");
    assert!(text.starts_with("ok: ") && text.contains(" sections, "), "{text}");
    assert!(text.contains(&format!("{} bytes", good.len())), "{text}");

    let info = sandbox.run("info a.nonius --json -").json();
    for section in info["sections"].as_array().unwrap() {
        let offset = section["offset"].as_u64().unwrap();
        let bytes = section["bytes"].as_u64().unwrap();
        if bytes == 0 {
            continue;
        }
        let mut bad = good.clone();
        bad[(offset + bytes / 2) as usize] ^= 0x10;
        std::fs::write(sandbox.path("bad.nonius"), &bad).unwrap();
        // Sections that opening looks into may be refused for their meaning already.
        let name = section["name"].as_str().unwrap();
        sandbox.run("verify bad.nonius").failure(1, &["bad.nonius", name]);
    }
    // A section that opening does not look into: its checksum and its place are named.
    let largest = info["sections"]
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|section| section["bytes"].as_u64().unwrap())
        .unwrap();
    let offset = largest["offset"].as_u64().unwrap();
    let mut bad = good.clone();
    bad[offset as usize + 5] ^= 1;
    std::fs::write(sandbox.path("bad.nonius"), &bad).unwrap();
    let name = largest["name"].as_str().unwrap();
    let place = format!("at offset {offset}");
    sandbox.run("verify bad.nonius").failure(1, &["bad.nonius", "checksum", name, &place]);
    // The header.
    let mut bad = good;
    bad[17] ^= 1;
    std::fs::write(sandbox.path("bad.nonius"), &bad).unwrap();
    sandbox.run("verify bad.nonius").failure(1, &["bad.nonius"]);
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius --nlist 10").success();
    let good = sandbox.bytes("a.nonius");
    for length in [0, 3, 60, 300, good.len() / 2, good.len() - 1] {
        std::fs::write(sandbox.path("cut.nonius"), &good[..length]).unwrap();
        for command in ["info cut.nonius", "verify cut.nonius"] {
            sandbox.run(command).failure(1, &["cut.nonius"]);
        }
    }
    std::fs::write(sandbox.path("cut.nonius"), &good[..good.len() / 2]).unwrap();
    sandbox.run("info cut.nonius").failure(1, &["truncated"]);
    sandbox.run("info base.fvecs").failure(1, &["base.fvecs", "not a Nonius index"]);
    sandbox.run("info none.nonius").failure(1, &["none.nonius", "No such file"]);
}

#[test]
fn convert_keeps_every_value() {
    let sandbox = Sandbox::new();
    for name in ["b.npy", "c.fbin", "d.fvecs"] {
        let outcome = sandbox.run(&format!("convert base.fvecs {name}")).success();
        assert_eq!(outcome.stdout, "1500 rows\n");
        assert!(nonius_datasets::load(sandbox.path(name)).unwrap() == sandbox.base);
    }
    assert!(sandbox.bytes("d.fvecs") == sandbox.bytes("base.fvecs"));
    sandbox.run("convert base.fvecs e.u8bin").failure(1, &["row 0", "u8"]);
    sandbox.run("convert base.fvecs e.txt").failure(1, &["unknown format"]);
    assert!(!sandbox.path("e.u8bin").exists());
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius").success();
    let mut command = sandbox.command("info a.nonius");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
