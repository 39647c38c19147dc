"""What the memo knows: for each planned stage its inputs and, when an earlier result stands, that result; otherwise why not.

This is the part of a run that costs nothing: it opens no session, starts no event loop and imports nothing that is slow. A run in which
every stage is reused ends here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ci import frozen
from ci.errors import InfraError
from ci.files import Digests, digest_of
from ci.hydrate import dehydrate
from ci.inputs import Code, Inputs, differences, inputs_of, python_identity
from ci.selection import Selection
from ci.stages.kept import archive_path, bring

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ci.config.model import Config
    from ci.engine import EngineChoice
    from ci.facts import Facts
    from ci.memo import Entry, Memo
    from ci.resume import Resumed
    from ci.stage import Base, Stage


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a stage can be reused."""

    entry: Entry | None
    inputs: Inputs | None
    """None when they are not known yet: a stage before it has to run first, or the base is not resolved."""
    why: str
    """Why the stage runs; for a reused stage, what makes it the same."""
    measurement: str = field(default_factory=lambda: os.urandom(8).hex())
    """Token of the stage's measurements: a new one, or that of an earlier passed run when the engine is to answer with those."""

    @property
    def key(self) -> str:
        """Return the memo key, or an empty string while the inputs are not known."""
        return self.inputs.key() if self.inputs else ""


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Looks stages up in the memo, for one run."""

    config: Config
    facts: Facts
    root: Path
    cache: Path
    stages: Mapping[str, Stage]
    memo: Memo
    engine: EngineChoice
    selection: Selection = field(default_factory=Selection)
    resume: Resumed | None = None
    base: Base | None = None
    identities: dict[str, Any] = field(default_factory=dict)
    """Stage → the part of its result that others depend on, for stages that passed or were reused."""
    _digests: Digests = field(init=False)
    _code: Code = field(init=False)
    _again: dict[str, str] = field(init=False)
    _anew: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._digests = Digests(self.root, self.cache / "stat" / f"{digest_of(str(self.root))[:16]}.json")
        self._code = Code(self.cache, self.stages)
        self._again, self._anew = self.selection.again(self.stages), self.selection.anew(self.stages)
        self.base = self.memo.base(self.base_question())

    def base_question(self) -> str:
        """Identify what the base was asked to be, and where: the memo keeps the answer under it."""
        return digest_of([dehydrate(self.config.base), python_identity(), str(self.root) if "archive" in self.config.base.image else ""])

    def take_base(self, base: Base) -> None:
        """Use this base from now on, and remember it."""
        self.base = base
        self.memo.remember_base(self.base_question(), base)

    def inputs(self, stage: Stage) -> Inputs:
        """Return the inputs of a stage whose needs are done, read anew."""
        return inputs_of(
            stage,
            config=self.config,
            facts=self.facts,
            digests=self._digests,
            code=self._code,
            needs=self.identities,
            engine=self.engine.identity(self._code.engine() if self.engine.kind == "pocket" else ""),
            base=self.base.identity if self.base else "",
            **(self._change() if stage.inputs(self.config).change else {}),
        )

    def _change(self) -> dict[str, Any]:
        """Name what of the change is no documentation: like policy, this lets nothing run for a document alone."""
        from ci.change import change_of
        from ci.policy import is_documentation

        change = change_of(self.root, self.config, self.facts)
        counts = {
            name for name in (*change.files, *(name for name, _ in change.earlier)) if not is_documentation(self.config, name, self.stages)
        }
        return {
            "change": tuple(name for name in change.files if name in counts),
            "earlier": tuple(one for one in change.earlier if one[0] in counts),
        }

    def look_up(self, stage: Stage) -> Verdict:
        """Say whether a stage whose needs are done can be reused."""
        if stage.inputs(self.config).base and self.base is None:
            return Verdict(None, None, self._history(stage, None))
        inputs = self.inputs(stage)
        resumed = self.resume.entry(stage.name, inputs, self.memo) if self.resume else None
        entry = resumed or self.memo.find(stage.name, inputs.key())
        again = "" if resumed else self._again.get(stage.name, "")
        if again:
            why = f"asked for again ({again})"
            known = entry.measurement if entry and stage.name not in self._anew else ""
            return Verdict(None, inputs, why, known) if known else Verdict(None, inputs, why)
        if entry is None:
            return Verdict(None, inputs, self._history(stage, inputs))
        config = frozen.untouched(self.config) if self.selection.frozen else self.config
        gone = stage.gone(entry.result, config, self.root, self.cache)
        if gone and not self.memo.elsewhere(stage.archives(entry.result)):
            return Verdict(None, inputs, gone)
        return Verdict(entry, inputs, f"passed in run {entry.run}" if resumed else "none of its inputs changed")

    def survey(self, names: list[str]) -> dict[str, Verdict]:
        """Look up all planned stages without running any: those that depend on one that must run are not known yet."""
        verdicts: dict[str, Verdict] = {}
        for name in names:
            stage = self.stages[name]
            unknown = [need for need in stage.needs if need not in self.identities]
            if unknown:
                verdicts[name] = Verdict(None, None, f"depends on {', '.join(unknown)}")
                continue
            verdict = verdicts[name] = self.look_up(stage)
            if verdict.entry:
                self.identities[name] = verdict.entry.identity
        return verdicts

    def remember(self, stage: Stage, entry: Entry, files: Path) -> None:
        """Keep a passed result; `files` is the run's directory."""
        self.memo.put(entry, files, {digest: archive_path(self.cache, digest) for digest in stage.archives(entry.result)})

    def bring(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Fetch the images that these results (stage → JSON) stand for, where a machine that vanished made them.

        Raises:
            InfraError: the store had one, and has it no longer.

        """
        for name, result in results.items():
            for digest in self.stages[name].archives(result):
                if not bring(self.cache, digest, self.memo.bring):
                    lost = f"what {name} made ({digest[:19]}…) is neither in the cache nor in the store"
                    raise InfraError(lost, hint=f"run again with --force {name}")

    def save(self) -> None:
        """Keep what was learned about files."""
        self._digests.save()
        self._code.save()

    def _history(self, stage: Stage, inputs: Inputs | None) -> str:
        last = self.memo.last(stage.name)
        if last is None:
            return "never passed here"
        if inputs is None:
            return "its base image is not known"
        changed = differences(last.inputs, inputs)
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        return ", ".join(changed[:2]) + more if changed else "its result is no longer in the cache"
