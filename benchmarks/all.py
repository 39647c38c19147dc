"""Run every benchmark, keep the results and write the tables of docs/performance.md anew.

    python benchmarks/all.py [--quick] [--skip NAME]... [--kind NAME] [--scratch DIR]
    python benchmarks/all.py --tables

Writes benchmarks/results/<date>-<kind>.json, and the text between the markers of docs/performance.md from it; no figure there is typed
by hand. `--tables` only writes the page anew, from the latest results. `--quick` takes smaller sizes and one round, and leaves the
page alone. Takes about ten minutes on two quiet cores, and 20 GB of disk. Nothing is deleted before the end: on some file
systems many deletions slow down what follows for minutes; for the same reason, wait five minutes before another run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import ROOT, fill, machine
from tables import page

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results", ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- results: written by benchmarks/all.py -->", "<!-- end of results -->"
#: Name → program, its options, its options with --quick, environment.
RUNS: dict[str, tuple[str, list[str], list[str], dict[str, str]]] = {
    "engine": ("engine.py", ["--rounds=5"], ["--rounds=1", "--files=1000"], {}),
    "single-uid": ("engine.py", ["--rounds=3"], ["--rounds=1", "--files=1000"], {"POCKET_TIER": "single-uid"}),
    "dockerfile": ("dockerfile.py", ["--rounds=5"], ["--rounds=1"], {}),
    "layers": ("layers.py", ["--rounds=2"], ["--rounds=1", "--megabytes=64"], {}),
    "large": ("engine.py", ["--rounds=1", "--chain=200", "--fan=200", "--files=100000"], ["--rounds=1", "--chain=60", "--files=3000"], {}),
}


def run(name: str, scratch: Path, *, quick: bool) -> dict[str, object] | None:
    """Run one benchmark; gives its result, or None when it cannot run here."""
    program, full, small, environment = RUNS[name]
    out = scratch / f"{name}.json"
    home = scratch / name
    home.mkdir()
    command = [sys.executable, str(HERE / program), *(small if quick else full), "--json", str(out), "--scratch", str(home)]
    print(f"{name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)
    if done.returncode or not out.exists():
        print(f"{name}: not measured (the program ended with {done.returncode})", file=sys.stderr)
        return None
    found: dict[str, object] = json.loads(out.read_text())
    return found


def write_page(results: dict[str, object], source: str) -> None:
    """Put the tables of some results between the markers."""
    fill(PAGE, BEGIN, END, page(results, source))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--skip", action="append", default=[], choices=[*RUNS])
    parser.add_argument("--kind", default="root" if os.geteuid() == 0 else "user")
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    where = RESULTS / f"{time.strftime('%Y-%m-%d')}-{asked.kind}.json"
    if asked.tables:
        where = max(RESULTS.glob(f"*-{asked.kind}.json"))
        write_page(json.loads(where.read_text()), where.name)
        return
    scratch = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=asked.scratch))
    try:
        results: dict[str, object] = {"machine": machine()}
        for name in RUNS:
            if name not in asked.skip and (found := run(name, scratch, quick=asked.quick)) is not None:
                results[name] = found
        results["ended"] = machine()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if asked.quick:
        print(page(results, "a quick run"))
        return
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results, where.name)
    print(f"wrote {where.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
