"""The whole comparison: peers and Nonius installed, built, measured on each set, drawn and tabled.

For each set the folder gets `NAME-speed.csv`, `NAME-quality.csv` and `NAME.svg`, and `about.json` says on what machine, with
which versions and how each was measured. Sets that are there already stay. `page.py` makes the tables of these files, and nothing else.
"""

import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Of Nonius: at the bytes of the peers' codes, and at the bits of SAQ.
QUANTIZERS = ",".join(
    [f"{kind}:{n}B" for kind in ("pq", "saq") for n in (16, 32, 64)]
    + [f"{kind}:{n}B" for kind in ("opq", "rvq") for n in (16, 32)]
    + ["rabitq", "erabitq:4", "saq:1", "saq:2", "saq:4", "saq:6", "saq:8", "sq:4", "sq:8", "lvq:4", "lvq:8"])
# Of peers. Faiss's OPQ and RQ take many minutes in more bytes.
CODECS = ",".join(
    [f"pq:{n}" for n in (16, 32, 64)] + ["opq:16", "opq:32", "rq:16"]
    + ["sq:4", "sq:8", "rabitq:1", "eden:1", "eden:2", "eden:4", "eden:8",
       "rabitqlib:1", "rabitqlib:4"])


def inside(environment):
    """The Python of a virtual environment with the peers, made and filled where it is not there."""
    python = environment / "bin" / "python"
    wanted = HERE / "requirements.txt"
    installed = environment / "requirements.txt"
    if not python.exists():
        report.note(f"a virtual environment in {environment}")
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    if not installed.exists() or installed.read_text() != wanted.read_text():
        report.note("the peers of requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        installed.write_text(wanted.read_text())
    return python


def build():
    """The tool and Nonius's worker."""
    subprocess.run(["cargo", "build", "--locked", "--release", "-p", "nonius-cli", "-p", "nonius-benches",
                    "--bin", "nonius", "--bin", "nonius-compare-worker"], cwd=ROOT, check=True)


def about(args, nlist):
    """The machine, the versions, and how a set is measured."""
    def first(pattern, path):
        try:
            found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
        except OSError:
            found = None
        return found.group(1).strip() if found else ""

    flags = first(r"^flags\s*:(.*)$", "/proc/cpuinfo").split()
    memory = first(r"^MemTotal:\s*(\d+)", "/proc/meminfo")
    versions = {}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        name = line.split("==")[0]
        if not line.startswith("#"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = "not installed"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    return dict(
        date=time.strftime("%Y-%m-%d"), commit=commit, processor=first(r"^model name\s*:(.*)$", "/proc/cpuinfo"),
        family=first(r"^cpu family\s*:(.*)$", "/proc/cpuinfo"), model=first(r"^model\s*:(.*)$", "/proc/cpuinfo"),
        cores=os.cpu_count(), gigabytes=round(int(memory or 0) / 2**20),
        instructions=[name for name in ("avx2", "avx512f", "avx512_vnni", "asimd") if name in flags],
        system=f"{platform.system()} {platform.machine()}", python=platform.python_version(),
        versions=versions, clock=args.clock, repeats=args.repeats, seconds=args.seconds,
        recalls=args.recalls, k=args.k, nlist=int(nlist), peers=args.peers)


def run(args, command):
    """The subcommand; `command(words)` is a parsed command line of this program."""
    python = inside(Path(args.environment).resolve())
    if Path(sys.prefix).resolve() != Path(args.environment).resolve():
        # Once more, with the peers.
        return subprocess.run([python, HERE / "compare.py", *sys.argv[1:]]).returncode

    import draw
    import page
    import quality
    import speed

    build()
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    for name, base, queries, truth, nlist in args.set:
        # Before the rows, so that what is there of a broken run can be drawn.
        page.describe(folder, name, about(args, nlist))
        files = ["--base", base, "--queries", queries, "--truth", truth]
        if args.max_queries:
            files += ["--max-queries", str(args.max_queries)]
        if args.lock:
            files += ["--lock", args.lock]
        report.note(f"{name}: speed")
        status |= speed.run(command(
            ["speed", *files, "--nlist", nlist, "--csv", str(folder / f"{name}-speed.csv"),
             "--recalls", ",".join(map(str, args.recalls)), "--peers", args.peers, "--k", str(args.k),
             "--repeats", str(args.repeats), "--seconds", str(args.seconds), "--clock", args.clock,
             "--build-jobs", str(args.build_jobs)]))
        report.note(f"{name}: quality")
        quality.run(command(
            ["quality", *files, "--csv", str(folder / f"{name}-quality.csv"),
             "--quantizers", args.quantizers or QUANTIZERS, "--codecs", args.codecs or CODECS]
            + (["--peers", "none"] if args.codecs == "none" else [])))
        draw.draw(folder, name)
    page.write(folder, args.into)
    return status
