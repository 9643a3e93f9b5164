//! Nonius for `compare.py`: reads commands from standard input, one line of JSON each, and answers
//! each with a line of JSON. `worker.py` does the same for the peers and describes the protocol.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use nonius::{Index, IndexBuilder, IndexConfig, Matrix, MatrixView, Neighbor, SearchParams};
use serde_json::{Value, json};

/// Queries before the clock starts.
const WARM_UP: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut worker = None;
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = if let Some(build) = command.get("build") {
            Worker::build(build).map(|(built, answer)| {
                worker = Some(built);
                answer
            })
        } else if let (Some(search), Some(worker)) = (command.get("search"), &worker) {
            worker.search(search)
        } else {
            Err("expected build, then search".into())
        };
        let answer = answer.unwrap_or_else(|error| json!({"error": error.to_string()}));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

struct Worker {
    index: Index,
    queries: Matrix,
    k: usize,
}

impl Worker {
    fn build(command: &Value) -> Result<(Worker, Value), Box<dyn Error>> {
        let base = nonius_datasets::load(text(command, "base")?)?;
        let queries = nonius_datasets::load(text(command, "queries")?)?;
        let options = &command["options"];
        let config = IndexConfig {
            quantizer: text(options, "quantizer")?.parse()?,
            keep: text(options, "keep")?.parse()?,
            nlist: Some(number(options, "nlist")?),
            spill: options["spill"].as_f64().ok_or("expected spill")?,
            ..IndexConfig::default()
        };
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let (index, _) = IndexBuilder::new(&config).build(&base)?;
        let answer = json!({
            "bytes": index.info().file_bytes as f64 / index.len() as f64,
            "wall": started.elapsed().as_secs_f64(),
            "cpu": cpu_seconds() - cpu,
        });
        Ok((Worker { index, queries, k: number(command, "k")? }, answer))
    }

    fn search(&self, command: &Value) -> Result<Value, Box<dyn Error>> {
        let setting = &command["setting"];
        let default = SearchParams::default();
        let params = SearchParams {
            nprobe: number(setting, "nprobe")?,
            rerank: number(setting, "rerank")?,
            confidence: setting["confidence"].as_f64().map_or(default.confidence, |c| c as f32),
            centroid_ratio: setting["centroid_ratio"].as_f64().map(|ratio| ratio as f32),
            ..default
        };
        let batch = text(command, "mode")? == "batch";
        let seconds = command["seconds"].as_f64().ok_or("expected seconds")?;

        let few = WARM_UP.min(self.queries.rows()) * self.queries.dim();
        self.answer(
            MatrixView::new(self.queries.dim(), &self.queries.data()[..few])?,
            &params,
            batch,
        )?;

        let (started, cpu) = (Instant::now(), cpu_seconds());
        let mut answered = 0;
        let mut ids = Vec::new();
        while answered == 0 || started.elapsed() < Duration::from_secs_f64(seconds) {
            ids = self.answer(self.queries.view(), &params, batch)?;
            answered += self.queries.rows();
        }
        let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        if let Some(path) = command["ids"].as_str() {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            std::fs::write(path, bytes)?;
        }
        Ok(json!({"queries": answered, "wall": wall, "cpu": cpu}))
    }

    /// The ids found, `k` a query, -1 where there are fewer.
    fn answer(
        &self,
        queries: MatrixView<'_>,
        params: &SearchParams,
        batch: bool,
    ) -> Result<Vec<i32>, Box<dyn Error>> {
        let mut ids = vec![-1; queries.rows() * self.k];
        let mut put = |query: usize, found: &[Neighbor]| {
            for (id, neighbor) in ids[query * self.k..][..self.k].iter_mut().zip(found) {
                *id = neighbor.id as i32;
            }
        };
        if batch {
            let (found, _) = self.index.search_batch(queries, self.k, params)?;
            found.iter().enumerate().for_each(|(query, found)| put(query, found));
        } else {
            let mut searcher = self.index.searcher();
            for query in 0..queries.rows() {
                put(query, searcher.search(queries.row(query), self.k, params)?);
            }
        }
        Ok(ids)
    }
}

fn text<'a>(command: &'a Value, key: &str) -> Result<&'a str, String> {
    command[key].as_str().ok_or_else(|| format!("expected {key}, found {command}"))
}

fn number(command: &Value, key: &str) -> Result<usize, String> {
    let found = command[key].as_u64().ok_or_else(|| format!("expected {key}, found {command}"))?;
    Ok(found as usize)
}

/// Seconds that all threads of this process have run; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds: f64 = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
        .sum();
    nanoseconds * 1e-9
}
