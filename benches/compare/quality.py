"""Accuracy of codes at equal bytes, with the definitions of `nonius quality`.

Every query is compared with every base vector by its code. Errors are means of
`|estimate - true| / true` of the squared distance: `err_nn` over the true neighbours of each query
(`bias_nn` with its sign), `err_random` over 500 random vectors a query. Recall is that of a flat
scan by the estimates. Vectors are taken relative to the mean of the base.
"""

import json
import multiprocessing
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

import codecs_of_peers
import data
import report

RANDOM = 500
KEYS = ["name", "bytes", "err_nn", "err_random", "bias_nn", "recall_at_10", "recall_10_at_100",
        "encode_vectors_per_second", "train_seconds", "queries", "note"]


def measure(codec, vectors, train_rows, slow_queries):
    """One row: what a codec of a peer reaches on a set."""
    mean = vectors.base.mean(axis=0, dtype=np.float64).astype(np.float32)
    base = vectors.base - mean
    queries, truth = vectors.queries - mean, vectors.truth
    if codec.slow:
        queries, truth = queries[:slow_queries], truth[:slow_queries]

    random = np.random.default_rng(0)
    sample = base[random.permutation(len(base))[:train_rows]]
    started = time.process_time()
    codec.train(sample)
    trained = time.process_time()
    codec.encode(base)
    encoded = time.process_time()
    codec.prepare()

    sums = dict(near=0.0, far=0.0, bias=0.0, in_10=0, in_100=0)
    step = 1 if codec.slow else 32
    for start in range(0, len(queries), step):
        block = queries[start:start + step]
        for offset, estimates in enumerate(codec.estimates(block)):
            query, true = block[offset].astype(np.float64), truth[start + offset]

            def errors(ids):
                exact = ((base[ids].astype(np.float64) - query) ** 2).sum(axis=1)
                difference = estimates[ids] - exact
                return np.divide(difference, exact, out=np.zeros_like(exact), where=exact > 0)

            near = errors(true)
            sums["near"] += np.abs(near).mean()
            sums["bias"] += near.mean()
            sums["far"] += np.abs(errors(random.integers(0, len(base), RANDOM))).mean()
            best = np.argpartition(estimates, 99)[:100] if len(base) > 100 else np.arange(len(base))
            best = best[np.lexsort((best, estimates[best]))]
            sums["in_10"] += len(np.intersect1d(best[:10], true[:10]))
            sums["in_100"] += len(np.intersect1d(best, true[:10]))
    count = len(queries)
    return dict(
        name=codec.name, bytes=codec.bytes, err_nn=sums["near"] / count,
        err_random=sums["far"] / count, bias_nn=sums["bias"] / count,
        recall_at_10=sums["in_10"] / (10 * count), recall_10_at_100=sums["in_100"] / (10 * count),
        encode_vectors_per_second=len(base) / max(encoded - trained, 1e-9),
        train_seconds=trained - started, queries=count, note="")


def child(name, files, max_queries, train_rows, slow_queries, pipe):
    """Measures one codec in a process of its own: OpenMP runtimes and crashes stay apart."""
    try:
        vectors = data.load(*files, max_queries)
        pipe.send(measure(codecs_of_peers.make(name, vectors), vectors, train_rows, slow_queries))
    except Exception as error:  # whatever a peer may throw
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}")


def measure_apart(name, arguments):
    """The row of a codec, or one that says what went wrong."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(name, *arguments, send))
    process.start()
    send.close()
    try:
        answer = receive.recv()
    except EOFError:
        answer = None
    process.join()
    if isinstance(answer, dict):
        return answer
    message = answer or f"ended with status {process.exitcode}"
    return dict.fromkeys(KEYS) | dict(name=name, note=message.splitlines()[0][:160])


def measure_nonius(tool, files, quantizers, max_queries):
    """Rows of `nonius quality`, on one thread."""
    base, queries, truth = files
    with tempfile.TemporaryDirectory() as folder:
        if max_queries:
            few = data.load(base, queries, truth, max_queries)
            queries, truth = Path(folder, "queries.npy"), Path(folder, "truth.ivecs")
            np.save(queries, few.queries)
            width = np.full((len(few.truth), 1), few.truth.shape[1], dtype="<i4")
            np.hstack([width, few.truth]).astype("<i4").tofile(truth)
        answer = subprocess.run(
            [tool, "quality", base, queries, "--truth", truth, "--quantizers", quantizers,
             "--threads", "1", "--json", "-"],
            check=True, stdout=subprocess.PIPE)
    answer = json.loads(answer.stdout)
    return [
        {key: row.get(key) for key in KEYS}
        | dict(name="nonius " + row["quantizer"], bytes=row["bytes_per_vector"],
               queries=answer["queries"], note="")
        for row in answer["rows"]
    ]


def run(args):
    """The subcommand."""
    files = (args.base, args.queries, args.truth)
    names = [] if args.peers == "none" else codecs_of_peers.names(args.codecs, args.bytes)
    rows = []
    # Each by itself, so that what is there of a broken run can be read.
    for quantizer in [] if args.quantizers == "none" else args.quantizers.split(","):
        started = time.monotonic()
        with report.alone(args.lock):
            rows += measure_nonius(args.tool, files, quantizer, args.max_queries)
        report.note(f"nonius {quantizer}: {time.monotonic() - started:.0f} s")
        write(args, rows)
    for name in names:
        started = time.monotonic()
        with report.alone(args.lock):
            rows.append(measure_apart(name, (files, args.max_queries, args.train_rows, args.slow_queries)))
        report.note(f"{name}: {time.monotonic() - started:.0f} s {rows[-1]['note']}")
        write(args, rows)
    write(args, rows)
    print(report.text(*table(rows)))
    failed = [row["name"] for row in rows if row["bytes"] is None]
    if failed:
        report.note("failed: " + ", ".join(failed))


def write(args, rows):
    """The files asked for; also after each codec, as some take long."""
    if args.csv:
        report.write_csv(args.csv, rows)
    if args.markdown:
        Path(args.markdown).write_text(report.markdown(*table(rows)) + "\n")


def table(rows):
    """Columns and cells, sorted by bytes; failures last."""
    columns = ["name", "bytes", "err_nn", "err_random", "bias_nn", "recall@10", "recall 10@100",
               "trained s", "encoded/s", "queries", "note"]
    cells = []
    for row in sorted(rows, key=lambda row: (row["bytes"] is None, row["bytes"], row["err_nn"])):
        if row["bytes"] is None:
            cells.append([row["name"]] + [""] * 9 + [row["note"]])
            continue
        percent = [f"{100 * row[key]:.3g}%" for key in ("err_nn", "err_random", "bias_nn")]
        recalls = [f"{row[key]:.4f}" for key in ("recall_at_10", "recall_10_at_100")]
        cells.append([row["name"], f"{row['bytes']:.0f}", *percent, *recalls,
                      f"{row['train_seconds']:.1f}", f"{row['encode_vectors_per_second']:.0f}",
                      row["queries"], row["note"]])
    return columns, cells
