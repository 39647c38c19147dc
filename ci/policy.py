"""The rules: which stages a commit and an event leave out, what a run may do, and why. Pure functions of facts and configuration.

Every rule is one function that yields its rulings; `RULES` lists them in the order in which their reasons are given. Rulings add up: a
draft from a fork is both, and no rule brings back what another leaves out. The rules bind this program, not somebody who edits it: a fork
may change its own copy of rules and configuration, so the CI host must not hand secrets to forks either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ci.errors import UsageError
from ci.files import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ci.config.model import Config
    from ci.facts import Facts
    from ci.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """What a run may do besides running stages; what holds secrets or shared caches asks here."""

    push: bool = True
    secrets: bool = True
    shared_cache: bool = True
    """Whether caches that other runs trust may be written."""
    host_base: bool = True
    """Whether the base may be made from the machine's own Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A label that leaves stages out, on somebody's word."""

    label: str
    by: str
    """Who started the run that carries the label; hosts do not tell every run who put it there."""
    reason: str
    """From the line `<label>: <reason>` of the request's description; empty when there is none."""
    skips: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one rule has to say about a commit and an event."""

    policy: str
    why: str
    skips: tuple[tuple[str, str], ...] = ()
    """(stage, reason)."""
    forbids: tuple[str, ...] = ()
    """Fields of `Permits` that are off."""
    budget: int = 0
    """Minutes for the whole run; 0 when this rule sets none."""
    waiver: Waiver | None = None
    spares: tuple[str, ...] = ()
    """Stages that are skipped without those being skipped that need them: somebody answers for what they would have said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all rules came to."""

    rulings: tuple[Ruling, ...]
    skips: Mapping[str, str] = field(default_factory=dict)
    """Stage → why it is skipped, as the plan says it."""
    permits: Permits
    budget: int = 0
    """Minutes; 0 when there is no budget. A hotfix's stands above a request's."""
    waivers: tuple[Waiver, ...] = ()
    spared: frozenset[str] = frozenset()
    """Skipped stages that others do not wait for."""


def judge(config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Verdict:
    """Return what policy says about these facts.

    Raises:
        UsageError: the policy of the configuration names a stage that does not exist.

    """
    _check(config, stages)
    rulings = tuple(ruling for rule in RULES for ruling in rule(config, facts, stages))
    skips: dict[str, str] = {}
    for ruling in rulings:
        for stage, reason in ruling.skips:
            skips.setdefault(stage, f"{reason} (policy {ruling.policy})")
    forbidden = {permit for ruling in rulings for permit in ruling.forbids}
    return Verdict(
        rulings=rulings,
        skips=skips,
        permits=Permits(**dict.fromkeys(forbidden, False)),
        budget=next((ruling.budget for ruling in rulings if ruling.budget), 0),
        waivers=tuple(ruling.waiver for ruling in rulings if ruling.waiver),
        spared=frozenset(name for ruling in rulings for name in ruling.spares),
    )


def under_policy(config: Config, permits: Permits) -> Config:
    """Return the configuration that a run may use: without the `host` base where that is refused.

    Raises:
        UsageError: the configuration itself asks for the `host` base.

    """
    if permits.host_base:
        return config
    if "host" in (config.base.image, *config.base.aliases.values()):
        raise UsageError(
            "a release does not stand on the host base (policy release)",
            where="base",
            hint="name an image or an OCI archive, or set base.releases_may_use_host",
        )
    return replace(config, base=replace(config.base, fallback="none"))


# --- what kind of commit and event this is


def is_request(facts: Facts) -> bool:
    """Tell whether this is a pull or merge request."""
    return facts.event == "pull_request"


def is_release(config: Config, facts: Facts) -> bool:
    """Tell whether this is a tag that is a release."""
    return facts.event == "tag" and matches(facts.tag, config.policy.releases)


def is_full(config: Config, facts: Facts) -> bool:
    """Tell whether nothing may be left out: releases, schedules, runs asked for by hand, and what is on main."""
    if facts.event in {"tag", "schedule", "manual"}:
        return True
    return not is_request(facts) and matches(facts.branch, config.policy.main)


def is_hotfix(config: Config, facts: Facts) -> bool:
    """Tell whether this is a hotfix; a fork cannot make one by naming its branch so."""
    return not facts.fork and not is_full(config, facts) and matches(facts.branch, config.policy.hotfix)


def is_documentation(config: Config, name: str, stages: Mapping[str, Stage]) -> bool:
    """Tell whether a file is documentation: named so, and nothing that a stage depends on (a prompt in Markdown is none)."""
    if not matches(name, config.policy.docs):
        return False
    specs = (stage.inputs(config) for stage in stages.values())
    return not any(matches(name, spec.files) and not matches(name, spec.exclude) for spec in specs)


# --- the rules


def _fork(_config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if facts.fork:
        skips = (("push", "pull requests from forks push nothing"),) if "push" in stages else ()
        why = "from a fork: pushes nothing, gets no secret, writes no shared cache"
        yield Ruling(policy="fork", why=why, skips=skips, forbids=("push", "secrets", "shared_cache"))


def _docs(config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    # An empty change is none of documentation, and an unknown one may be anything.
    if is_full(config, facts) or not facts.changed or not all(is_documentation(config, name, stages) for name in facts.changed):
        return
    count = len(facts.changed)
    why = f"only documentation changed: {facts.changed[0] if count == 1 else f'{count} files'}"
    yield Ruling(policy="docs", why=why, skips=tuple((name, why) for name in stages if name not in config.policy.docs_keep))


def _draft(config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if is_request(facts) and facts.draft:
        why = "draft pull request: light run"
        yield Ruling(policy="draft", why=why, skips=_each(config.policy.draft_skips, stages, why))


def _hotfix(config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if not is_hotfix(config, facts):
        return
    minutes = config.policy.hotfix_budget
    skips = _each(config.policy.hotfix_skips, stages, f"hotfix: no full evaluation, {minutes} min budget")
    approval, missing = _approval(config, facts)
    if missing:
        skips += (("push", missing),) if "push" in stages else ()
        yield Ruling(policy="hotfix", why=f"hotfix {facts.branch}: {missing}", skips=skips, forbids=("push",), budget=minutes)
    else:
        spares = config.policy.hotfix_skips
        yield Ruling(policy="hotfix", why=f"hotfix {facts.branch}: {approval}", skips=skips, budget=minutes, spares=spares)


def _approval(config: Config, facts: Facts) -> tuple[str, str]:
    """Return who approved the commit and why, or what is missing."""
    given = [
        one
        for one in facts.approvals
        if not config.policy.approvers or any(fnmatchcase(one.by, pattern) for pattern in config.policy.approvers)
    ]
    if not given:
        others = f"; {facts.approvals[0].by} is none of policy.approvers" if facts.approvals else ""
        return "", f'a hotfix needs a recorded approval (approve --reason "…"){others}'
    if facts.dirty:
        count = len(facts.dirty)
        return "", f"the approval is for the commit, from which {count} file{'s' if count > 1 else ''} differ{'s' if count == 1 else ''}"
    return f"approved by {given[-1].by} on {given[-1].when}: {given[-1].why}", ""


def _waivers(config: Config, facts: Facts, stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if not is_request(facts):
        return
    for label in sorted(set(facts.labels) & set(config.policy.waivers)):
        by, reason = facts.author or "somebody unknown", facts.reasons.get(label, "")
        if config.policy.waiver_needs_reason and not reason:
            why = f'label {label} counts for nothing without a line "{label}: <reason>" in the description'
            yield Ruling(policy="waiver", why=why)
            continue
        why = f"label {label}, in a run started by {by}: {reason or 'no reason given'}"
        waived = config.policy.waivers[label]
        waiver = Waiver(label=label, by=by, reason=reason, skips=waived)
        yield Ruling(policy="waiver", why=why, skips=_each(waived, stages, why), waiver=waiver)


def _request(config: Config, facts: Facts, _stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if is_request(facts):
        yield Ruling(policy="request", why=f"a pull request has {config.policy.budget} min", budget=config.policy.budget)


def _release(config: Config, facts: Facts, _stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if is_release(config, facts):
        allowed = config.base.releases_may_use_host
        why = f"release {facts.tag}: everything runs, the host base is {'allowed' if allowed else 'refused'}"
        yield Ruling(policy="release", why=why, forbids=() if allowed else ("host_base",))


def _full(config: Config, facts: Facts, _stages: Mapping[str, Stage]) -> Iterable[Ruling]:
    if facts.event == "schedule":
        yield Ruling(policy="schedule", why="scheduled: everything runs")
    elif facts.event == "manual":
        yield Ruling(policy="manual", why="asked for by hand: everything runs")
    elif facts.event != "tag" and is_full(config, facts):
        yield Ruling(policy="main", why=f"on {facts.branch}: everything runs")


RULES: tuple[Callable[[Config, Facts, Mapping[str, Stage]], Iterable[Ruling]], ...] = (
    _fork,
    _docs,
    _draft,
    _hotfix,
    _waivers,
    _request,
    _release,
    _full,
)


def _each(names: Iterable[str], stages: Mapping[str, Stage], why: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, why) for name in names if name in stages)


def _check(config: Config, stages: Mapping[str, Stage]) -> None:
    """Refuse a policy that names a stage of which nothing is known; names of the standard pipeline may be absent from a shorter one."""
    from ci.stages import STAGES

    policy = config.policy
    places = {"docs_keep": policy.docs_keep, "draft_skips": policy.draft_skips, "hotfix_skips": policy.hotfix_skips}
    places |= {f"waivers.{label}": names for label, names in policy.waivers.items()}
    known = [*stages, *(name for name in STAGES if name not in stages)]
    for place, names in places.items():
        for name in names:
            if name not in known:
                raise UsageError(f'there is no stage "{name}"', where=f"policy.{place}", hint=f"stages: {', '.join(known)}")
