"""Applying a patch in git's format, by `git apply` (or `patch`) on a copy of the files that it names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from pocket.errors import TreeError
from pocket.store import disk
from pocket.store.index import clean, parents
from pocket.store.layer import Layer, Snapshot
from pocket.store.store import Store
from pocket.tree import ops
from pocket.tree.view import View

_NAMES = re.compile(r"^(?:---|\+\+\+) (?:[ab]/)?([^\t\n]+)|^rename (?:from|to) (.+)$|^diff --git a/(.+) b/(.+)$", re.MULTILINE)


def apply_patch(store: Store, base: Snapshot, text: str) -> tuple[Layer, ...]:
    """Give the layers that apply a patch to a tree.

    Raises:
        TreeError: the patch does not apply, or the machine has neither git nor patch.
    """
    names = sorted({clean(n) for m in _NAMES.finditer(text) for n in m.groups() if n and n != "/dev/null"})
    if not names:  # an empty patch, or a text that is none: nothing to do
        return ()
    view, work = View(base), store.tmp()
    try:
        for name in names:
            _refuse_links_above(work, name)
            node = view.lookup(name, follow=False)
            place = work / name
            if node is not None and node.entry.kind == "l":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(node.entry.target)
            elif node is not None and node.entry.kind == "f":
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(view.real(node), place)
                place.chmod(node.entry.mode | 0o600)
        _apply(work, text)
        return _collect(store, base, work, names)
    finally:
        disk.remove_tree(work)


def _apply(work: Path, text: str) -> None:
    if shutil.which("git"):
        command = ["git", "apply", "--whitespace=nowarn", "-"]
    elif shutil.which("patch"):
        command = ["patch", "-p1", "--no-backup-if-mismatch"]
    else:
        raise TreeError("cannot apply a patch: neither git nor patch is installed")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(work.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(command, cwd=work, env=environment, input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise TreeError(f"git apply: exit status 1: {(done.stderr or done.stdout).decode('utf-8', 'replace').strip()}")


def _refuse_links_above(work: Path, name: str) -> None:
    """Refuse what git refuses: nothing is read or written through a symlink, which may lead out of the copy."""
    if any((work / parent).is_symlink() for parent in parents(name)):
        raise TreeError(f"affected file '{name}' is beyond a symbolic link")


def _mode(made: int, before: int | None) -> int:
    """Give a file's mode: git makes files anew and knows only whether they are executable, so the rest of the old mode stays."""
    if before is None or bool(made & 0o100) == bool(before & 0o100):
        return made if before is None else before
    return before | (before & 0o444) >> 2 if made & 0o100 else before & ~0o111


def _collect(store: Store, base: Snapshot, work: Path, names: list[str]) -> tuple[Layer, ...]:
    """Write back what changed, file by file, on a growing stack."""
    snapshot, made = base, list[Layer]()
    for name in names:
        _refuse_links_above(work, name)
        place, node = work / name, View(snapshot).lookup(name, follow=False)
        if place.is_symlink():
            target = str(place.readlink())
            if node is not None and node.entry.kind == "l" and node.entry.target == target:
                continue
            layers = ops.remove(store, snapshot, [name], globs=False) if node is not None else ()
            layers += ops.symlink(store, Snapshot((*snapshot.layers, *layers), snapshot.key), target, name)
        elif place.is_file():
            data, mode = place.read_bytes(), _mode(place.stat().st_mode & 0o777, None if node is None else node.entry.mode)
            if node is not None and View(snapshot).read(node) == data and node.entry.mode == mode:
                continue
            layers = ops.write_file(store, snapshot, name, data, mode)
        elif node is not None:
            layers = ops.remove(store, snapshot, [name], globs=False)
        else:
            continue
        made += layers
        snapshot = Snapshot((*snapshot.layers, *layers), snapshot.key)
    return tuple(made)
