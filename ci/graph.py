"""The plan as a graph: text for a terminal, Mermaid for a page, DOT for Graphviz. Renderers of the plan, nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ci.plan import Plan, PlannedStage


def text(plan: Plan) -> str:
    """Return one line per stage, indented by how many stages have to end before it, with what it needs."""
    depths: dict[str, int] = {}
    lines = []
    for stage in plan.stages:
        depths[stage.name] = 1 + max((depths.get(need, 0) for need in stage.needs), default=-1)
        needs = f" ← {', '.join(stage.needs)}" if stage.needs else ""
        skipped = f"    skip: {stage.why}" if stage.do == "skip" else ""
        lines.append(f"{'  ' * depths[stage.name]}{stage.name}{needs}{skipped}")
    return "\n".join(lines) + "\n"


def mermaid(plan: Plan) -> str:
    """Return a Mermaid flowchart; skipped stages are dashed and say why."""
    ids = {stage.name: f"s{index}" for index, stage in enumerate(plan.stages)}
    lines = ["flowchart LR"]
    lines += [f'  {ids[stage.name]}["{_escaped("<br>".join(_words(stage)))}"]' for stage in plan.stages]
    lines += [f"  {ids[need]} --> {ids[stage.name]}" for stage in plan.stages for need in stage.needs if need in ids]
    skipped = [ids[stage.name] for stage in plan.stages if stage.do == "skip"]
    if skipped:
        lines += ["  classDef skipped stroke-dasharray: 4 4, opacity: 0.6", f"  class {','.join(skipped)} skipped"]
    return "\n".join(lines) + "\n"


def dot(plan: Plan) -> str:
    """Return a Graphviz digraph; skipped stages are dashed and say why."""
    lines = ["digraph plan {", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    for stage in plan.stages:
        style = ', style="rounded,dashed"' if stage.do == "skip" else ""
        lines.append(f"  {_quoted(stage.name)} [label={_quoted(chr(10).join(_words(stage)))}{style}];")
    known = {stage.name for stage in plan.stages}
    lines += [f"  {_quoted(need)} -> {_quoted(stage.name)};" for stage in plan.stages for need in stage.needs if need in known]
    return "\n".join([*lines, "}"]) + "\n"


FORMATS: dict[str, Callable[[Plan], str]] = {"text": text, "mermaid": mermaid, "dot": dot}


def _words(stage: PlannedStage) -> list[str]:
    return [stage.name, f"skip: {stage.why}"] if stage.do == "skip" else [stage.name, *([stage.detail] if stage.detail else [])]


def _escaped(words: str) -> str:
    """Escape for a Mermaid label: it reads `#…;` as a character, and would read quotes as its end and `<` as HTML; our `<br>` stays."""
    return "<br>".join(
        part.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;") for part in words.split("<br>")
    )


def _quoted(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)
