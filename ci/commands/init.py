"""`init`: write the files with which the pipeline runs in a repository that has none of them. Asks nothing, overwrites nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ci.init.look import Found


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Look, write, and say what is left to do."""
    from ci.init import texts
    from ci.init.look import look
    from ci.init.scaffold import steps

    root = _top(Path.cwd())
    found = look(root)
    planned, left = steps(found), list(texts.left_to_do(found))
    for step in planned if not arguments.dry_run else ():
        step.execute(root)
    if arguments.json:
        files = [{"path": step.path, "written": bool(step.content), "why": step.why} for step in planned]
        print_json({"root": str(root), "found": dict(_shown(found)), "files": files, "left": left, "dry_run": arguments.dry_run})
        return Exit.PASSED
    print("found")
    for name, value in _shown(found):
        print(f"   {name:<14}{value or 'none'}")
    print("would write" if arguments.dry_run else "wrote")
    print("\n".join(step.describe() for step in planned))
    if left:
        print("left to you")
        print("\n".join(f"   {line}" for line in left))
    print("next     weighbridge plan, then weighbridge run")
    return Exit.PASSED


def _top(start: Path) -> Path:
    """Return the repository's top: the nearest directory above that git knows as one, else where this was started."""
    return next((directory for directory in (start, *start.parents) if (directory / ".git").exists()), start)


def _shown(found: Found) -> Iterator[tuple[str, str]]:
    argv = " ".join(found.service.argv)
    yield "Dockerfile", f"{found.dockerfile} ({argv or 'no command'})" if found.dockerfile else ""
    yield "server", f"{found.server} (modules below {found.source})" if found.server else ""
    yield "requirements", ", ".join(name for name in (found.lock, found.test_lock, found.other_lock) if name)
    yield "tests", found.tests
    yield "model", ", ".join(found.model)
    yield "suites", ", ".join(f"{found.evals}/{suite}" for suite in found.suites)
    yield "CI hosts", ", ".join(found.hosts)
