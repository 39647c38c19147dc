"""Behaviour cases for any engine that Dagger's SDK can talk to: small programs, each with the answer that it must give.

A case gets a `Ctx` and returns a JSON value; an error of the SDK is an answer as well. In an expected value the text `ANY` matches
everything there, and `RE:` begins a regular expression. The form is that of the cases that Dagger's own engine was observed with,
so both kinds run through the same driver.
"""

import importlib.util
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANY = "ANY"


class Ctx:
    """What a case gets: the client, the base container, a scratch directory on the host, and a fresh word."""

    def __init__(self, dag: Any, base: Any, tmp: Path, salt: str) -> None:
        self.dag, self.base, self.tmp, self.salt = dag, base, tmp, salt

    def fresh(self) -> Any:
        """Give the base container with a variable that nobody has used before, so that nothing is cached."""
        return self.base.with_env_variable("SALT", self.salt)

    def sh(self, script: str) -> Any:
        """Give the base container after a shell script."""
        return self.base.with_exec(["sh", "-c", script])


Run = Callable[[Ctx], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """A case and its answers.

    `rootless` is the answer of an ordinary user, `single_uid` where there is only one user id to give, `dagger` that of Dagger's own
    engine (which tests then take for any engine that the environment names) where pocket differs on purpose.
    """

    run: Run
    expected: Any
    rootless: Any
    single_uid: Any
    dagger: Any

    def answer(self, tier: str) -> Any:
        """Give what an engine of a tier must answer."""
        return {"single-uid": self.single_uid, "subuid": self.rootless, "named": self.dagger}.get(tier, self.expected)


CASES: dict[str, Case] = {}
_SAME = object()


def case(expected: Any, *, rootless: Any = _SAME, single_uid: Any = _SAME, dagger: Any = _SAME) -> Callable[[Run], Run]:
    """Enter a function into the book under its name, with the answer it must give."""

    def enter(run: Run) -> Run:
        if run.__name__ in CASES:
            raise ValueError(f"two cases are called {run.__name__}")
        right = _wrapped(expected)
        ordinary = right if rootless is _SAME else _wrapped(rootless)
        alone = ordinary if single_uid is _SAME else _wrapped(single_uid)
        CASES[run.__name__] = Case(run, right, ordinary, alone, right if dagger is _SAME else _wrapped(dagger))
        return run

    return enter


def _wrapped(expected: Any) -> Any:
    return expected.answer if isinstance(expected, Fails) else {"ok": expected}


@dataclass(frozen=True, slots=True)
class Fails:
    """The answer is an error."""

    answer: dict[str, Any]


def fails(message: str) -> Fails:
    """Expect a QueryError with this message."""
    return Fails({"error": "QueryError", "message": message})


def exec_fails(exit_code: int, *, stdout: str = "", stderr: str = "", message: str = "", command: Any = ANY) -> Fails:
    """Expect an ExecError; the message is that of the exit code unless given."""
    return Fails({
        "error": "ExecError", "exit_code": exit_code, "stdout": stdout, "stderr": stderr,
        "message": message or f"exit code: {exit_code}", "command": command,
    })  # fmt: skip


def plain(text: str) -> str:
    """Drop what belongs to one run of one engine: trace ids and temporary mount points."""
    text = re.sub(r" \[traceparent:[0-9a-f-]+\]", "", text)
    return re.sub(r"/tmp/(dagger-mount|rootfs|buildkit-mount)\d+", "ROOT", text)


def matches(want: Any, got: Any) -> bool:
    """Tell whether an answer is the expected one."""
    if want == ANY:
        return True
    if isinstance(want, str) and want.startswith("RE:"):
        return isinstance(got, str) and re.fullmatch(want[3:], got, re.DOTALL) is not None
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(matches(want[k], got[k]) for k in want)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(matches, want, got))
    return bool(want == got)


def load(folder: Path) -> None:
    """Import the case modules of a folder, those that are not yet; they enter their cases themselves."""
    for path in sorted(folder.glob("cases_*.py")):
        if path.stem in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
