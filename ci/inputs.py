"""What a stage's outcome depends on, as a key: files by content, its part of the configuration, the results it needs, the pipeline's own
code for it, engine, Python and base image.

Equal keys mean that an earlier result stands. The components are kept beside the key, so that `why` can say which of them changed. Times,
paths of the machine, the tier of the sandbox and everything secret are never in a key.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci import __version__
from ci.files import Digests, digest_of
from ci.hydrate import dehydrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ci.config.model import Config
    from ci.facts import Facts
    from ci.stage import Stage

# The pipeline's own code that decides nothing about a stage's outcome; all other code counts, except the modules of other stages.
_ELSEWHERE = (
    "__init__.py",
    "__main__.py",
    "approvals.py",
    "attempts.py",
    "branches.py",
    "budget.py",
    "change.py",
    "cli.py",
    "commands",
    "completion.py",
    "config",
    "custom.py",
    "doctor.py",
    "ending.py",
    "engine.py",
    "facts.py",
    "files.py",
    "frozen.py",
    "git.py",
    "graph.py",
    "hosts.py",
    "init",
    "inputs.py",
    "keep.py",
    "leases.py",
    "memo.py",
    "pace.py",
    "paths.py",
    "plan.py",
    "policy.py",
    "record.py",
    "remote.py",
    "remote_artefacts.py",
    "report",
    "request.py",
    "resume.py",
    "runner.py",
    "sdk.py",
    "selection.py",
    "simulate.py",
    "telemetry.py",
    "terms.py",
    "turns.py",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The components of a stage's key, with what `why` needs to name a difference."""

    files: Mapping[str, str] = field(default_factory=dict)
    """Path → digest."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key → JSON value."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Stage → digest of its result."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    """Installed package → version."""
    code: str = ""
    engine: str = ""
    base: str = ""
    python: str = ""
    weighbridge: str = __version__

    def key(self) -> str:
        """Return the key: equal for equal inputs on every machine."""
        return digest_of(dehydrate(self))


class Code:
    """Digests of the pipeline's own code and of the embedded engine's, which decide what a stage does as much as its inputs do."""

    def __init__(self, cache: Path | None, stages: Mapping[str, Stage]) -> None:
        self._package = Path(__file__).parent
        kept = cache / "stat" / f"{digest_of(str(self._package))[:16]}.json" if cache else None
        self._digests = Digests(self._package, kept)
        self._cache, self._engine = cache, ""
        self._found: dict[str, str] | None = None
        self._modules = {_module(stage) for stage in stages.values()} | {"ci.stages"}

    def of(self, stage: Stage) -> str:
        """Return the digest of the code that carries out a stage."""
        own = _module(stage)
        others = tuple(path for module in self._modules - {own} for path in _paths(module))
        found = digest_of({name: digest for name, digest in self._all().items() if not name.startswith(others)})
        if own.startswith("ci."):
            return found
        spec = find_spec(own)
        return digest_of([found, Path(spec.origin).read_text() if spec and spec.origin else own])

    def _all(self) -> dict[str, str]:
        if self._found is None:
            self._found = self._digests.of((".",), _ELSEWHERE)
        return self._found

    def engine(self) -> str:
        """Return the identity of the embedded engine: the digest of its code, found without importing it."""
        if not self._engine:
            spec = find_spec("pocket")
            root = Path(spec.origin).parent if spec and spec.origin else self._package
            kept = self._cache / "stat" / f"{digest_of(str(root))[:16]}.json" if self._cache else None
            digests = Digests(root, kept)
            self._engine = "pocket " + digests.tree((".",))[:16]
            digests.save()
        return self._engine

    def save(self) -> None:
        """Keep what was learned for the next run."""
        self._digests.save()


def _module(stage: Stage) -> str:
    return stage.module if isinstance(stage.module, str) else type(stage.module).__module__


def _paths(module: str) -> tuple[str, ...]:
    """Return where a module's code lies in the package: a file, or a directory; of the stages' package only its own file."""
    if module == "ci.stages":
        return ("stages/__init__.py",)
    path = module.removeprefix("ci.").replace(".", "/")
    return (f"{path}.py", f"{path}/")


def python_identity() -> str:
    """Return the version of the running Python and of its C library, from which the `host` base is made."""
    import os

    return f"{sys.implementation.name} {sys.version.split()[0]} {os.confstr('CS_GNU_LIBC_VERSION') or ''}".strip()


def inputs_of(
    stage: Stage,
    *,
    config: Config,
    facts: Facts,
    digests: Digests,
    code: Code,
    needs: Mapping[str, Any],
    engine: str,
    base: str,
    change: Sequence[str] = (),
    earlier: Sequence[tuple[str, str]] = (),
) -> Inputs:
    """Return the inputs of a stage; `needs` holds the identities of the results that it needs, `change` the files of the change, and
    `earlier` what its commits held besides.
    """
    spec = stage.inputs(config)
    # Which secrets a stage gets counts; their values are in no key.
    secrets = sorted(name for name, secret in config.secrets.items() if stage.name in secret.stages)
    return Inputs(
        files=digests.of(spec.files, spec.exclude)
        | (digests.named(change) if spec.change else {})
        | {f"{name}@{blob[:10]}": blob for name, blob in earlier},
        config={key: _at(config, key) for key in spec.config} | ({"secrets": secrets} if secrets else {}),
        needs={name: digest_of(needs[name]) for name in stage.needs},
        facts={name: dehydrate(getattr(facts, name)) for name in spec.facts},
        tools={name: _version(name) for name in spec.tools},
        code=code.of(stage),
        engine=engine if stage.engine else "",
        base=base if spec.base else "",
        python=python_identity(),
    )


def differences(before: Inputs, after: Inputs) -> list[str]:
    """Return what changed between two inputs, in words, the most telling first."""
    said = [
        *_named(before.files, after.files, "{}"),
        *_named(_flat(before.config), _flat(after.config), "{} in the configuration", show=True),
        *_named(before.facts, after.facts, "{}"),
        *_named(before.tools, after.tools, "the version of {}"),
    ]
    said += [f"{name}'s result changed" for name in after.needs if before.needs.get(name) != after.needs[name]]
    if before.base != after.base:
        said.append(f"the base image changed ({_short(before.base)} → {_short(after.base)})")
    if before.engine != after.engine:
        said.append(f"the engine changed ({before.engine or 'none'} → {after.engine or 'none'})")
    if before.python != after.python:
        said.append(f"Python changed ({before.python} → {after.python})")
    if (before.code, before.weighbridge) != (after.code, after.weighbridge):
        said.append("the pipeline's own code changed")
    return said


def _named(before: Mapping[str, Any], after: Mapping[str, Any], what: str, *, show: bool = False) -> list[str]:
    said = []
    for name in sorted({*before, *after}):
        if name not in before:
            said.append(f"{what.format(name)} is new")
        elif name not in after:
            said.append(f"{what.format(name)} is gone")
        elif before[name] != after[name]:
            values = f" ({_value(before[name])} → {_value(after[name])})" if show else ""
            said.append(f"{what.format(name)} changed{values}")
    return said


def _value(value: Any) -> str:
    text = str(value) or "nothing"
    return text if len(text) <= 40 else text[:39] + "…"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in _flat(item, f"{prefix}.{name}" if prefix else name).items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {key: leaf for index, item in enumerate(value) for key, leaf in _flat(item, f"{prefix}[{index}]").items()}
    return {prefix: value}


def _short(identity: str) -> str:
    return identity if len(identity) <= 20 else identity[:19] + "…"


def _at(config: Config, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return dehydrate(value)


@lru_cache(maxsize=32)
def _version(package: str) -> str:
    """Return the version of an installed package, by its directory's name: importlib.metadata takes longer to import than this."""
    import os

    wanted = package.replace("-", "_").lower()
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208  pathlib is slower, and this is on every run's way
        except OSError:
            continue
        for name in names:
            stem, _, version = name.removesuffix(".dist-info").rpartition("-")
            if name.endswith(".dist-info") and stem.replace("-", "_").lower() == wanted:
                return version
    return "not installed"
