"""The tables of a comparison as Markdown, from the files that it wrote."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import report

# Links between vectors: what they find fast they keep in memory.
GRAPHS = ("symphonyqg", "rabitqlib-hnsw", "hnswlib", "usearch", "glass", "vsag", "svs")
MARKS = ("<!-- figures: written by compare.py -->", "<!-- end of figures -->")


def is_nonius(name):
    return name.startswith("nonius")


def is_graph(name):
    return name.startswith(GRAPHS)


def rows(path):
    """Rows of a CSV file; what is a number as one."""
    def value(text):
        try:
            return float(text)
        except ValueError:
            return text or None

    with open(path, newline="") as file:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def number(value):
    return "-" if value is None else f"{value:,.0f}"


def percent(value):
    return "-" if value is None else f"{100 * value:.3g}"


def bold(name):
    return f"**{name}**" if is_nonius(name) else name


def table(columns, cells, failed):
    """A table, and below it the names and messages of what has no figures."""
    text = report.markdown(columns, cells)
    return text + ("\n\nWithout figures: " + "; ".join(failed) + "." if failed else "")


def by_index(speed):
    """Rows of each index: name to {(recall, mode): row}."""
    found = {}
    for row in speed:
        found.setdefault(row["name"], {})[row["recall_wanted"], row["mode"]] = row
    return found


def speed_table(speed):
    """An index a row: bytes, build, queries a second at each recall, in batches and one by one."""
    indexes = by_index(speed)
    recalls = sorted({row["recall_wanted"] for row in speed})
    keys = [(recall, mode) for mode in ("batch", "single") for recall in recalls]

    def fastest(item):
        return [-(item[1][recall, "batch"]["qps"] or 0) for recall in (0.95, 0.9, *recalls) if (recall, "batch") in item[1]]

    cells = []
    failed = []
    for name, row in sorted(indexes.items(), key=fastest):
        first = row[keys[0]]
        if not any(row[key]["qps"] for key in keys):
            failed.append(f"{name}: {first['note']}")
            continue
        cells.append([bold(name), number(first["bytes"]), f"{first['build_cpu_seconds']:.1f}",
                      *(number(row[key]["qps"]) for key in keys)])
    columns = ["index", "bytes a vector", "build s",
               *(f"{'batch' if mode == 'batch' else 'one by one'} {recall:g}" for recall, mode in keys)]
    return table(columns, cells, failed)


def ratio(mine, other):
    """Mine over the other's; what is no tie stands out."""
    quotient, tie = report.ratio(mine, other)
    return f"{quotient}, a tie" if tie else f"**{quotient}**"


def cell(row):
    return f"{row['name'].removeprefix('nonius-')}, {number(row['bytes'])} B: " \
        f"{number(row['qps'])} ({number(row['min'])} to {number(row['max'])})"


def against_table(speed):
    """At each recall, the fastest of ours, and of the peers without and with a graph."""
    cells = []
    for recall in sorted({row["recall_wanted"] for row in speed}):
        for mode in ("batch", "single"):
            timed = [row for row in speed
                     if row["recall_wanted"] == recall and row["mode"] == mode and row["qps"]]
            groups = [[row for row in timed if is_nonius(row["name"])],
                      [row for row in timed if not is_nonius(row["name"]) and not is_graph(row["name"])],
                      [row for row in timed if is_graph(row["name"])]]
            mine, lists, graphs = (max(group, key=lambda row: row["qps"], default=None) for group in groups)
            line = [f"{recall:g}", "batch" if mode == "batch" else "one by one", cell(mine) if mine else "-"]
            for best in (lists, graphs):
                line += [cell(best) if best else "-", ratio(mine, best) if mine and best else "-"]
            cells.append(line)
    return report.markdown(["recall", "queries", "fastest of Nonius", "fastest without a graph", "ratio",
                     "fastest graph", "ratio"], cells)


def quality_table(quality):
    """A codec a row, by bytes."""
    cells = []
    failed = []
    for row in sorted(quality, key=lambda row: (row["bytes"] or 0, row["err_nn"] or 0)):
        if row["bytes"] is None:
            failed.append(f"{row['name']}: {row['note']}")
            continue
        cells.append([bold(row["name"]), number(row["bytes"]), percent(row["err_nn"]), percent(row["err_random"]),
                      f"{row['recall_at_10']:.3f}", f"{row['recall_10_at_100']:.3f}"])
    columns = ["codes", "bytes", "error, neighbours %", "error, random %", "recall@10", "10 in 100"]
    return table(columns, cells, failed)


def described(folder):
    """Of each set, how it was measured."""
    path = Path(folder, "about.json")
    return json.loads(path.read_text()) if path.exists() else {}


def describe(folder, name, about):
    """Says how a set was measured."""
    all_sets = described(folder) | {name: about}
    Path(folder, "about.json").write_text(json.dumps(all_sets, indent=1) + "\n")


def how(about):
    """How a set was measured, in a paragraph."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items()
                         if name not in ("numpy", "matplotlib"))
    clock = "time of the processor" if about["clock"] == "cpu" else "clock"
    return (f"{about['date']}, commit {about['commit']}. {about['processor']} (family {about['family']}, model "
            f"{about['model']}; {', '.join(about['instructions'])}), {about['cores']} cores, {about['gigabytes']} GB, "
            f"{about['system']}. Python {about['python']}: {versions}. One thread; {about['nlist']:,} lists; medians of "
            f"{about['repeats']} alternating rounds of at least {about['seconds']:g} s by the {clock}; recall@{about['k']}.")


def figures(folder, page_folder):
    """All that is measured, as Markdown."""
    link = os.path.relpath(folder, page_folder)
    parts = []
    for name, about in described(folder).items():
        parts += [f"## {name}", how(about),
                  f"![recall against speed, recall against bytes, build times]({link}/{name}.svg)"]
        speed = folder / f"{name}-speed.csv"
        if speed.exists():
            measured = rows(speed)
            parts += [f"### {name}: Nonius against the fastest", against_table(measured),
                      f"### {name}: all indexes", speed_table(measured)]
        quality = folder / f"{name}-quality.csv"
        if quality.exists():
            parts += [f"### {name}: codes", quality_table(rows(quality))]
    return "\n\n".join(parts) + "\n"


def put(page, text):
    """A page with the figures between the marks."""
    begin, end = MARKS
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"expected the lines {begin} and {end} in the page")
    return pattern.sub(lambda _: f"{begin}\n\n{text}\n{end}", page)


def write(folder, into):
    """`README.md` in the folder or, where a page is given, its part between the marks."""
    folder = Path(folder)
    if into:
        page = Path(into)
        page.write_text(put(page.read_text(), figures(folder, page.parent)))
    else:
        (folder / "README.md").write_text(figures(folder, folder))


def check(folder, into):
    """Whether a page shows the figures of the files."""
    page = Path(into)
    return page.read_text() == put(page.read_text(), figures(Path(folder), page.parent))
