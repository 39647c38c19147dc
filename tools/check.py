"""Run every check of this repository: lint, format, types, import contracts, tests, coverage.

Stops at the first that fails and exits with its code. Uses the tools that lie beside the running interpreter.
`--fast` leaves the end-to-end tests out, and with them the coverage floor; `--unit` runs the unit tests alone; other arguments go to
pytest. The tests start processes, namespaces and registries on machines that others use too: a test that fails is asked once
more, alone, after it was named; a test that fails twice fails the check.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NO_E2E = ["-m", "not e2e and not nightly"]
MANY = 20  # failures: more than this are no accident


def _commands(arguments: list[str]) -> list[tuple[str, list[str]]]:
    chosen = [argument for argument in arguments if argument not in {"--fast", "--unit"}]
    if "--unit" in arguments:
        return [("tests", [sys.executable, "-m", "pytest", "-q", "-n", "auto", *NO_E2E, *chosen])]
    fast = "--fast" in arguments
    coverage = ["--cov", "--cov-report=xml", "--cov-fail-under=0"]
    pytest = ["-m", "pytest", "-n", "auto", "--dist", "loadgroup", *coverage, *(NO_E2E if fast else []), *chosen]
    return [
        ("ruff", [str(BIN / "ruff"), "check", "."]),
        ("format", [str(BIN / "ruff"), "format", "--check", "."]),
        ("mypy", [str(BIN / "mypy")]),
        ("imports", [str(BIN / "lint-imports"), "--no-logo"]),
        ("tests", [sys.executable, *pytest]),
        *([] if fast else [("coverage", [sys.executable, "-m", "coverage", "report"])]),
    ]


def _failed() -> list[str]:
    """Give the tests that pytest noted as failed; none when it could not even collect them all."""
    try:
        noted = sorted(json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_bytes()))
        return noted if all("::" in one for one in noted) else []
    except (OSError, ValueError):
        return []


def _run(name: str, command: list[str]) -> int:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    print(f"check: {name} {'passed' if code == 0 else f'failed with exit code {code}'} in {time.monotonic() - start:.1f} s", flush=True)
    return code


def main() -> int:
    """Run the checks and give the exit code."""
    for name, command in _commands(sys.argv[1:]):
        code = _run(name, command)
        failed = _failed() if name == "tests" and code == 1 else []
        if failed and len(failed) <= MANY:
            print("check: failed beside the others, asked once more alone:", *failed, sep="\n  ", flush=True)
            code = _run(
                "tests asked again",
                [sys.executable, "-m", "pytest", "-n0", "--no-cov", "--last-failed", "--last-failed-no-failures", "none"],
            )
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
