"""From results to the tables of docs/performance.md. The goals stand here, once.

The goals were set on a machine of two quiet cores on which importing the Dagger SDK takes 0.46 s; what was measured on another, or
beside other work, is compared twice: as it is, and multiplied by 0.46 / (the import's best time in the same run) where that took longer.
"""

from __future__ import annotations

from typing import Any

IMPORT = 0.46  # seconds, on the machine of the goals
MEMORY = 150.0  # MB
#: What → seconds: Dagger's engine on the machine of the goals, and the goal there.
SMALL = {
    "connect": (0.29, 0.15),
    "request": (0.0018, 0.0015),
    "exec": (0.067, 0.027),
    "chain": (0.061, 0.025),
    "fan": (0.040, 0.020),
    "chain cached": (0.0006, 0.0006),
    "fan cached": (0.0038, 0.0035),
    "directory first": (1.7, 0.9),
    "directory unchanged": (0.19, 0.15),
    "directory one changed": (1.2, 0.25),
}
LARGE = {
    "chain": (0.073, 0.025),
    "fan": (0.058, 0.020),
    "chain cached": (None, 0.0006),
    "fan cached": (None, 0.0035),
    "directory first": (24.9, 9.0),
    "directory unchanged": (2.15, 1.5),
    "directory one changed": (15.1, 2.5),
}
#: At the command line: what → words, and the goal in seconds.
COMMANDS = {
    "help": ("help", 0.15),
    "completion": ("completion", 0.15),
    "plan": ("plan", 0.25),
    "validate": ("validate", 0.25),
    "no-op run": ("a run in which nothing changed", 0.3),
    "cached": ("a whole run, every step cached (`--force`)", 1.5),
}
EDIT = 1.2  # times the steps that an edited line made necessary
WORDS = {
    "connect": "connect: process start to first answer",
    "request": "a request with a trivial answer",
    "exec": "`true`, new, one after another",
    "chain": "chain of {chain} new commands, each",
    "fan": "fan-out of {fan} new commands, each",
    "chain cached": "the same chain cached, each",
    "fan cached": "the same fan-out cached, each",
    "directory first": "directory of {files:,} files: first",
    "directory unchanged": "… unchanged",
    "directory one changed": "… one file changed",
}


def page(results: dict[str, Any], source: str) -> str:
    """Give the text that stands between the markers."""
    m, ended = results["machine"], results.get("ended", results["machine"])
    where = f"{m['cores']} cores, {m['memory_mb'] // 1024} GB, Linux {m['kernel']}, Python {m['python']}, as {m['as']}"
    load = f"Load average before: {m['load'][0]}, after: {ended['load'][0]} (last minute)."
    parts = [f"Measured {m['date']} ({source}): {where}. {load}\n"]
    titles = (("engine", SMALL, "Tier `root`"), ("large", LARGE, "Tier `root`, large"), ("single-uid", SMALL, "Tier `single-uid`"))
    parts += [_engine(results[name], goals, title) for name, goals, title in titles if name in results]
    if "layers" in results:
        parts.append(_layers(results["layers"]))
    if "dockerfile" in results:
        parts.append(_dockerfile(results["dockerfile"]))
    return "\n".join(parts)


def _engine(result: dict[str, Any], goals: dict[str, tuple[float | None, float]], title: str) -> str:
    seconds, sizes = result["seconds"], result["sizes"]
    factor = min(1.0, IMPORT / seconds["import"]["best"])
    marks = ", ".join(f"{n} {_time(seconds[n]['best'])}" for n in ("import", "fork", "container", "loop", "stat"))
    lines = [
        f"### {title}\n",
        f"Yardsticks of this run: {marks}. Load {result['machine']['load'][0]}. Compared to the machine of the goals: {factor:.2f}.\n",
        "| what | Dagger's engine there | goal there | best here | median here | of it the SDK's own | best × factor | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (dagger, goal) in goals.items():
        best, median = seconds[name]["best"], seconds[name]["median"]
        met = "yes" if best <= goal else "yes, × factor" if best * factor <= goal else "**no**"
        theirs = "–" if dagger is None else _time(dagger)
        own = _time(seconds[f"{name} sdk"]["median"]) if f"{name} sdk" in seconds else ""
        cells = (WORDS[name].format(**sizes), theirs, _time(goal), _time(best), _time(median), own, _time(best * factor), met)
        lines.append(f"| {' | '.join(cells)} |")
    after, peak = seconds["memory"]["median"], seconds["peak"]["median"]
    met = "yes" if after <= MEMORY else "**no**"
    lines.append(f"| memory after this (peak) | 936 MB | {MEMORY:.0f} MB | {after:.0f} MB | ({peak:.0f} MB) | | | {met} |")
    return "\n".join(lines) + "\n"


def _layers(result: dict[str, Any]) -> str:
    seconds, size = result["seconds"], result["megabytes"]
    marks = f"sha256sum ({_time(seconds['sha256sum']['best'])}) and cp ({_time(seconds['cp']['best'])}) of the same bytes"
    goal = f"the goal is at most {result['goal']} times that. Load {result['machine']['load'][0]}."
    lines = [
        f"### A layer of {size} MB that cannot be compressed\n",
        f"The slower of {marks} in this run took {_time(result['limit'])}; {goal}\n",
        "| what | best | median | relation | met |",
        "|---|---|---|---|---|",
    ]
    for name, relation in result["relation"].items():
        s, met = seconds[name], "yes" if result["met"][name] else "**no**"
        lines.append(f"| {name} | {_time(s['best'])} | {_time(s['median'])} | {relation} | {met} |")
    return "\n".join(lines) + "\n"


def _dockerfile(result: dict[str, Any]) -> str:
    seconds = result["seconds"]
    lines = [
        "### A Dockerfile of two stages and twelve commands, beside buildah\n",
        f"In turn, best of each. Load {result['machine']['load'][0]}.\n",
        "| what | pocket | buildah | relation | met |",
        "|---|---|---|---|---|",
    ]
    for name, relation in result["relation"].items():
        ours, theirs = (_time(seconds[f"{who} {name}"]["best"]) for who in ("pocket", "buildah"))
        lines.append(f"| {name} | {ours} | {theirs} | {relation} | {'yes' if result['met'][name] else '**no**'} |")
    return "\n".join(lines) + "\n"


def command_line(results: dict[str, Any], source: str) -> str:
    """Give the text of the section on the command line."""
    m, wall, cpu, edit = results["machine"], results["wall"], results["cpu"], results["edit"]
    marks = ", ".join(f"{name} {_time(wall[name]['best'])}" for name in ("python", "nox --list", "doit"))
    load = f"Load average before: {m['load'][0]}, after: {results.get('ended', m)['load'][0]}."
    lines = [
        f"Measured {m['date']} ({source}): {m['cores']} cores, Python {m['python']}, as {m['as']}. {load}",
        f"Best of {wall['help']['runs']} rounds, of {wall['cached']['runs']} runs through the engine. Beside them, in turns: {marks}.\n",
        "| what | wall | median | processor | goal | × `nox --list` | × `doit` | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (words, goal) in COMMANDS.items():
        if name in wall:
            best, median = wall[name]["best"], wall[name]["median"]
            beside = [f"{best / wall[other]['best']:.2f}" for other in ("nox --list", "doit")]
            met = "yes" if best <= goal else "in processor time" if cpu[name]["best"] <= goal else "**no**"
            lines.append(
                f"| {words} | {_time(best)} | {_time(median)} | {_time(cpu[name]['best'])} | {_time(goal)} | {' | '.join(beside)} | {met} |"
            )
    met = "met" if edit["ratio"] <= EDIT else "not met"
    steps = f"{_time(edit['run'])}, and {edit['ratio']} times as long as the steps that it made necessary ({_time(edit['steps'])})"
    lines.append(f"\nA run after one edited line took {steps}; the goal, {EDIT} times, was {met}.")
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f} ms"
