"""Write trees and files to the host. Inside the destination no symlink is followed: one in the way is replaced, as by Dagger.

Files appear whole, by rename. Owners are those of the caller; modes and times are kept.
"""

import contextlib
import os
import secrets
import shutil
import stat

from pocket.errors import TreeError
from pocket.store import disk
from pocket.store.index import on_disk
from pocket.store.layer import Snapshot
from pocket.tree.view import Node, View

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def export_tree(view: View, path: str, dest: str, *, wipe: bool = False) -> str:
    """Merge a directory into `dest` (with `wipe` replacing what is there); return its absolute path."""
    root = view.directory(path)
    place = os.path.abspath(os.path.expanduser(dest))
    try:
        os.makedirs(place, exist_ok=True)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if wipe:
                for name in os.listdir(fd):
                    _clear(fd, name)
            _fill(view, root, fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise TreeError(f"cannot export to {place}: {e.strerror} ({e.filename})") from e
    return place


def _fill(view: View, directory: Node, fd: int) -> None:
    for node in view.listdir(directory.path):
        e = node.entry
        if e.kind == "d":
            child = _enter(fd, node.name)
            try:
                _fill(view, node, child)
                os.fchmod(child, e.mode)
                os.utime(child, (e.mtime, e.mtime))
            finally:
                os.close(child)
        elif e.kind == "f":
            _place_file(view, node, fd, node.name)
        elif e.kind == "l":
            temp = _temp()
            os.symlink(e.target, temp, dir_fd=fd)
            os.utime(temp, (e.mtime, e.mtime), dir_fd=fd, follow_symlinks=False)
            _move(fd, temp, node.name)
        elif e.kind == "p":
            _clear(fd, node.name)
            os.mkfifo(node.name, e.mode, dir_fd=fd)


def _enter(fd: int, name: str) -> int:
    """Return a descriptor of a real directory `name`, made when absent, put in the place of anything else."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=fd)
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except NotADirectoryError:  # also what O_NOFOLLOW and O_DIRECTORY answer for a symlink
        os.unlink(name, dir_fd=fd)
        os.mkdir(name, 0o700, dir_fd=fd)
        return os.open(name, _DIRECTORY, dir_fd=fd)


def _temp() -> str:
    return f".pocket.{secrets.token_hex(6)}"


def _place_file(view: View, node: Node, fd: int, name: str) -> None:
    temp = _temp()
    src = os.open(view.real(node), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        dst = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            disk.copy_data(src, dst)
            os.fchmod(dst, node.entry.mode)
            os.utime(dst, (node.entry.mtime, node.entry.mtime))
        finally:
            os.close(dst)
        _move(fd, temp, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=fd)
        raise
    finally:
        os.close(src)


def _move(fd: int, temp: str, name: str) -> None:
    try:
        os.rename(temp, name, src_dir_fd=fd, dst_dir_fd=fd)
    except IsADirectoryError:
        _clear(fd, name)
        os.rename(temp, name, src_dir_fd=fd, dst_dir_fd=fd)


def _clear(fd: int, name: str) -> None:
    """Remove one name below an open directory, whatever it is; symlinks are removed, not followed."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=fd)
            return
    except FileNotFoundError:
        return
    child = os.open(name, _DIRECTORY, dir_fd=fd)
    try:
        for inner in os.listdir(child):
            _clear(child, inner)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=fd)


def export_file(view: View, path: str, dest: str, *, allow_parent_dir_path: bool = False) -> str:
    """Write one file to `dest`, making the directories above it; return the absolute path of what was asked for.

    A file that is there is written over: it keeps its mode; a symlink is replaced, never written through. A destination that is a
    directory is refused unless `allow_parent_dir_path` is set: then the file keeps its name in it.
    """
    node = view.file(path)
    asked = place = os.path.abspath(os.path.expanduser(dest))
    if os.path.isdir(place):
        if not allow_parent_dir_path:
            raise TreeError(f'destination "{place}" is a directory; must be a file path unless allowParentDirPath is set')
        place = os.path.join(place, path.rstrip("/").rpartition("/")[2])
    folder, name = os.path.split(place)
    try:
        if os.path.isfile(place) and not os.path.islink(place):
            shutil.copyfile(view.real(node), place)
            return asked
        os.makedirs(folder, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _place_file(view, node, fd, name)
            os.utime(name, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise TreeError(f"cannot export to {place}: {e.strerror} ({e.filename})") from e
    return asked


def unpack(snapshot: Snapshot, dest: str, *, tier: str) -> None:
    """Copy a snapshot into an empty directory of the store, owners included where the tier can set them."""
    view = View(snapshot)
    folders = [view.root()]
    for node in view.walk():
        place, e = on_disk(dest, node.path), node.entry
        if e.kind == "d":
            os.mkdir(place, 0o700)
            folders.append(node)
            continue
        if e.kind == "f":
            disk.copy_file(str(view.real(node)), place)
        elif e.kind == "l":
            os.symlink(e.target, place)
        elif e.kind == "p":
            os.mkfifo(place)
        else:
            continue
        disk.set_attributes(place, e, tier=tier)
    for node in reversed(folders):
        disk.set_attributes(on_disk(dest, node.path), node.entry, tier=tier)
