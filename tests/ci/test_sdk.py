"""The SDK, imported without its run-time checks, does what it did; a new version that has other private parts is noticed here."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import enum, sys
assert "dagger" not in sys.modules
import beartype
before = beartype.beartype
from ci.sdk import load
dagger = load()
assert load() is dagger is sys.modules["dagger"]
assert beartype.beartype is before  # other programs' checks are theirs
from dagger.client import _core
from dagger.client._guards import typecheck
class Some: ...
assert typecheck(Some) is Some
context = _core.Context()
made = context.converter
assert type(made).__module__ == "ci.sdk"
original = made._make(context)
for value in ({"a": [1, "b", None, True]}, [dagger.ReturnType.ANY], {"x": dagger.Platform("linux/amd64")}):
    assert made.unstructure(value) == original.unstructure(value)
for value, kind in (("x", str), (3, int), (True, bool), (["a"], list[str]), ("ANY", dagger.ReturnType)):
    assert made.structure(value, kind) == original.structure(value, kind)
found = made.structure([{"_name": "HOME", "_value": "/"}], list[dagger.EnvVariable])
assert isinstance(found[0], dagger.EnvVariable)
import ssl, dagger.client._session as session
transport = session.TelemetryTransport()
assert isinstance(transport, session.TelemetryTransport.func)
assert transport._pool._ssl_context.get_ca_certs() == [] and transport._pool._ssl_context.verify_mode is ssl.CERT_REQUIRED
assert "httpx._main" not in sys.modules and "click" not in sys.modules
import httpx, httpx._main
assert httpx._main.main is not httpx.main
print("as before")
"""


def test_the_lean_import_changes_speed_and_nothing_else() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert (done.returncode, done.stdout) == (0, "as before\n"), done.stderr
