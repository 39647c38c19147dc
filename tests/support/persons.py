"""People of this machine who can start pocket without installing it: an account, an interpreter that it may run, and the code.

An interpreter below root's home is of no use to anybody else, and neither is a checkout there: then another one of the same
version is taken, with the packages of this one, and a copy of the code in the person's home.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import subordinate
from accounts import ROOT, Account, python_of

_IMPORTS = "import dagger, dockerfile, graphql, httpx, opentelemetry.proto, pathspec, sys; assert sys.version_info[:2] == {}"


@dataclass(frozen=True, slots=True)
class Person:
    """An account that runs pocket from a tree of source code."""

    account: Account
    code: Path
    packages: str

    @property
    def environment(self) -> dict[str, str]:
        """Give what their shell would hold."""
        paths = (str(self.code), str(self.code / "tests" / "support"), self.packages)
        return self.account.environment({"PYTHONPATH": os.pathsep.join(p for p in paths if p), "PYTHONDONTWRITEBYTECODE": "1"})

    @property
    def launcher(self) -> Path:
        """Give a program that is pocket's command line, for SDKs that want one file."""
        path = self.account.home / "pocket"
        if not path.exists():
            path.write_text(f'#!/bin/sh\nexec "{self.account.python}" -m pocket "$@"\n')
            path.chmod(0o755)
        return path

    def popen(self, *argv: str, **options: object) -> "subprocess.Popen[str]":
        """Start a program as this person."""
        options |= self.account.ids
        command = (*self.account.become, *argv)
        return subprocess.Popen(command, text=True, cwd=self.account.home, env=self.environment, **options)  # type: ignore[call-overload,no-any-return]

    def tier(self) -> str:
        """Ask pocket which tier this person gets."""
        with self.popen(self.account.python, "-m", "pocket", "tier", stdout=subprocess.PIPE) as process:
            said, _ = process.communicate()
        assert process.returncode == 0
        return said.strip()


def person(name: str, home: Path) -> Person:
    """Make somebody with a new home; the directory above must be one that they can reach."""
    account = subordinate.account(home, sys.executable) if name == subordinate.NAME else Account(name, home, sys.executable)
    home.mkdir()
    if account.other is None:
        return Person(account, ROOT, "")
    account.own(home)
    code = home / "code"
    for part in ("pocket", "tests/support", "tests/conformance"):
        shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    account.own(code)
    python, packages = _interpreter(account)
    return Person(replace(account, python=python), code, packages)


def _interpreter(account: Account) -> tuple[str, str]:
    here = str(next(Path(p) for p in sys.path if p.endswith("site-packages")))
    named = os.environ.get(f"WEIGHBRIDGE_E2E_PYTHON_{account.name.upper()}", "")
    for python, packages in ((named, ""), (sys.executable, ""), ("/usr/bin/python3", here)):
        if python and _works(account, python, packages):
            return python, packages
    return python_of(account.name, account.home, account), ""


def _works(account: Account, python: str, packages: str) -> bool:
    command = (python, "-c", _IMPORTS.format(tuple(sys.version_info[:2])))
    try:
        return account.run(*command, cwd=account.home, env={"PYTHONPATH": packages} if packages else {}).code == 0
    except OSError:  # it may not even be looked at
        return False
