"""The stages in the order of the report: what each depends on, and where its implementation is.

Only definitions live here, so that plans and memo look-ups import neither dagger nor an HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ci.stage import InputSpec, Stage, files_of
from ci.stages import kept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ci.config.model import Config

_PROJECT_FILES = ("pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", "conftest.py")


def _model(config: Config) -> tuple[str, ...]:
    return (*config.subject.model, config.subject.lock)


def _summary(config: Config) -> tuple[str, ...]:
    return (config.package.training_summary,) if config.package.training_summary else ()


def _validate(config: Config) -> InputSpec:
    return InputSpec(
        files=files_of(
            config, *_model(config), *_summary(config), config.subject.evals, config.build.requirements, config.test.requirements
        ),
        config=("subject", "evaluate.suites", "build.requirements", "test.requirements", "package.training_summary"),
    )


def _build(config: Config) -> InputSpec:
    build, model = config.build, _model(config)
    if not build.dockerfile:
        return InputSpec(files=files_of(config, *model, config.subject.source, build.requirements), config=("subject", "build"))
    archives = (image.removeprefix("oci-archive:") for image in config.base.aliases.values() if image.startswith("oci-archive:"))
    context = [pattern for pattern in build.context if pattern != "."]
    whole = (config.subject.path,) if "." in build.context else ()
    return InputSpec(
        files=(*files_of(config, *model, build.dockerfile, ".dockerignore", *context), *whole, *archives),
        config=("subject", "build", "base.aliases"),
    )


def test_files(config: Config) -> tuple[str, ...]:
    """Name what the subject's tests may read, as patterns relative to the subject."""
    return (*_model(config), config.subject.source, config.test.path, *_PROJECT_FILES, *config.test.needs)


def _test(config: Config) -> InputSpec:
    locks = (config.build.requirements, config.test.requirements)
    return InputSpec(files=files_of(config, *test_files(config), *locks), config=("subject", "build.env", "build.workdir", "test"))


def _evaluate(config: Config) -> InputSpec:
    return InputSpec(files=files_of(config, config.subject.evals), config=("subject.evals", "evaluate", "build.port"))


def _scan(config: Config) -> InputSpec:
    return InputSpec(
        files=(*files_of(config, config.subject.source, config.build.requirements), config.scan.baseline),
        config=("scan", "subject.path", "subject.source", "build.requirements", "build.workdir"),
        base=False,
        change=True,
        tools=("bandit", "detect-secrets"),
    )


def _out_of_date(result: Mapping[str, Any], config: Config, root: Path, cache: Path) -> str:
    from ci.stages.scan import out_of_date

    return out_of_date(result, config, root, cache)


def _package(config: Config) -> InputSpec:
    files = files_of(config, *_model(config), *_summary(config), *config.package.files)
    return InputSpec(files=files, config=("subject", "package"), facts=("approvals",))


def _push(_config: Config) -> InputSpec:
    return InputSpec(config=("push", "subject.name"), base=False)


def _where(config: Config) -> str:
    return f"→ {config.push.target or config.push.layout}"


_ALL = (
    Stage(name="validate", module="ci.stages.validate", inputs=_validate),
    Stage(name="build", module="ci.stages.build", inputs=_build, needs=("validate",), gone=kept.image_gone, archives=kept.archives),
    Stage(name="test", module="ci.stages.test", inputs=_test, needs=("validate",)),
    Stage(name="scan", module="ci.stages.scan", inputs=_scan, needs=("build",), engine=False, gone=_out_of_date),
    Stage(name="evaluate", module="ci.stages.evaluate", inputs=_evaluate, needs=("build",), gpu=True),
    Stage(
        name="package",
        module="ci.stages.package",
        inputs=_package,
        needs=("build", "scan", "evaluate"),
        optional=("evaluate",),
        gone=kept.artefact_gone,
        archives=kept.archives,
    ),
    Stage(
        name="push",
        module="ci.stages.push",
        inputs=_push,
        needs=("build", "test", "scan", "evaluate", "package"),
        optional=("evaluate",),
        engine=False,
        gone=kept.pushed_gone,
        describe=_where,
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
