"""The plan: which stages run and which do not, each with its reason. A pure function of commit, event and configuration.

The rules are in ci/policy.py. Nothing of the machine is in the plan (no path, no engine, no time), so the plan of one commit and event has
the same bytes on a laptop, on GitHub and on GitLab. What depends on the machine (what the memo knows, which base can be had) is decided
when the plan is carried out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ci import __version__, frozen
from ci.approvals import Approval
from ci.hydrate import dehydrate
from ci.policy import Permits, Verdict, Waiver, judge
from ci.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ci.config.model import Config
    from ci.facts import Facts
    from ci.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage of the plan."""

    name: str
    do: Literal["run", "skip"]
    why: str
    """Why it is skipped; empty when it runs."""
    needs: tuple[str, ...]
    detail: str
    """What a reader of the plan wants to know besides: where push pushes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A policy that had something to say."""

    policy: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for a commit and an event."""

    weighbridge: str
    subject: str
    commit: str
    event: str
    branch: str
    tag: str
    number: int
    stages: tuple[PlannedStage, ...]
    policies: tuple[Applied, ...] = ()
    permits: Permits = field(default_factory=Permits)
    waivers: tuple[Waiver, ...] = ()
    approvals: tuple[Approval, ...] = ()
    """Of the commit, where a rule asks for them."""
    budget_minutes: int = 0
    """Minutes that the run may take; 0 when there is no budget."""

    def to_json(self) -> str:
        """Return the plan as JSON: the same bytes for the same commit, event and configuration."""
        return json.dumps({"schema": 1, **dehydrate(self)}, indent=2, ensure_ascii=False) + "\n"

    def running(self) -> list[PlannedStage]:
        """Return the stages that are to run."""
        return [stage for stage in self.stages if stage.do == "run"]


def subject_name(config: Config) -> str:
    """Return the name of image and artefact: the configured one, else the subject directory's."""
    return config.subject.name or config.subject.path.rstrip("/").rpartition("/")[2].lower().replace("_", "-").strip(".") or "model"


def make_plan(
    config: Config, facts: Facts, stages: Mapping[str, Stage], *, only: Sequence[str] = (), selection: Selection | None = None
) -> Plan:
    """Return the plan; `only` names stages to run with all that they need, and is short for a selection of nothing else.

    Raises:
        UsageError: the selection or the configured policy names a stage that does not exist.

    """
    selection = selection or Selection(only=tuple(only))
    unwanted = {**(frozen.left_out(config) if selection.frozen else {}), **selection.left_out(stages)}
    verdict = judge(config, facts, stages)
    planned: list[PlannedStage] = []
    for stage in stages.values():
        stage = _spared(stage, verdict)  # noqa: PLW2901
        why = verdict.skips.get(stage.name) or unwanted.get(stage.name, "")
        why = why or _lost_need(stage, planned)
        do: Literal["run", "skip"] = "skip" if why else "run"
        planned.append(PlannedStage(name=stage.name, do=do, why=why, needs=stage.needs, detail=stage.describe(config)))
    return Plan(
        weighbridge=__version__,
        subject=subject_name(config),
        commit=facts.commit,
        # A run by hand stands for the push of the branch that is checked out.
        event="push" if facts.event == "local" else facts.event,
        branch=facts.branch,
        tag=facts.tag,
        number=facts.number,
        stages=tuple(planned),
        policies=tuple(Applied(policy=ruling.policy, why=ruling.why) for ruling in verdict.rulings),
        permits=verdict.permits,
        waivers=verdict.waivers,
        approvals=facts.approvals,
        budget_minutes=verdict.budget,
    )


def planned_stages(plan: Plan, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Return the stages with the needs that the plan leaves them."""
    needs = {stage.name: stage.needs for stage in plan.stages}
    return {name: replace(stage, needs=needs.get(name, stage.needs)) for name, stage in stages.items()}


def _spared(stage: Stage, verdict: Verdict) -> Stage:
    """Return the stage without the needs that somebody answers for, where it can do without their results."""
    needs = tuple(name for name in stage.needs if not (name in stage.optional and name in verdict.spared))
    return stage if needs == stage.needs else replace(stage, needs=needs)


def _lost_need(stage: Stage, planned: Sequence[PlannedStage]) -> str:
    skipped = [before.name for before in planned if before.name in stage.needs and before.do == "skip"]
    return f"needs {', '.join(skipped)}" if skipped else ""
