"""Searches of peers and of Nonius, alternating in one run.

Each index lives in a process of its own; of those, one works at a time (but for builds with
`--build-jobs`). First the smallest settings that reach each recall are searched for, one a family
of settings; the cheapest of them is what is timed, in rounds: a peer, an index of Nonius, the next
peer, the next index of Nonius, and so on.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import data
import peers
import report

MODES = ("batch", "single")


class Failed(Exception):
    """A worker's error, in one line."""


class Worker:
    """An index in a process of its own, and what is known of it."""

    def __init__(self, name, args, folder):
        self.name, self.failure = name, None
        self.is_nonius = name in peers.NONIUS
        if self.is_nonius:
            quantizer, keep, spill = peers.NONIUS[name]
            command = [args.worker]
            self.options = dict(quantizer=quantizer, keep=keep, spill=spill, nlist=args.nlist)
            self.families = peers.nonius_families(keep, args.nlist)
        else:
            command = [sys.executable, Path(__file__).with_name("worker.py"), name]
            self.options = dict(nlist=args.nlist)
            self.families = peers.PEERS[name](args.nlist).families()
        self.ids = str(Path(folder, name + ".ids"))
        self.log = open(Path(folder, name + ".log"), "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        # By mode and setting: recall and microseconds a query.
        self.tried = {}

    def ask(self, command, **arguments):
        try:
            print(json.dumps({command: arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or [""])[-1]
            raise Failed(f"ended with status {self.process.wait()}: {last}"[:160])
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"].splitlines()[0][:160])
        return answer

    def build(self, base, queries, k):
        self.built = self.ask("build", base=base, queries=queries, k=k, options=self.options)

    def measure(self, setting, mode, seconds, ids=None):
        return self.ask("search", setting=setting, mode=mode, seconds=seconds, ids=ids)

    def try_out(self, setting, mode, truth, k):
        """Recall and CPU microseconds a query, measured once."""
        key = (mode, json.dumps(setting))
        if key not in self.tried:
            answer = self.measure(setting, mode, 0.0, self.ids)
            found = np.fromfile(self.ids, dtype="<i4").reshape(len(truth), k)
            time = answer["cpu"] or answer["wall"]
            self.tried[key] = (data.recall(found, truth, k), 1e6 * time / answer["queries"])
        return self.tried[key]

    def find(self, target, truth, k):
        """For each mode, the cheapest setting among the first of each family that reach a recall."""
        reach = []
        for family in self.families:
            if self.try_out(family[-1], "batch", truth, k)[0] < target:
                continue
            # What was tried for other recalls narrows the range.
            known = [self.tried.get(("batch", json.dumps(setting)), (None,))[0] for setting in family]
            high = next(i for i, recall in enumerate(known) if recall is not None and recall >= target)
            low = next((i + 1 for i in range(high - 1, -1, -1) if known[i] is not None), 0)
            while low < high:
                middle = (low + high) // 2
                if self.try_out(family[middle], "batch", truth, k)[0] >= target:
                    high = middle
                else:
                    low = middle + 1
            reach.append(family[high])
        found = {}
        for mode in MODES:
            costs = [(self.try_out(setting, mode, truth, k), setting) for setting in reach]
            costs = [(cost, recall, setting) for (recall, cost), setting in costs
                     if recall >= target]
            if costs:
                found[mode] = min(costs, key=lambda row: row[0])[1:]
        return found

    def fail(self, error):
        self.failure = str(error)
        report.note(f"{self.name}: {error}")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def prepare(workers, args, vectors, folder):
    """Builds the indexes and finds their settings."""
    base, queries = str(Path(folder, "base.npy")), str(Path(folder, "queries.npy"))
    np.save(base, vectors.base)
    np.save(queries, vectors.queries)

    def build_and_find(worker):
        worker.found = {}
        try:
            worker.build(base, queries, args.k)
            built = worker.built
            report.note(f"{worker.name}: built in {built['cpu']:.1f} CPU s, "
                        f"{built['bytes']:.0f} bytes a vector")
            for target in args.recalls:
                worker.found[target] = worker.find(target, vectors.truth, args.k)
                report.note(f"{worker.name}: {target}: {worker.found[target]}")
        except Failed as error:
            worker.fail(error)

    with ThreadPoolExecutor(args.build_jobs) as pool:
        list(pool.map(build_and_find, workers))


def order(workers):
    """A peer, an index of Nonius, the next peer, the next index of Nonius, ..."""
    nonius = [worker for worker in workers if worker.is_nonius]
    others = [worker for worker in workers if not worker.is_nonius]
    row = []
    for i in range(max(len(nonius), len(others))):
        row += others[i:i + 1]
        if nonius:
            row.append(nonius[i % len(nonius)])
    return row


def time_rounds(workers, args):
    """Queries a second, a list for each worker, recall and mode."""
    speeds = {}
    for target in args.recalls:
        for mode in MODES:
            turn = order([worker for worker in workers
                          if not worker.failure and mode in worker.found.get(target, {})])
            with report.alone(args.lock):
                for _ in range(args.repeats):
                    for worker in turn:
                        if worker.failure:
                            continue
                        _, setting = worker.found[target][mode]
                        try:
                            answer = worker.measure(setting, mode, args.seconds)
                        except Failed as error:
                            worker.fail(error)
                            continue
                        time = answer[args.clock] or answer["wall"]
                        row = speeds.setdefault((worker.name, target, mode), [])
                        row.append((answer["queries"] / time, answer["cpu"] / answer["wall"]))
            report.note(f"timed {mode} at {target}")
            write(args, summarize(workers, speeds, args))
    return speeds


def write(args, rows):
    """The files asked for; also after each recall and mode, as a run takes long."""
    if args.csv:
        report.write_csv(args.csv, rows)
    if args.markdown:
        Path(args.markdown).write_text(report.markdown(*table(rows)) + "\n")


def compare(mine, other):
    """Nonius's speed over a peer's, or a tie where the gap is less than the spread."""
    quotient, tie = report.ratio(mine, other)
    return f"tie ({quotient})" if tie else quotient


def summarize(workers, speeds, args):
    """A row for each worker, recall and mode."""
    rows = []
    for target in args.recalls:
        for mode in MODES:
            group = []
            for worker in workers:
                row = dict(recall_wanted=target, mode=mode, name=worker.name, bytes=None,
                           build_cpu_seconds=None, recall=None, qps=None, min=None, max=None,
                           repeats=0, cpu_share=None, setting="", nonius_over_it="",
                           nonius_of_its_bytes="", note=worker.failure or "")
                if hasattr(worker, "built"):
                    row |= dict(bytes=worker.built["bytes"],
                                build_cpu_seconds=worker.built["cpu"])
                values = speeds.get((worker.name, target, mode))
                if values:
                    recall, setting = worker.found[target][mode]
                    qps = [value for value, _ in values]
                    row |= dict(recall=recall, setting=json.dumps(setting), repeats=len(qps),
                                qps=statistics.median(qps), min=min(qps), max=max(qps),
                                cpu_share=statistics.median(share for _, share in values))
                    if row["cpu_share"] > 1.1:
                        row["note"] = f"used {row['cpu_share']:.1f} threads"
                elif not worker.failure:
                    reached = mode in worker.found.get(target, {})
                    row["note"] = "not timed yet" if reached else "recall not reached"
                group.append(row)
            mine = [row for row in group if row["name"] in peers.NONIUS and row["qps"]]
            for row in group:
                if row["name"] in peers.NONIUS or not row["qps"]:
                    continue
                small = [other for other in mine if other["bytes"] <= 1.02 * row["bytes"]]
                for key, choice in (("nonius_over_it", mine), ("nonius_of_its_bytes", small)):
                    if choice:
                        best = max(choice, key=lambda other: other["qps"])
                        row[key] = compare(best, row) + " " + best["name"].removeprefix("nonius-")
            rows += sorted(group, key=lambda row: -(row["qps"] or 0))
    return rows


def table(rows):
    """Columns and cells."""
    columns = ["name", "recall wanted", "mode", "bytes", "build CPU s", "recall", "QPS", "min..max",
               "Nonius / it", "at its bytes", "setting", "note"]
    cells = []
    for row in rows:
        known = row["bytes"] is not None
        cells.append([
            row["name"], row["recall_wanted"], row["mode"],
            f"{row['bytes']:.0f}" if known else "", f"{row['build_cpu_seconds']:.1f}" if known else "",
            f"{row['recall']:.4f}" if row["qps"] else "", f"{row['qps']:.0f}" if row["qps"] else "-",
            f"{row['min']:.0f}..{row['max']:.0f}" if row["qps"] else "",
            row["nonius_over_it"], row["nonius_of_its_bytes"],
            " ".join(f"{key}={value}" for key, value in json.loads(row["setting"] or "{}").items()),
            row["note"]])
    return columns, cells


def names(asked):
    """The workers asked for: `all`, or names; `nonius` stands for all of its indexes."""
    if asked == "all":
        return [*peers.PEERS, *peers.NONIUS]
    chosen = []
    for name in asked.split(","):
        chosen += list(peers.NONIUS) if name == "nonius" else [name]
    unknown = [name for name in chosen if name not in peers.PEERS and name not in peers.NONIUS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(names('all'))}")
    return chosen


def run(args):
    """The subcommand."""
    vectors = data.load(args.base, args.queries, args.truth, args.max_queries)
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(name, args, folder) for name in names(args.peers)]
        try:
            prepare(workers, args, vectors, folder)
            speeds = time_rounds(workers, args)
        finally:
            for worker in workers:
                worker.close()
        rows = summarize(workers, speeds, args)
    write(args, rows)
    print(report.text(*table(rows)))
    # Peers may fail; Nonius may not.
    return 1 if any(worker.is_nonius and worker.failure for worker in workers) else 0
