"""What a person at the keyboard picks of the pipeline: which stages, and which of them to do again whatever is remembered.

Left-out stages are part of the plan (`--only`, `--skip`, `--from`); doing again (`--force`, `--from`) is part of the schedule, because it
changes nothing about what the run is for. A run's record holds the selection, so that `--resume` goes on with the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ci.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the options of a run say about stages, by name."""

    only: tuple[str, ...] = ()
    """These and what they need."""
    skip: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    """`--from`: these and everything after them again, with what they need."""
    force: tuple[str, ...] = ()
    """These again."""
    everything: bool = False
    """`--force` without a name: look nothing up in the memo; what the engine has cached still counts."""
    frozen: bool = False
    """Pinned digests and caches alone, see ci/frozen.py."""

    def left_out(self, stages: Mapping[str, Stage]) -> dict[str, str]:
        """Return stage → why it is left out, for the plan.

        Raises:
            UsageError: a name is no stage's.

        """
        for name in (*self.only, *self.skip, *self.start, *self.force):
            if name not in stages:
                raise unknown_stage(name, stages)
        why = dict.fromkeys(self.skip, "not asked for (--skip)")
        if self.start:
            after = _needed((*self.start, *_after(self.start, stages)), stages)
            why.update({name: "not asked for (--from)" for name in stages if name not in after and name not in why})
        if self.only:
            asked = _needed(self.only, stages)
            why.update({name: "not asked for (--only)" for name in stages if name not in asked and name not in why})
        return why

    def again(self, stages: Mapping[str, Stage]) -> dict[str, str]:
        """Return stage → the option because of which it is done whatever is remembered."""
        why = dict.fromkeys(stages, "--force") if self.everything else {}
        return {**why, **dict.fromkeys(self.anew(stages), "--from"), **dict.fromkeys(self.force, "--force")}

    def anew(self, stages: Mapping[str, Stage]) -> frozenset[str]:
        """Return the stages whose measurements are made anew too, instead of taken from the engine's cache: those picked by name."""
        return frozenset((*self.force, *self.start, *_after(self.start, stages)))


def unknown_stage(name: str, stages: Iterable[str]) -> UsageError:
    """Return the error for a stage that does not exist."""
    import difflib

    known = list(stages)
    close = difflib.get_close_matches(name, known, n=1)
    meant = f' (did you mean "{close[0]}"?)' if close else ""
    return UsageError(f'there is no stage "{name}"{meant}', hint=f"stages: {', '.join(known)}")


def _needed(names: Iterable[str], stages: Mapping[str, Stage]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += stages[name].needs
    return found


def _after(names: Iterable[str], stages: Mapping[str, Stage]) -> list[str]:
    """Return the stages that need one of these, directly or not."""
    found = set(names)
    for _ in stages:  # one more link of the longest chain each time
        found |= {name for name, stage in stages.items() if found & set(stage.needs)}
    return [name for name in stages if name in found and name not in set(names)]
