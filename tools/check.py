"""Run every check of this repository: lint, format, types, import contracts, tests with coverage.

Stops at the first that fails and exits with its code. Uses the tools that lie beside the running interpreter.
Arguments go to pytest, except `--fast`, which leaves the end-to-end tests out, and with them the coverage floor.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def _commands(arguments: list[str]) -> list[tuple[str, list[str]]]:
    fast = "--fast" in arguments
    chosen = [argument for argument in arguments if argument != "--fast"]
    if fast:
        chosen += ["-m", "not e2e and not nightly", "--cov-fail-under=0"]
    pytest = ["-m", "pytest", "-n", "auto", "--dist", "loadgroup", "--cov", "--cov-report=term", "--cov-report=xml", *chosen]
    return [
        ("ruff", [str(BIN / "ruff"), "check", "."]),
        ("format", [str(BIN / "ruff"), "format", "--check", "."]),
        ("mypy", [str(BIN / "mypy")]),
        ("imports", [str(BIN / "lint-imports"), "--no-logo"]),
        ("tests", [sys.executable, *pytest]),
    ]


def main() -> int:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    for name, command in _commands(sys.argv[1:]):
        start = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        print(f"check: {name} {'passed' if code == 0 else f'failed with exit code {code}'} in {time.monotonic() - start:.1f} s", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
