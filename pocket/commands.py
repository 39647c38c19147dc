"""What the command line does besides serving a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from pocket import __version__
from pocket.cli import USAGE
from pocket.errors import PocketError
from pocket.sandbox import enter_tier
from pocket.store.store import Store, default_root


def run(command: str, argv: list[str]) -> int:
    """Run one command; gives the exit code."""
    table: dict[str, Callable[[list[str]], int]] = {
        "run": _run, "doctor": _doctor, "tier": _tier, "du": _du, "prune": _prune, "version": _version,
    }  # fmt: skip
    if command not in table:
        print(f"pocket: unknown command {command!r}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    try:
        return table[command](argv)
    except PocketError as e:
        print(f"pocket: {e}" + (f"\n  {e.hint}" if e.hint else ""), file=sys.stderr)
        return 1


def _version(_: list[str]) -> int:
    print(f"pocket {__version__}")
    return 0


def _tier(_: list[str]) -> int:
    print(enter_tier().name)
    return 0


def _run(argv: list[str]) -> int:
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        print("usage: pocket run [--] COMMAND…", file=sys.stderr)
        return 2
    with subprocess.Popen([sys.executable, "-m", "pocket", "session"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        line = session.stdout.readline()
        if not line:
            return session.wait()
        session_of = json.loads(line)
        environment = {
            **os.environ, "DAGGER_SESSION_PORT": str(session_of["port"]), "DAGGER_SESSION_TOKEN": session_of["session_token"],
        }  # fmt: skip
        try:
            return subprocess.run(command, env=environment, check=False).returncode
        except FileNotFoundError:
            print(f"pocket: no such command: {command[0]}", file=sys.stderr)
            return 127
        finally:
            assert session.stdin is not None
            session.stdin.close()


def _doctor(argv: list[str]) -> int:
    from pocket.sandbox.probe import run_all

    found = run_all(default_root())
    if "--json" in argv:
        print(json.dumps([{"name": p.name, "status": p.status, "detail": p.detail, "fix": p.fix} for p in found], indent=1))
    else:
        for p in found:
            print(f" {p.status:<5} {p.name:<24} {p.detail}" + (f"\n{'':7}{'fix: ' + p.fix}" if p.fix else ""))
    return 1 if any(p.status == "fail" for p in found) else 0


def _open() -> Store:
    return Store.open(default_root(), tier=enter_tier().name)


def _du(_: list[str]) -> int:
    store = _open()
    try:
        print(store.du().describe())
    finally:
        store.close()
    return 0


def _prune(argv: list[str]) -> int:
    limit = None
    if "--max-bytes" in argv:
        try:
            limit = int(argv[argv.index("--max-bytes") + 1])
        except (ValueError, IndexError):
            print("pocket: --max-bytes takes a number of bytes", file=sys.stderr)
            return 2
    elif "--all" not in argv:
        print("usage: pocket prune --max-bytes N | --all", file=sys.stderr)
        return 2
    store = _open()
    try:
        print(store.prune(max_bytes=limit, volumes="--all" in argv).describe())
    finally:
        store.close()
    return 0
