"""A program that holds one SDK session and runs cases in it: each line of standard input names a case, each line of output answers.

It is a process of its own so that it can be another person than the tests. `own:` cases come from the folder given second,
`observed:` cases from the folder given third, where there is one; those import a module `probe`, which lies beside them.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import casebook
import dagger
from casebook import Ctx, Run, plain

LIMIT = 120.0  # seconds for one case


def cases_of(own: Path, observed: Path | None) -> dict[str, Run]:
    """Load what can be asked for."""
    casebook.load(own)
    found = {f"own:{name}": case.run for name, case in casebook.CASES.items()}
    if observed is not None:
        sys.path.insert(0, str(observed))
        probe = importlib.import_module("probe")
        probe.load_cases(observed)
        found |= {f"observed:{name}": run for name, run in probe.CASES.items()}
    return found


async def run(case: Run, base: Any) -> dict[str, Any]:
    """Run one case; an error of the SDK is its answer."""
    with tempfile.TemporaryDirectory() as tmp:
        try:
            with anyio.fail_after(LIMIT):
                value = await case(Ctx(dagger.dag, base, Path(tmp), os.urandom(8).hex()))
            return {"ok": value}
        except dagger.ExecError as e:
            said = {"exit_code": e.exit_code, "stdout": e.stdout, "stderr": e.stderr, "command": e.command}
            return {"error": "ExecError", "message": plain(str(e)), **said}
        except dagger.QueryError as e:
            return {"error": "QueryError", "message": plain(str(e))}
        except Exception as e:  # noqa: BLE001 - whatever the SDK raises is what is observed
            if not isinstance(e, dagger.DaggerError):
                traceback.print_exc()
            return {"error": type(e).__name__, "message": plain(str(e))}


async def serve(base_tar: str, log: str, cases: dict[str, Run], answers: Any) -> None:
    """Answer until standard input ends."""
    with Path(log).open("w") as log_output:
        async with dagger.connection(dagger.Config(log_output=log_output)):
            base = dagger.dag.container().import_(dagger.dag.host().file(base_tar))
            await base.sync()
            print(json.dumps({"ready": len(cases)}), file=answers, flush=True)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                answer = await run(cases[line.strip()], base)
                print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Serve; what cases print must not get between the answers."""
    base_tar, log, own, *observed = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cases = cases_of(Path(own), Path(observed[0]) if observed else None)
    anyio.run(serve, base_tar, log, cases, answers)


if __name__ == "__main__":
    main()
