#!/usr/bin/env python3
"""Nonius beside other libraries, on the same data, in the same run, on one thread."""

import argparse
import os
import sys
from pathlib import Path

# Before numpy and the peers are loaded, and for all child processes.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS",
                 "NUMEXPR_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def parser():
    top = argparse.ArgumentParser(description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    def command(name, help_):
        sub = commands.add_parser(name, help=help_)
        sub.add_argument("--base", required=True, help="file of vectors: .npy .fvecs .bvecs .fbin")
        sub.add_argument("--queries", required=True, help="file of queries")
        sub.add_argument("--truth", required=True, help=".ivecs of the true neighbours by L2")
        sub.add_argument("--max-queries", type=int, help="use only the first so many queries")
        sub.add_argument("--csv", help="write the rows to this file")
        sub.add_argument("--markdown", help="write the table to this file")
        sub.add_argument("--lock", help="hold a lock on this file while timing")
        return sub

    quality = command("quality", "accuracy of codes at equal bytes")
    quality.add_argument("--tool", default=RELEASE / "nonius", help="the tool, a release build")
    quality.add_argument("--quantizers", default="saq:16B,saq:24B,saq:32B,saq:48B,saq:64B,saq:96B,"
                         "saq:2,saq:4,saq:6,saq:8", help="of Nonius, or none")
    quality.add_argument("--peers", choices=("all", "none"), default="all")
    quality.add_argument("--codecs", help="of peers, such as pq:16,eden:4 [default: all]")
    quality.add_argument("--bytes", default="16,24,32,48,64,96", help="of PQ, OPQ and RQ")
    quality.add_argument("--train-rows", type=int, default=65_536,
                         help="that peers train on; Nonius takes as many")
    quality.add_argument("--slow-queries", type=int, default=200,
                         help="for codecs with estimators of their own, which take long (EDEN, RaBitQ)")

    speed = command("speed", "queries a second at equal recall")
    speed.add_argument("--worker", default=RELEASE / "nonius-compare-worker",
                       help="Nonius's side, a release build")
    speed.add_argument("--peers", default="all", help="names, and nonius for all of its indexes")
    speed.add_argument("--recalls", default=[0.90, 0.95, 0.99], help="such as 0.9,0.99",
                       type=lambda text: [float(part) for part in text.split(",")])
    speed.add_argument("--k", type=int, default=10)
    speed.add_argument("--nlist", type=int, default=1024, help="lists of every IVF")
    speed.add_argument("--repeats", type=int, default=5, help="rounds")
    speed.add_argument("--seconds", type=float, default=0.2, help="of a measurement, at least")
    speed.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                       help="cpu counts the time of all threads of a worker, for busy machines")
    speed.add_argument("--build-jobs", type=int, default=1,
                       help="indexes that are built at a time; each on one thread")

    field = commands.add_parser("field", help="install the peers, measure both on all sets, draw and table them")
    field.add_argument("--set", nargs=5, action="append", metavar=("NAME", "BASE", "QUERIES", "TRUTH", "NLIST"),
                       help="a set, and the lists of every IVF on it; may be repeated [default: that of the repository]")
    field.add_argument("--out", required=True, help="folder for the CSV files and pictures")
    field.add_argument("--into", help="page that gets the tables between its marks [default: README.md in the folder]")
    field.add_argument("--environment", default=RELEASE.parent / "compare",
                       help="virtual environment for the peers, made where it is not there")
    field.add_argument("--peers", default="all", help="of speed: names, and nonius for all of its indexes")
    field.add_argument("--quantizers", help="of quality, of Nonius [default: a choice of all]")
    field.add_argument("--codecs", help="of quality, of peers, or none [default: a choice of all]")
    field.add_argument("--recalls", default=[0.8, 0.9, 0.95, 0.98, 0.99],
                       type=lambda text: [float(part) for part in text.split(",")])
    field.add_argument("--k", type=int, default=10)
    field.add_argument("--max-queries", type=int, help="use only the first so many queries")
    field.add_argument("--repeats", type=int, default=5, help="rounds")
    field.add_argument("--seconds", type=float, default=0.2, help="of a measurement, at least")
    field.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    field.add_argument("--build-jobs", type=int, default=1)
    field.add_argument("--lock", help="hold a lock on this file while timing")

    page = commands.add_parser("page", help="tables and pictures anew, from the files of field")
    page.add_argument("--out", required=True, help="folder with the files")
    page.add_argument("--into", help="page that gets the tables between its marks")
    page.add_argument("--check", action="store_true", help="only say whether the page has the figures of the files")
    return top


def main():
    args = parser().parse_args()
    if args.command == "quality":
        import quality

        quality.run(args)
        return 0
    if args.command == "speed":
        import speed

        return speed.run(args)
    if args.command == "field":
        import field

        data = ROOT / "datasets" / "data" / "wordnet-384"
        args.set = args.set or [("wordnet-384", data / "base.f16.npy", data / "queries.f16.npy",
                                 data / "truth.ivecs", "100")]
        return field.run(args, lambda words: parser().parse_args([str(word) for word in words]))
    import page

    if args.check:
        if not page.check(args.out, args.into):
            sys.exit(f"{args.into} does not show the figures of {args.out}")
        return 0
    import draw

    draw.all_sets(args.out)
    page.write(args.out, args.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
