"""A picture of each set of a comparison: recall against speed, recall against bytes, build times."""

from pathlib import Path

import page

# Families of names share a colour; Nonius stands out.
COLOURS = {"nonius": "#c1121f", "faiss": "#1f77b4", "rabitqlib": "#2ca02c", "symphonyqg": "#9467bd",
           "scann": "#ff7f0e", "turbovec": "#8c564b", "hnswlib": "#7f7f7f", "usearch": "#bcbd22",
           "glass": "#17becf", "vsag": "#e377c2", "svs": "#444444"}
MARKERS = "osD^vP*Xph<>"


def kind(name):
    return name.replace(" ", "-").split("-")[0]


def colour(name):
    return COLOURS.get(kind(name), "#444444")


def draw(folder, name):
    """`NAME.svg` of the CSV files that are there."""
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nonius", "font.size": 9})
    from matplotlib import pyplot

    folder = Path(folder)
    figure, axes = pyplot.subplots(2, 2, figsize=(15, 13), constrained_layout=True)
    speed, quality = folder / f"{name}-speed.csv", folder / f"{name}-quality.csv"
    if speed.exists():
        rows = page.rows(speed)
        curves(axes[0][0], rows, "batch", f"{name}: all queries in one call, one thread")
        curves(axes[0][1], rows, "single", f"{name}: one query a call, one thread")
        builds(axes[1][1], rows)
    if quality.exists():
        codes(axes[1][0], page.rows(quality))
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def all_sets(folder):
    """The pictures of all sets of a folder."""
    for name in page.described(folder):
        draw(folder, name)


def style(name, seen):
    """Colour by family, marker by member."""
    family = kind(name)
    members = seen.setdefault(family, [])
    if name not in members:
        members.append(name)
    mine = family == "nonius"
    return dict(color=colour(name), marker=MARKERS[members.index(name) % len(MARKERS)], markersize=5,
                linewidth=2 if mine else 1, zorder=3 if mine else 2, alpha=1 if mine else 0.8)


def curves(axis, rows, mode, title):
    """Queries a second at the recall that was reached."""
    seen = {}
    for name, row in page.by_index(rows).items():
        points = sorted((point["recall"], point["qps"]) for (_, of), point in row.items()
                        if of == mode and point["qps"])
        if points:
            axis.plot(*zip(*points), label=name, **style(name, seen))
    axis.set(title=title, xlabel="recall@10", ylabel="queries a second", yscale="log")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=7, ncols=2, loc="lower left")


def codes(axis, rows):
    """Recall of a scan of estimates at the bytes of a code."""
    seen = {}
    families = {}
    for row in rows:
        if row["bytes"] is not None:
            families.setdefault(row["name"].split(":")[0], []).append((row["bytes"], row["recall_at_10"]))
    for name, points in families.items():
        axis.plot(*zip(*sorted(points)), label=name, **style(name, seen))
    axis.set(title="recall of codes, all vectors scanned, no rerank", xlabel="bytes a vector",
             ylabel="recall@10")
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=7, ncols=2, loc="lower right")


def builds(axis, rows):
    """Seconds of the processor."""
    built = {row["name"]: row["build_cpu_seconds"] for row in rows if row["build_cpu_seconds"] is not None}
    order = sorted(built, key=built.get, reverse=True)
    axis.barh(order, [max(built[name], 1e-2) for name in order], color=[colour(name) for name in order])
    axis.set(title="build, clustering included, one thread", xlabel="seconds", xscale="log")
    axis.grid(alpha=0.3, axis="x")
    axis.tick_params(axis="y", labelsize=7)
