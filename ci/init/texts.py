"""The files that `init` writes, as text: the configuration with its comments, the CI hosts' files, a first suite, the model's lock."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ci import __version__
from ci.init.dockerfile import Service
from ci.init.look import Found, lacks_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GITHUB, GITLAB, GITLAB_INCLUDED = ".github/workflows/weighbridge.yml", ".gitlab-ci.yml", ".gitlab/weighbridge.yml"
LOCK, SUITE = "model.lock", "smoke.jsonl"
_DEFAULT_PORT = 8000
_SMOKE = [{"id": f"smoke-{number}", "prompt": prompt, "expected": "?"} for number, prompt in enumerate(("Hello", "2 + 2 =", "Say yes"), 1)]


def pipeline(found: Found) -> str:
    """Return configs/pipeline.yaml."""
    return "\n".join(line for part in (_subject, _base, _build, _test, _evaluate, _rest) for line in part(found)) + "\n"


def host_file(name: str) -> str:
    """Return the file of a CI host: `github` or `gitlab`."""
    return files("ci.init").joinpath(f"{name}.txt").read_text(encoding="utf-8").replace("@@VERSION@@", __version__)


def gitlab_path(found: Found) -> str:
    """Return where the job for GitLab goes: beside a `.gitlab-ci.yml` that is there already, which has to include it."""
    path = found.root / GITLAB
    return GITLAB_INCLUDED if path.exists() and path.read_text() != host_file("gitlab") else GITLAB


def smoke() -> str:
    """Return a first suite: it asks whether the service answers at all, as its floor is 0."""
    return "".join(json.dumps(sample) + "\n" for sample in _SMOKE)


def model_lock(found: Found) -> str:
    """Return the model's lock: each file with its size in bytes and its SHA-256."""
    entries: dict[str, Mapping[str, object]] = {}
    for name in found.model:
        top = found.root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                entries[str(path.relative_to(found.root))] = {"sha256": _sha256(path), "size": path.stat().st_size}
    return json.dumps({"files": entries, "version": 1}, indent=2, sort_keys=True) + "\n"


def left_to_do(found: Found) -> Iterator[str]:
    """Give what only somebody who knows the repository can do."""
    if not found.service.argv and not found.server:
        yield "build.entrypoint: no Dockerfile and no server was found; name the command that serves the model"
    if not found.model:
        yield f"subject.model: no weights were found; name their files or directories, and `weighbridge init` again writes {LOCK}"
    for key, name, tool in (("build", found.lock, found.other_lock), ("test", found.test_lock, "")):
        wanted = name or ("requirements.txt" if key == "build" else "requirements-test.txt")
        source = {"uv.lock": "uv export", "poetry.lock": "poetry export"}.get(tool, "uv pip compile --generate-hashes requirements.in")
        if not name:
            yield f"{key}.requirements: there is no lock; write {wanted}: {source} > {wanted}"
        elif lacks_hashes(found.root / name):
            yield f"{key}.requirements: {name} has no hashes, and what has none is not installed: uv pip compile --generate-hashes"
    if not found.tests:
        yield "test.path: no tests were found"
    if not found.suites:
        yield f"evaluate.suites: {SUITE} asks only whether the service answers; write prompts with the answers that you expect, and a floor"
    if gitlab_path(found) == GITLAB_INCLUDED:
        yield f"{GITLAB} is yours; add to it: include: {{local: {GITLAB_INCLUDED}}}"


def _subject(found: Found) -> Iterator[str]:
    yield "# What `weighbridge run` does in this repository. Every key, its default and its limits: `weighbridge config schema`."
    yield "subject:"
    yield "  path: ."
    yield f"  name: {found.name} # of image and artefact"
    yield f"  source: {found.source or 'src'} # the service's code, the last layer of the image"
    yield f"  model: {_flow(found.model or ('weights',))} # in the image and in the artefact under these names"
    yield f"  lock: {LOCK} # each file of the model with its SHA-256"
    yield f"  evals: {found.evals or 'evals'}"


def _base(found: Found) -> Iterator[str]:
    image = found.service.image if _is_reference(found.service.image) else "docker.io/library/python:3.11-slim"
    yield ""
    yield "base:"
    yield f"  image: {image}" + _from(found.dockerfile if image == found.service.image else "")
    yield "  fallback: host # where no registry answers: a root file system made from this machine's Python"


def _build(found: Found) -> Iterator[str]:
    service = found.service
    module = found.server.removeprefix(f"{found.source}/").removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    argv = service.argv or ("python", "-m", module or "your.server")
    env = {name: value for name, value in service.env.items() if name not in {"PATH", "PYTHONPATH"}}
    yield ""
    yield "build:"
    if service.image:
        yield f"  dockerfile: {found.dockerfile} # makes the image; its FROM may be base.image or one of base.aliases"
        yield f"  context: {_flow(service.copies or ('.',))} # what it copies; a change there builds again"
    yield f"  requirements: {found.lock or 'requirements.txt'} # pinned, with hashes, without an index" + _purpose(service)
    if not service.image or not service.argv:
        yield f"  entrypoint: {_flow(argv)}" + _from(found.server)
    yield f"  port: {service.port or _DEFAULT_PORT}" + _from(found.dockerfile if service.port else "")
    if env:
        yield f"  env: {json.dumps(env)}" + _from(found.dockerfile) + ", for the tests"
    if service.workdir:
        yield f"  workdir: {service.workdir}" + _from(found.dockerfile)


def _purpose(service: Service) -> str:
    """Say what the lock is for where it is not what makes the image."""
    return "; for the tests, and the scan looks at it" if service.image else ""


def _test(found: Found) -> Iterator[str]:
    yield ""
    yield "test:"
    yield f"  requirements: {found.test_lock or 'requirements-test.txt'} # installed on top of build.requirements"
    yield f"  path: {found.tests or 'tests'}"
    yield "  # coverage: your_package # measured when named; the run fails below floor"
    yield "  # floor: 85"


def _evaluate(found: Found) -> Iterator[str]:
    yield ""
    yield "evaluate:"
    if found.health:
        yield f"  health: {found.health}" + _from(found.server)
    else:
        yield "  health: /health # answers 200 when the model is loaded"
    yield "  suites: # floor: the smallest share of right answers that passes"
    for suite in found.suites or (SUITE,):
        yield f"    - {{name: {_name(suite)}, file: {suite}, floor: 0}}"


def _rest(_found: Found) -> Iterator[str]:
    yield ""
    yield "package:"
    yield '  training_summary: "" # what the training job wrote, if it did'
    yield ""
    yield "push:"
    yield "  target: null # a registry, such as registry.example/team/model; null: the OCI layout below"
    yield "  layout: .weighbridge/oci"


def _flow(items: tuple[str, ...]) -> str:
    return json.dumps(list(items), ensure_ascii=False)


def _from(name: str) -> str:
    return f" # from {name}" if name else ""


def _name(suite: str) -> str:
    kept = "".join(character if character.isalnum() else "-" for character in Path(suite).stem.lower())
    return kept.strip("-") or "suite"


def _is_reference(image: str) -> bool:
    """Tell whether the base can be this: a registry's Python, not another stage of the Dockerfile, and no variable in it."""
    return "python" in image and "$" not in image


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
