"""Rows as a table for people, as Markdown and as CSV; and a lock for what must not run beside anything."""

import contextlib
import csv
import fcntl
import sys


def text(columns, rows):
    """A table with aligned columns; the first column is left-aligned."""
    cells = [list(columns)] + [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = []
    for row in cells:
        line = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        lines.append("  ".join(line).rstrip())
    return "\n".join(lines)


def markdown(columns, rows):
    """The same as Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = ["" if cell is None else str(cell).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(mine, other):
    """One speed over another in two digits, and whether it is a tie: a gap smaller than the larger spread."""
    gap = abs(mine["qps"] - other["qps"])
    spread = max(row["max"] - row["min"] for row in (mine, other))
    return f"{mine['qps'] / other['qps']:.2f}", gap < spread


def write_csv(path, rows):
    """Dictionaries with the same keys."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def note(message):
    """Progress, to stderr."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone(path):
    """Holds a lock that other measurements on this machine hold too."""
    if not path:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
