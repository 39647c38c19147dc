"""`--frozen`: a run on pinned digests and caches alone, which leaves the network untouched.

Everything that could come out differently tomorrow is refused before anything runs: a base image by tag, a package without a hash, a model
file without a digest. What is pinned but not in the cache is an error of the step that needs it, because steps have no network. Limits:
only the embedded engine keeps steps from the network; `host` and `oci-archive:` bases are this machine's own files, and count as pinned.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ci.errors import UsageError
from ci.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ci.config.model import BaseConfig, Config
    from ci.stage import Base

ENVIRONMENT = {"POCKET_OFFLINE": "1"}
"""What tells the embedded engine."""
_LOCAL = ("host", "oci-archive:")


def check(config: Config, root: Path) -> None:
    """Refuse whatever is not pinned.

    Raises:
        UsageError: with every place, as file:line.

    """
    problems = [*_images(config, root), *_packages(config, root), *_model(config, root)]
    if problems:
        count = f"{len(problems)} thing{'s' if len(problems) > 1 else ''} not pinned (--frozen). Nothing was run."
        hint = "the digest that the last run used is in its record: .weighbridge/runs/latest/run.json, base.identity"
        raise UsageError("\n".join([*problems, count]), hint=hint if _images(config, root) else "")


def untouched(config: Config) -> Config:
    """Return the configuration that stages get: nobody is asked for advisories. Keys hold the one that is written."""
    return replace(config, scan=replace(config.scan, advisories=""))


def left_out(config: Config) -> dict[str, str]:
    """Return stage → why it is left out: what only the network can do."""
    return {"push": "a registry is not reached (--frozen)"} if config.push.target else {}


async def resolve(config: BaseConfig, root: Path, cache: Path) -> Base:
    """Return the base without asking anybody; `check` has seen that it is pinned or local."""
    from ci.base.choice import pinned, resolve_reference

    if config.image.startswith(_LOCAL):
        return await resolve_reference(config.image, config, root=root, cache=cache)
    return pinned(config.image)


def _images(config: Config, root: Path) -> list[str]:
    images: dict[tuple[str, ...], str] = {("base", "image"): config.base.image}
    images |= {("base", "aliases", name): image for name, image in config.base.aliases.items()}
    loose = {path: image for path, image in images.items() if not image.startswith(_LOCAL) and "@sha256:" not in image}
    if not loose:
        return []
    from ci.config.document import parse

    document = parse((root / CONFIG).read_bytes())
    return [
        "{}:{}:{}: {} {} has no digest: write {}@sha256:<digest>".format(CONFIG, *document.place(path), ".".join(path), image, image)
        for path, image in loose.items()
    ]


def _packages(config: Config, root: Path) -> Iterator[str]:
    from ci.check import Report, check_requirements

    subject = root / config.subject.path
    report = Report(subject)
    for lock in dict.fromkeys((config.build.requirements, config.test.requirements)):
        check_requirements(report, lock)
    for problem in report.problems:
        yield f"{_shown(config, problem['file'])}:{problem['line']}: {problem['message']}"


def _model(config: Config, root: Path) -> Iterator[str]:
    path = root / config.subject.path / config.subject.lock
    try:
        text = path.read_text(encoding="utf-8")
        files: dict[str, Any] = json.loads(text)["files"]
        loose = [name for name, entry in files.items() if not entry.get("sha256")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{_shown(config, config.subject.lock)}:1: cannot be read as a lock: {error}"
        return
    for name in loose:
        line = text[: text.find(json.dumps(name))].count("\n") + 1
        yield f"{_shown(config, config.subject.lock)}:{line}: {name} has no sha256"


def _shown(config: Config, name: str) -> str:
    prefix = "" if config.subject.path in {"", "."} else config.subject.path.rstrip("/") + "/"
    return prefix + name
