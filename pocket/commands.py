"""What the command line does besides serving a session."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

from pocket import __version__
from pocket.cli import USAGE
from pocket.errors import PocketError
from pocket.sandbox import enter_tier
from pocket.store.store import Store, default_root


def run(command: str, argv: list[str]) -> int:
    """Run one command; gives the exit code."""
    table: dict[str, Callable[[list[str]], int]] = {
        "run": _run, "shell": _shell, "doctor": _doctor, "tier": _tier, "du": _du, "prune": _prune, "version": _version,
    }  # fmt: skip
    if command not in table:
        print(f"pocket: unknown command {command!r}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    try:
        return table[command](argv)
    except PocketError as e:
        print(f"pocket: {e}" + (f"\n  {e.hint}" if e.hint else ""), file=sys.stderr)
        return 1


def _version(argv: list[str]) -> int:
    _parser("version", "Print the version.").parse_args(argv)
    print(f"pocket {__version__}")
    return 0


def _tier(argv: list[str]) -> int:
    _parser("tier", "Print the tier that a session would use: root, subuid or single-uid.").parse_args(argv)
    print(enter_tier().name)
    return 0


def _run(argv: list[str]) -> int:
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command or command[0] in ("-h", "--help"):
        print(
            "usage: pocket run [--] CMD…\n\nRun a program with a session in its environment; its exit code is ours.",
            file=sys.stderr,
        )
        return 0 if command else 2
    # In a session of its own: what Ctrl-C means is the program's to decide, and it may still need the engine for that.
    start, pipe = [sys.executable, "-m", "pocket", "session"], subprocess.PIPE
    with subprocess.Popen(start, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        line = session.stdout.readline()
        if not line:
            return session.wait()
        given = json.loads(line)
        names = {"DAGGER_SESSION_PORT": str(given["port"]), "DAGGER_SESSION_TOKEN": given["session_token"]}
        try:
            return _program(command, {**os.environ, **names})
        finally:
            session.stdin.close()


def _program(command: list[str], environment: dict[str, str]) -> int:
    """Run the program to its end; a terminal's interrupt reaches it by itself, other signals are passed on."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, a handler is not inherited
    early: list[int] = []  # signals that come before there is a program to pass them to
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: early.append(number))
    try:
        program = subprocess.Popen(command, env=environment)
    except OSError as e:
        print(f"pocket: cannot run {command[0]}: {e.strerror}", file=sys.stderr)
        return 127 if isinstance(e, FileNotFoundError) else 126
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: program.send_signal(number))
    for sent in early:
        program.send_signal(sent)
    code = program.wait()
    return 128 - code if code < 0 else code


def _shell(argv: list[str]) -> int:
    from pocket.shell import main

    return main(argv)


def _parser(command: str, about: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"pocket {command}", description=about, allow_abbrev=False)


def _doctor(argv: list[str]) -> int:
    from pocket.sandbox.probe import run_all

    parser = _parser("doctor", "Try what a session needs on this machine; the exit code is 1 when something is missing.")
    parser.add_argument("--json", action="store_true", help="print a list of objects: name, status, detail, fix")
    asked = parser.parse_args(argv)
    found = run_all(default_root())
    if asked.json:
        print(json.dumps([{"name": p.name, "status": p.status, "detail": p.detail, "fix": p.fix} for p in found], indent=1))
    else:
        for p in found:
            print(f" {p.status:<5} {p.name:<24} {p.detail}" + (f"\n{'':7}{'fix: ' + p.fix}" if p.fix else ""))
    return 1 if any(p.status == "fail" for p in found) else 0


def _du(argv: list[str]) -> int:
    parser = _parser("du", "Say what the cache holds.")
    parser.add_argument("--json", action="store_true", help="print an object: bytes of layers, blobs, volumes, other, total; counts")
    asked = parser.parse_args(argv)
    with _opened() as store:
        found = store.du()
    print(json.dumps(found.to_json()) if asked.json else found.describe())
    return 0


def _prune(argv: list[str]) -> int:
    parser = _parser("prune", "Remove what was used longest ago. What running sessions use stays.")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--max-bytes", type=_bytes, metavar="N", help="until the cache takes at most N bytes (1.5G, 200M, 4096)")
    how.add_argument("--all", action="store_true", help="remove everything, cache volumes too")
    parser.add_argument("--json", action="store_true", help="print an object: removed, freed, left, in_use")
    asked = parser.parse_args(argv)
    with _opened() as store:
        found = store.prune(max_bytes=asked.max_bytes, volumes=asked.all)
    print(json.dumps(found.to_json()) if asked.json else found.describe())
    return 0


def _bytes(text: str) -> int:
    """Read a number of bytes, with a decimal unit or none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 1.5G")
    return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " "))


@contextlib.contextmanager
def _opened() -> Iterator[Store]:
    store = Store.open(default_root(), tier=enter_tier().name)
    try:
        yield store
    finally:
        store.close()
