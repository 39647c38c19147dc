"""The engine under test: the one that the SDK's environment names, else pocket, and a session of it that runs cases."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounts import ROOT
from persons import Person

_NAMES = ("_EXPERIMENTAL_DAGGER_CLI_BIN", "DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN")
#: What the environment names, kept from before the tests made it neutral.
NAMED = {name: os.environ[name] for name in _NAMES if name in os.environ}
CASES = ROOT / "tests" / "conformance"


def _observed() -> Path | None:
    beside = os.environ.get("WEIGHBRIDGE_SHARED") or str(ROOT.parent / "shared")
    folder = Path(beside) / "conformance"
    return folder if (folder / "observed.json").exists() else None


#: Where the cases lie that Dagger's own engine was observed with; None without them.
OBSERVED = _observed()


@dataclass(frozen=True, slots=True)
class Engine:
    """One session of the engine under test, asked for cases by name."""

    tier: str
    process: "subprocess.Popen[str]"
    log: Path

    def ask(self, name: str) -> Any:
        """Run a case; give its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the driver ended during {name}; the session said:\n{self.log.read_text()}"
        return json.loads(line)


def start(somebody: Person, base: Path) -> Engine:
    """Start a session as somebody; its first answer has been read.

    Raises:
        AssertionError: there is no session.
    """
    code, home = somebody.code, somebody.account.home
    folders = [str(code / "tests" / "conformance")]
    if OBSERVED is not None:
        copied = home / "observed"
        shutil.copytree(OBSERVED, copied, copy_function=shutil.copyfile)
        copied.chmod(0o755)
        folders.append(str(copied))
    driver, log = str(code / "tests" / "support" / "case_driver.py"), home / "session.log"
    settings = [f"{k}={v}" for k, v in (NAMED or {"_EXPERIMENTAL_DAGGER_CLI_BIN": str(somebody.launcher)}).items()]
    command = ["env", *settings, somebody.account.python, driver, str(base), str(log), *folders]
    process = somebody.popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not process.stdout.readline():
        process.communicate()
        raise AssertionError(f"no session: {log.read_text() if log.exists() else ''}")
    return Engine("named" if NAMED else somebody.tier(), process, log)
