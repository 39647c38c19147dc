"""The files that are missing, as a list of steps: what would be written and why. Nothing is overwritten; .gitignore gets lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci.errors import InfraError
from ci.init import texts
from ci.paths import CONFIG, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ci.init.look import Found

_IGNORED = (".weighbridge/", ".venv/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One file that is written, or why it is not."""

    path: str
    content: str = ""
    """The whole file; empty when it stays as it is."""
    why: str

    def describe(self) -> str:
        """Return the step as a line."""
        return f" {'+' if self.content else '='} {self.path:<36} {self.why}"

    def execute(self, root: Path) -> None:
        """Write the file."""
        if not self.content:
            return
        try:
            write_atomically(root / self.path, self.content.encode())
        except OSError as error:
            raise InfraError(f"cannot be written: {error.strerror}", where=self.path) from error


def steps(found: Found) -> list[Step]:
    """Return what is to be written into the repository."""
    return [
        _new(found, CONFIG, texts.pipeline(found), "what the pipeline does here, with comments"),
        *_model_lock(found),
        *_suite(found),
        _new(found, texts.GITHUB, texts.host_file("github"), "GitHub: checkout, installation, `weighbridge run`, upload"),
        _new(found, texts.gitlab_path(found), texts.host_file("gitlab"), "GitLab: the same"),
        _ignored(found),
    ]


def _new(found: Found, path: str, content: str, why: str) -> Step:
    if (found.root / path).exists():
        return Step(path=path, why="is there, and stays as it is")
    return Step(path=path, content=content, why=why)


def _model_lock(found: Found) -> Iterator[Step]:
    if found.model:
        yield _new(found, texts.LOCK, texts.model_lock(found), f"the model's identity: every file of {', '.join(found.model)}")


def _suite(found: Found) -> Iterator[Step]:
    if not found.suites:
        yield _new(found, f"{found.evals or 'evals'}/{texts.SUITE}", texts.smoke(), "a first suite: does the service answer at all?")


def _ignored(found: Found) -> Step:
    path = found.root / ".gitignore"
    held = path.read_text() if path.exists() else ""
    missing = [line for line in _IGNORED if line not in held.splitlines() and line.rstrip("/") not in held.splitlines()]
    if not missing:
        return Step(path=".gitignore", why="has the lines it needs")
    start = held if not held or held.endswith("\n") else held + "\n"
    return Step(path=".gitignore", content=start + "".join(f"{line}\n" for line in missing), why=f"gets {', '.join(missing)}")
