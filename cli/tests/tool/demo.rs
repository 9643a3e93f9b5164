//! `demo`: the promises that it makes to whoever runs it first.

use crate::{Sandbox, number_within, plan_dims};

#[test]
fn the_demo_shows_what_it_promises() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.run("demo --json d.json").success();
    for part in ["10000 sentence embeddings", "plan", "1536", "recall@10", "memory mapping"] {
        assert!(outcome.stdout.contains(part), "no {part:?} in {}", outcome.stdout);
    }
    let json = sandbox.read_json("d.json");
    assert_eq!((&json["vectors"], &json["dim"]), (&10_000.into(), &384.into()));
    assert_eq!(json["f32_bytes_per_vector"], 1536);
    number_within(&json, "bytes_per_vector", 150.0, 260.0);
    assert_eq!(plan_dims(&json), 384);
    number_within(&json, "open_ms", 0.0, 1000.0);

    let best = |reranked: bool| {
        let rows = json["rows"].as_array().unwrap().iter();
        rows.filter(|row| (row["rerank"].as_u64().unwrap() > 0) == reranked)
            .map(|row| row["recall"].as_f64().unwrap())
            .fold(0.0, f64::max)
    };
    assert!(best(false) >= 0.95, "without rerank: {}", best(false));
    assert!(best(true) >= 0.99, "with rerank: {}", best(true));

    let examples = json["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let neighbors = example["neighbors"].as_array().unwrap();
        assert_eq!(neighbors.len(), 3);
        for neighbor in neighbors {
            let text = neighbor["text"].as_str().unwrap();
            let shown: String = text.chars().take(40).collect();
            assert!(outcome.stdout.contains(&shown), "{shown}");
        }
    }
}

#[test]
fn a_missing_set_is_a_clear_error() {
    let sandbox = Sandbox::new();
    sandbox.run("demo --data nowhere").failure(1, &["shipped vectors", "nowhere", "--data"]);
}
