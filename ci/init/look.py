"""What there is in a foreign repository: Dockerfile, locks, tests, weights, server, evaluation suites. Reads files and runs nothing."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ci.init.dockerfile import Service, read

WEIGHTS = frozenset({".safetensors", ".gguf", ".onnx", ".bin", ".pt", ".pth", ".npz", ".tflite"})
_LEFT_OUT = frozenset({"node_modules", "venv", "site-packages", "__pycache__", "dist", "build"})
_LOCKS = ("requirements.txt", "requirements.lock", "requirements/base.txt", "requirements/prod.txt", "requirements/requirements.txt")
_TEST_LOCKS = (
    "requirements-test.txt",
    "requirements-dev.txt",
    "test-requirements.txt",
    "dev-requirements.txt",
    "requirements/test.txt",
    "requirements/dev.txt",
)
_OTHER_LOCKS = ("uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock")
_SERVER = re.compile(r"\b(uvicorn\.run|FastAPI\(|serve_forever\(|web\.run_app|Flask\(|gunicorn)")
_HEALTH = re.compile(r"[\"'](/(?:healthz?|health/ready|ready|readyz|livez|ping|status))[\"']")
_FEW = 4000
_LONGEST = 1 << 20


@dataclass(slots=True)
class Found:
    """What was found; empty where nothing was. Paths are relative to the repository root."""

    root: Path
    name: str
    dockerfile: str = ""
    service: Service = field(default_factory=Service)
    lock: str = ""
    test_lock: str = ""
    other_lock: str = ""
    """A lock of another tool, from which a requirements file can be exported."""
    tests: str = ""
    source: str = ""
    """Directory that the service's modules are imported from."""
    server: str = ""
    """The file that serves."""
    model: tuple[str, ...] = ()
    health: str = ""
    evals: str = ""
    suites: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Files of CI hosts that are there already."""


def look(root: Path) -> Found:
    """Look at the repository at `root`."""
    files = sorted(_files(root))
    names = {str(path.relative_to(root)) for path in files}
    found = Found(root, _name(root))
    found.dockerfile = next((name for name in ("Dockerfile", "docker/Dockerfile", "deploy/Dockerfile") if name in names), "")
    found.service = (read(root / found.dockerfile) if found.dockerfile else None) or Service()
    found.lock = next((name for name in _LOCKS if name in names), "")
    found.test_lock = next((name for name in _TEST_LOCKS if name in names), "")
    found.other_lock = next((name for name in _OTHER_LOCKS if name in names), "")
    found.hosts = tuple(sorted(name for name in names if name == ".gitlab-ci.yml" or name.startswith(".github/workflows/")))
    tests = [path for path in files if path.name.startswith("test_") and path.suffix == ".py"]
    found.tests = _common(root, tests)
    _look_at_code(found, [path for path in files if path.suffix == ".py" and path not in tests])
    found.model = _model(root, [path for path in files if path.suffix in WEIGHTS])
    _look_at_suites(found, [path for path in files if path.suffix == ".jsonl"])
    return found


def _name(root: Path) -> str:
    """Return the project's name, else the directory's, as a registry takes it."""
    try:
        said = str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        said = root.resolve().name
    return re.sub(r"[^a-z0-9._-]+", "-", said.lower()).strip("-._") or "model"


def lacks_hashes(path: Path) -> bool:
    """Tell whether a requirements file names packages without hashes, which would be refused."""
    lines = path.read_text(errors="replace").replace("\\\n", " ").splitlines()
    return any("--hash=" not in line for line in lines if line.strip() and not line.strip().startswith(("#", "-")))


def _files(root: Path) -> Iterator[Path]:
    """Give the files of the repository, without what tools made; at most a few thousand."""
    waiting, count = [root], 0
    while waiting and count < _FEW:
        directory = waiting.pop()
        for path in sorted(directory.iterdir()):
            hidden = path.name.startswith(".") and path.name not in {".gitlab-ci.yml", ".github"}
            if hidden or path.name in _LEFT_OUT or path.is_symlink():
                continue
            if path.is_dir() and not (path / "pyvenv.cfg").exists():
                waiting.append(path)
            elif path.is_file():
                count += 1
                yield path


def _common(root: Path, files: list[Path]) -> str:
    """Return the first part of the path that most of these files share."""
    tops = [path.relative_to(root).parts[0] for path in files if len(path.relative_to(root).parts) > 1]
    return max(sorted(set(tops)), key=tops.count) if tops else ""


def _look_at_code(found: Found, modules: list[Path]) -> None:
    """Find the file that serves, the directory that its modules are imported from, and the path that says it is healthy."""
    texts = {path: path.read_text(errors="replace") for path in modules if path.stat().st_size < _LONGEST}
    named = _module_of(found.service.argv)
    ends = [f"{named.replace('.', '/')}.py", f"{named.replace('.', '/')}/__main__.py"] if named else []
    matching = [path for path in texts if any(str(path).endswith(f"/{end}") for end in ends)]
    serving = [path for path, text in texts.items() if _SERVER.search(text)]
    if not (candidates := [*matching, *serving]):
        return
    server = candidates[0]
    found.server = str(server.relative_to(found.root))
    top = server.parent
    while (top / "__init__.py").exists() and top != found.root:
        top = top.parent
    found.source = str(top.relative_to(found.root))
    said = [match[1] for path in (server, *serving) if (match := _HEALTH.search(texts[path]))]
    found.health = said[0] if said else ""


def _module_of(argv: tuple[str, ...]) -> str:
    """Return the module that a command runs: `python -m a.b`, `uvicorn a.b:app`; empty when it is neither."""
    for word, following in pairwise(argv):
        if word == "-m" or Path(word).name in {"uvicorn", "gunicorn", "hypercorn"}:
            return following.partition(":")[0]
    return ""


def _model(root: Path, weights: list[Path]) -> tuple[str, ...]:
    """Return the directories that hold weights (or the files themselves, where they lie at the root), and documents beside them."""
    tops = dict.fromkeys(path.relative_to(root).parts[0] for path in weights)
    documents = [name for name in ("config.json", "tokenizer.json", "tokenizer_config.json") if (root / name).is_file()]
    return (*documents, *tops) if tops else ()


def _look_at_suites(found: Found, files: list[Path]) -> None:
    suites = [path for path in files if _is_suite(path)]
    if suites:
        found.evals = str(suites[0].parent.relative_to(found.root))
        found.suites = tuple(str(path.relative_to(suites[0].parent)) for path in suites if path.is_relative_to(suites[0].parent))


def _is_suite(path: Path) -> bool:
    with path.open(errors="replace") as lines:
        try:
            first: Any = json.loads(lines.readline(_LONGEST))
        except ValueError:
            return False
    return isinstance(first, dict) and {"id", "prompt", "expected"} <= first.keys()
