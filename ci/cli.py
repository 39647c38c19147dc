"""The command line: argv → one command function. What is slow to import is imported where it is used; a test guards the set.

run [--only STAGE]... [--engine E] [--quiet] [--json] [-- ARGS]   carry out the plan
plan [--only STAGE]... [--json] [--event EVENT ...]    what would run, and why not, also for an event that did not happen
graph [--format text|mermaid|dot] [--event EVENT ...]  the plan as a graph
validate                           check the configuration
why STAGE                          why a stage would run, or ran, again
report [RUN] [--open yes|no]       write a run's page, report.html
history [--limit N] [--json]       the last runs
stages                             list the stages
config schema                      the JSON Schema of the configuration, for editors
version
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ci import __version__
from ci.errors import UsageError, WeighbridgeError
from ci.exits import SIGNALLED, Exit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from ci.config.model import Config
    from ci.events import Reporter
    from ci.facts import Facts
    from ci.plan import Plan
    from ci.stage import Stage

_STARTED = time.monotonic()
_EXITS = """exit codes: 0 passed · 1 a stage failed · 2 usage or configuration · 3 gate blocked · 4 gate inconclusive
5 infrastructure (engine, network, registry, disk) · 6 time budget · 128+n ended by signal n"""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = SIGNALLED + 2
    except BrokenPipeError:  # `… | head`: nobody reads on; Python would say so once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = SIGNALLED + 13
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Carry out one command and return its exit code; errors that a person can mend are printed, with what to do."""
    try:
        arguments = _parser().parse_args(_split(argv))
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except SystemExit as stop:  # argparse has printed what is wrong; 2 is its code and ours
        return int(stop.code or 0)
    except WeighbridgeError as error:
        print(error, file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit)


def _split(argv: Sequence[str]) -> list[str]:
    """Put what follows `--` behind one option, so that the stage's own options never look like ours."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments
    at = arguments.index("--")
    return [*arguments[:at], *(f"--extra={item}" for item in arguments[at + 1 :])]


def _parser() -> argparse.ArgumentParser:
    import argparse

    from ci.simulate import add_options

    parser = argparse.ArgumentParser(
        prog="weighbridge",
        description="From a commit of a model repository to a pushed, evaluated, traceable artefact.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"weighbridge {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(command=function)
        return command

    for name, function, text in (("run", _run, "carry out the plan"), ("plan", _plan, "show what would run, and why not")):
        command = add(name, function, text)
        command.add_argument("--only", action="append", default=[], metavar="STAGE", help="run this stage and what it needs (repeatable)")
        command.add_argument("--json", action="store_true", help="print JSON instead of the report")
        if name == "plan":
            add_options(command)
        if name == "run":
            command.add_argument("--engine", default="", metavar="ENGINE", help="pocket, dagger, or a Dagger runner host")
            command.add_argument("--quiet", action="store_true", help="print only failures and the result")
            command.add_argument("--extra", action="append", default=[], help=argparse.SUPPRESS)
    graph = add("graph", _graph, "show the plan as a graph")
    graph.add_argument("--format", choices=["text", "mermaid", "dot"], default="text", help="text (the default), Mermaid or Graphviz")
    add_options(graph)
    add("validate", _validate, "check the configuration")
    add("why", _why, "say why a stage would run again").add_argument("stage", metavar="STAGE")
    report = add("report", _report, "write a run's page, report.html")
    report.add_argument("run", metavar="RUN", nargs="?", default="", help="name of the run; the latest by default")
    report.add_argument("--open", choices=["yes", "no"], default="no", help="whether to show it in the browser (no)")
    history = add("history", _history, "list the last runs")
    history.add_argument("--limit", type=int, default=20, metavar="N", help="how many (20)")
    history.add_argument("--json", action="store_true", help="print the records as JSON")
    add("stages", _stages, "list the stages")
    add("config", _config, "print the JSON Schema of the configuration").add_argument("what", choices=["schema"])
    add("version", _version, "print the version")
    return parser


# --- commands


def _run(arguments: argparse.Namespace) -> int:
    from ci.engine import choose
    from ci.policy import under_policy
    from ci.request import Request
    from ci.runner import execute

    root, cache, config, facts, stages = _surroundings()
    plan = _planned(config, facts, stages, arguments.only)
    config = under_policy(config, plan.permits)
    if arguments.extra and len(arguments.only) != 1:
        raise UsageError("arguments after -- go to one stage", hint="name it: run --only test -- -k name")
    request = Request(
        started=_STARTED,
        config=config,
        facts=facts,
        plan=plan,
        stages=stages,
        root=root,
        cache=cache,
        engine=choose(arguments.engine, config.engine, os.environ),
        extra={arguments.only[0]: tuple(arguments.extra)} if arguments.extra else {},
    )
    record = execute(request, _reporter(quiet=arguments.quiet, silent=arguments.json))
    if arguments.json:
        _print_json(record.to_json())
    return int(record.exit or 0)


def _plan(arguments: argparse.Namespace) -> int:
    plan, facts = _asked(arguments, arguments.only)
    if arguments.json:
        sys.stdout.write(plan.to_json())
        return Exit.PASSED
    print(f"{plan.subject} @ {facts.short}, {plan.event.replace('_', ' ')}" + (f" on {plan.branch}" if plan.branch else ""))
    print(f"{'stage':<14}{'do':<7}why")
    for stage in plan.stages:
        reason = stage.why or (f"needs {', '.join(stage.needs)}" if stage.needs else "—")
        print(f"{stage.name:<14}{stage.do:<7}{reason}" + (f"    {stage.detail}" if stage.detail else ""))
    for line in (*(f"policy {applied.policy}: {applied.why}" for applied in plan.policies), facts.changed_note):
        if line:
            print(line)
    return Exit.PASSED


def _graph(arguments: argparse.Namespace) -> int:
    from ci.graph import FORMATS

    plan, _ = _asked(arguments)
    sys.stdout.write(FORMATS[arguments.format](plan))
    return Exit.PASSED


def _validate(_: argparse.Namespace) -> int:
    from ci.paths import CONFIG

    config, stages = (found := _surroundings())[2], found[4]
    print(f"{CONFIG} is valid: {len(stages)} stages, {len(config.evaluate.suites)} suites")
    return Exit.PASSED


def _why(arguments: argparse.Namespace) -> int:
    from ci.engine import choose
    from ci.memo import Memo
    from ci.plan import unknown_stage
    from ci.report.why import explain
    from ci.schedule import Schedule

    root, cache, config, facts, stages = _surroundings()
    if arguments.stage not in stages:
        raise unknown_stage(arguments.stage, stages)
    schedule = Schedule(
        config=config,
        facts=facts,
        root=root,
        cache=cache,
        stages=stages,
        memo=Memo(cache, root),
        engine=choose("", config.engine, os.environ),
    )
    print("\n".join(explain(arguments.stage, schedule)))
    schedule.save()
    return Exit.PASSED


def _report(arguments: argparse.Namespace) -> int:
    from ci.paths import find_root
    from ci.report.history import find_run
    from ci.report.html import write

    root = find_root(Path.cwd())
    directory = find_run(root, arguments.run)
    try:
        page = write(directory, root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"no page can be made of this record: {error}", where=directory.name, hint="is it of this version?") from error
    print(f"report {page.relative_to(root.resolve())}")
    if arguments.open == "yes":
        import webbrowser

        webbrowser.open(page.as_uri())
    return Exit.PASSED


def _history(arguments: argparse.Namespace) -> int:
    from ci.paths import find_root
    from ci.report.history import last_runs, table

    runs = last_runs(find_root(Path.cwd()), max(arguments.limit, 0))
    if arguments.json:
        _print_json(runs)
    else:
        print("\n".join(table(runs)))
    return Exit.PASSED


def _stages(_: argparse.Namespace) -> int:
    from ci.stages import STAGES

    for stage in STAGES.values():
        print(f"{stage.name:<14}" + (f"needs {', '.join(stage.needs)}" if stage.needs else "needs nothing"))
    return Exit.PASSED


def _config(_: argparse.Namespace) -> int:
    from ci.config.problems import schema

    _print_json(schema())
    return Exit.PASSED


def _version(_: argparse.Namespace) -> int:
    print(f"weighbridge {__version__}")
    return Exit.PASSED


# --- what commands share


def _surroundings() -> tuple[Path, Path, Config, Facts, dict[str, Stage]]:
    """Return root, cache, configuration, facts and stages of where this was started."""
    from ci.config.load import load
    from ci.facts import collect
    from ci.paths import CONFIG, cache_root, find_root
    from ci.stages import STAGES

    root, cache = find_root(Path.cwd()), cache_root()
    config = load(root / CONFIG, name=CONFIG, cache=cache)
    if not (root / config.subject.path).is_dir():
        raise UsageError(f"the subject's directory {config.subject.path} does not exist", where=CONFIG)
    return root, cache, config, collect(root, os.environ), STAGES


def _planned(config: Config, facts: Facts, stages: dict[str, Stage], only: Sequence[str]) -> Plan:
    from ci.plan import make_plan

    return make_plan(config, facts, stages, only=only)


def _asked(arguments: argparse.Namespace, only: Sequence[str] = ()) -> tuple[Plan, Facts]:
    """Return the plan, and the facts that it was made from: those of here and now, or of the event that is asked about."""
    from ci.simulate import is_asked_for, simulate

    root, _, config, facts, stages = _surroundings()
    if is_asked_for(arguments):
        facts = simulate(root, config, arguments)
    return _planned(config, facts, stages, only), facts


def _reporter(*, quiet: bool, silent: bool) -> Reporter:
    from ci.report import choose

    return choose(sys.stderr if silent else sys.stdout, os.environ, quiet=quiet or silent)


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
