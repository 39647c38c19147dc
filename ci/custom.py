"""Stages of the repository's own: `stages.<name>.use` names a class by import path, and it takes its place beside the standard ones.

The class is made without arguments and has what `ci.stage.StageModule` has: `async run(ctx, needs)` and, when its results hold more than a
summary, `Result`. Besides, all optional: `inputs` (an `InputSpec`, or a function of the configuration), `needs`, `engine`, `gpu`. It is
imported from the repository root, which comes last on the path: nothing there can take the place of a module of ours or of a library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from ci.errors import UsageError
from ci.stage import InputSpec, Stage, StageModule, StageResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ci.config.model import Config
    from ci.config.running import StageConfig

_OURS = {"ci", "pocket"}


def all_stages(config: Config, root: Path) -> Mapping[str, Stage]:
    """Return the standard stages and those of the repository, in the order of the report.

    Raises:
        UsageError: a class cannot be imported, is no stage, or the needs of stages go in a circle.

    """
    from ci.stages import STAGES

    own = {name: settings for name, settings in config.stages.items() if settings.use}
    if not own:
        return STAGES
    stages = dict(STAGES)
    for name, settings in own.items():
        if name in STAGES:
            raise UsageError(f"{name} is a standard stage, which a class cannot replace", where=f"stages.{name}.use")
        stages[name] = _stage(name, settings.use, root)
    for name, settings in own.items():
        for later in settings.before:
            _need(stages, later, name, f"stages.{name}.before")
            stages[later] = replace(stages[later], needs=(*stages[later].needs, name))
        for need in stages[name].needs:
            _need(stages, need, name, f"stages.{name}.use")
    return _in_order(stages, own)


def _stage(name: str, path: str, root: Path) -> Stage:
    """Import a class and make a stage of it."""
    made = cast("StageModule", _made(name, path, root))
    inputs: Any = getattr(made, "inputs", InputSpec())
    spec: Callable[[Config], InputSpec] = inputs if callable(inputs) else lambda _config: inputs
    return Stage(
        name=name,
        module=made,
        inputs=spec,
        needs=tuple(getattr(made, "needs", ())),
        engine=bool(getattr(made, "engine", True)),
        gpu=bool(getattr(made, "gpu", False)),
    )


def _made(name: str, path: str, root: Path) -> object:
    where = f"stages.{name}.use"
    module, _, attribute = path.partition(":")
    if not module or not attribute.isidentifier():
        raise UsageError(f"{path!r} is not module:Class", where=where, hint='such as "pipeline.licences:Licences"')
    if module.partition(".")[0] in _OURS:
        raise UsageError(f"{module} is a module of weighbridge", where=where, hint="put the class in a package of another name")
    if str(root) not in sys.path:
        sys.path.append(str(root))
    try:
        found = getattr(import_module(module), attribute)
        made = found()
    except Exception as error:  # whatever their module does while it is imported, it is theirs to mend
        raise UsageError(f"{path} cannot be used: {type(error).__name__}: {error}", where=where) from error
    if not callable(getattr(made, "run", None)):
        raise UsageError(f"{path} has no method run(ctx, needs)", where=where)
    if not hasattr(made, "Result"):
        found.Result = StageResult
    return cast("object", made)


def _need(stages: Mapping[str, Stage], name: str, of: str, where: str) -> None:
    if name not in stages or name == of:
        raise UsageError(f'there is no stage "{name}"', where=where, hint=f"stages: {', '.join(other for other in stages if other != of)}")


def _in_order(stages: Mapping[str, Stage], own: Mapping[str, StageConfig]) -> dict[str, Stage]:
    """Put each stage after those that it needs, and otherwise where it was; own ones directly before the first that waits for them."""
    done: dict[str, Stage] = {}
    waiting = [name for name in stages if name not in own or not own[name].before]

    def place(name: str, behind: tuple[str, ...]) -> None:
        if name in behind:
            raise UsageError(f"stages need each other in a circle: {' → '.join((*behind, name))}", where="stages")
        for need in stages[name].needs if name not in done else ():
            place(need, (*behind, name))
        done.setdefault(name, stages[name])

    for name in waiting:
        place(name, ())
    for name in stages:  # a circle of stages that all wait for each other is none's start
        place(name, ())
    return done
