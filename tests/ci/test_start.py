"""A run in which nothing changed answers at once: it imports nothing that is slow and starts no event loop."""

import os
import subprocess
import sys
from pathlib import Path

from pipelines import Pipeline

PROGRAM = """
import sys
before = set(sys.modules)  # what measures coverage in this process, for one
from pathlib import Path
from ci.config.load import load
from ci.report import choose
from ci.runner import execute
from pipelines import Pipeline, passing

class Warm(Pipeline):
    config = property(lambda self: load(self.root / "configs" / "pipeline.yaml", cache=self.cache))

pipeline = Warm(Path(sys.argv[1]), Path(sys.argv[2]))
pipeline.add("validate", passing(), files=("service",))
pipeline.add("build", passing(), needs=("validate",))
record = execute(pipeline.request(), choose(sys.stdout, {}, quiet=False))
slow = {
    "anyio", "asyncio", "bandit", "dagger", "detect_secrets", "http", "httpx", "logging", "opentelemetry", "pocket", "pydantic",
    "rich", "socket", "ssl", "yaml",
}
imported = {name.partition(".")[0] for name in sys.modules.keys() - before}
print("imported:", sorted(slow & imported), [entry.status for entry in record.stages.values()])
"""


def test_a_run_in_which_nothing_changed_imports_nothing_slow(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests' / 'support'}"}
    command = [sys.executable, "-c", PROGRAM, str(pipeline.root), str(pipeline.cache)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(2))
    assert "['passed', 'passed']" in first
    assert second.splitlines()[-1] == "imported: [] ['reused', 'reused']"
    assert "nothing changed since run" in second
