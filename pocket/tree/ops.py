"""Tree operations: each takes a snapshot and returns the layers to stack on top of it (none when nothing changes).

They are pure in their inputs. Files are shared with hard links wherever their attributes stay; a copy of a whole tree moves its
layers one by one, so that a changed file in a large directory costs a small layer.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pocket.errors import TreeError
from pocket.store import index as ix
from pocket.store.builder import LayerBuilder
from pocket.store.index import Entry, join
from pocket.store.layer import SCRATCH, Layer, Snapshot
from pocket.store.store import Store
from pocket.tree.onto import Layers, Onto, Owner, now, tidy
from pocket.tree.patterns import Gitignore, Patterns, State, compile_pattern
from pocket.tree.view import Node, View

_SMALL = 2000  # entries: a tree this small is merged into one layer rather than moved layer by layer


def write_file(store: Store, base: Snapshot, path: str, data: bytes, mode: int = 0o644, owner: Owner = None) -> Layers:
    """Write a file; directories above it are made. Symlinks in the path are followed inside the tree."""
    onto = Onto(store, base)
    place = onto.view.resolve(tidy(path))
    node = onto.view.get(place)
    if node is not None and node.is_dir:
        raise TreeError(f"path {path} is a directory, not a file")
    onto.above(place)
    uid, gid = owner or (0, 0)
    onto.builder.write(place, data, Entry("f", mode & 0o7777, uid, gid, mtime=now()))
    return onto.finish()


def new_file(store: Store, base: Snapshot, dest: str, data: bytes, mode: int, owner: Owner = None) -> Layers:
    """Put a new file in the place of what is there, or into the directory that is there, under its own name."""
    onto = Onto(store, base, copying=True)
    place = onto.file_at(dest, tidy(dest).rpartition("/")[2])
    onto.above(place)
    uid, gid = owner or (0, 0)
    onto.builder.write(place, data, Entry("f", mode & 0o7777, uid, gid, mtime=now()))
    return onto.finish()


def make_dir(store: Store, base: Snapshot, path: str, mode: int = 0o755, owner: Owner = None, *, parents_mode: int = 0o755) -> Layers:
    """Make a directory and those above it; one that exists stays as it is. The mode is taken literally, 0 means 0755."""
    try:
        wanted = tidy(path)
    except TreeError as e:
        raise TreeError(f"cannot create directory outside parent: {path}") from e
    onto = Onto(store, base)
    place = onto.view.resolve(wanted)
    node = onto.view.get(place)
    if node is not None:
        if not node.is_dir:
            raise TreeError(f"path {path} is a file, not a directory")
        return ()
    onto.above(place, owner, parents_mode)
    uid, gid = owner or (0, 0)
    onto.builder.mkdir(place, Entry("d", (mode & 0o7777) or 0o755, uid, gid, mtime=now()))
    return onto.finish()


def symlink(store: Store, base: Snapshot, target: str, link: str, owner: Owner = None) -> Layers:
    """Make a symlink; the target is not looked at."""
    if not target:
        raise TreeError(f"symlink {link}: the target must not be empty")
    if "\0" in target:
        raise TreeError(f"symlink {link}: the target holds a NUL byte")
    onto = Onto(store, base)
    place = _beside(onto.view, link)
    if onto.view.get(place) is not None:
        raise TreeError(f"symlink {target} {link}: file exists")
    onto.above(place)
    uid, gid = owner or (0, 0)
    onto.builder.symlink(place, target, Entry("l", 0o777, uid, gid, mtime=now()))
    return onto.finish()


def _beside(view: View, path: str) -> str:
    """Resolve the directory of a path but not its last component."""
    parent, _, name = tidy(path).rpartition("/")
    return join(view.resolve(parent), name)


def remove(store: Store, base: Snapshot, paths: Iterable[str], *, globs: bool = True) -> Layers:
    """Remove files and directories by path or pattern; what is missing is fine."""
    onto = Onto(store, base)
    doomed: set[str] = set()
    for path in paths:
        place = _beside(onto.view, path)
        if not place:
            raise TreeError("cannot remove the root of a directory")
        if onto.view.get(place) is not None:
            doomed.add(place)
        elif globs and "*" in place:
            matches = compile_pattern(re.sub(r"\*+", "*", place)).fullmatch  # here even two stars stop at a slash
            doomed.update(n.path for n in onto.view.walk() if matches(n.path))
    for place in sorted(doomed):
        if not any(p in doomed for p in ix.parents(place)):
            onto.above(place)
            onto.builder.whiteout(place)
    return onto.finish() if doomed else ()


def _filtered(view: View, root: Node, patterns: Patterns, ignore: Gitignore | None) -> Iterator[Node]:
    """Yield what the patterns keep below a directory, and the directories needed to hold it, parents first."""
    if patterns.empty and ignore is None:
        yield from view.walk(root.path)
        return
    skip = len(root.path) + 1 if root.path else 0
    waiting: list[Node] = []

    def visit(parent: str, state: State) -> Iterator[Node]:
        for node in view.listdir(parent):
            path = node.path[skip:]
            if ignore is not None and ignore.ignored(path, is_dir=node.is_dir):
                continue
            keep, descend, below = patterns.decide(path, state)
            if keep:
                yield from waiting
                waiting.clear()
                yield node
            if node.is_dir and descend:
                if not keep:
                    waiting.append(node)
                yield from visit(node.path, below)
                if not keep and waiting and waiting[-1] is node:
                    waiting.pop()

    yield from visit(root.path, patterns.start)


def gitignore_of(view: View, root: str) -> Gitignore:
    """Return the .gitignore rules of a directory of a view."""

    def read(directory: str) -> str | None:
        node = view.get(join(root, join(directory, ".gitignore")))
        return view.read(node).decode(errors="surrogateescape") if node is not None and node.entry.kind == "f" else None

    return Gitignore(read)


def copy_tree(  # noqa: PLR0913 - what there is to say of a copy
    store: Store,
    base: Snapshot,
    src: Snapshot,
    *,
    src_path: str = "",
    dest: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = False,
    owner: Owner = None,
    mode: Callable[[int, bool], int] | None = None,
    parents: Owner = None,
) -> Layers:
    """Copy what a directory holds into `dest`, made when absent.

    Directories that exist, also where a symlink leads to, take the source's attributes; only the root of the tree keeps its own.
    mode: gives the new mode of a file or directory for (its own mode, whether it is a directory). `parents` own what is made above.
    """
    view = View(src)
    root = view.directory(src_path)
    onto = Onto(store, base, copying=True)
    place = onto.within(tidy(dest))
    patterns = Patterns(include, exclude)
    there = onto.view.get(place)
    exists = there is not None and bool(base.layers)
    replaced, led = list[str](), dict[str, str]()
    if there is not None and exists:
        _in_the_way(view, root, onto.view, there, replaced, led)
    if replaced:
        gone = remove(store, base, replaced, globs=False)
        rest: dict[str, Any] = {"include": include, "exclude": exclude, "gitignore": gitignore, "owner": owner}
        rest |= {"src_path": src_path, "dest": dest, "mode": mode, "parents": parents}
        return gone + copy_tree(store, Snapshot((*base.layers, *gone), base.key), src, **rest)
    plain = patterns.empty and not gitignore and owner is None and mode is None and not led
    small = len(src.layers) > 1 and sum(layer.entries for layer in src.layers) < _SMALL
    if plain and not root.path and not small and (not exists or not any(layer.hides for layer in src.layers)):
        return _move_layers(store, onto.view, src, place, there if exists else None)
    onto.above(place, parents)

    def changed(e: Entry) -> Entry:
        new = e.mode if mode is None or e.kind not in "df" else mode(e.mode, e.kind == "d") & 0o7777
        uid, gid = owner or (e.uid, e.gid)
        return e._replace(uid=uid, gid=gid, mode=new, opaque=False)

    onto.builder.mkdir(place, there.entry._replace(opaque=False) if there is not None and exists and not place else changed(root.entry))
    places = {root.path: place}
    for node in _filtered(view, root, patterns, gitignore_of(view, root.path) if gitignore else None):
        target = led.get(node.path) or join(places[node.path.rpartition("/")[0]], node.name)
        if node.is_dir:
            places[node.path] = target
            if node.path in led:
                onto.above(target)
        add(store, onto.builder, target, view, node, changed(node.entry))
    return onto.finish()


def add(store: Store, builder: LayerBuilder, path: str, view: View, node: Node, entry: Entry) -> None:
    """Add a node of a view to a layer with the attributes of `entry`, sharing its inode when those on disk are the same."""
    old = node.entry
    on_disk_same = (old.mode, old.mtime, old.xattrs) == (entry.mode, entry.mtime, entry.xattrs)
    owner_same = store.tier == "single-uid" or (old.uid, old.gid) == (entry.uid, entry.gid)
    builder.add(path, entry, view.real(node) if entry.kind == "f" else None, link=on_disk_same and owner_same)


def _in_the_way(view: View, node: Node, base: View, old: Node, replaced: list[str], led: dict[str, str]) -> None:
    """Note the files whose places directories take, and which directories of `view` go where a symlink leads, as to a merged /bin."""
    if old.entry.kind == "l":
        there = base.lookup(old.path)
        if there is not None and there.is_dir:
            led[node.path] = there.path
            old = there
    if not old.is_dir:
        replaced.append(f"/{old.path}")
        return
    for child in view.listdir(node.path):
        if child.is_dir and (below := base.get(join(old.path, child.name))) is not None:
            _in_the_way(view, child, base, below, replaced, led)


def _move_layers(store: Store, base: View, src: Snapshot, dest: str, there: Node | None) -> Layers:
    if not src.layers:
        return make_dir(store, base.snapshot, dest) if dest else ()
    if not dest and (there is None or all(layer.entry("") == there.entry for layer in src.layers)):
        return src.layers
    made = Entry("d", 0o755, mtime=View(src).root().entry.mtime)  # no clock: it is part of the memo's key
    above = [(p, _directory_entry(base, p, made)) for p in ix.parents(dest)]
    return tuple(_moved(store, layer, dest, above, there.entry if there is not None and not dest else None) for layer in src.layers)


def _directory_entry(base: View, path: str, made: Entry) -> Entry:
    node = base.get(path)
    if node is not None and not node.is_dir:
        if node.entry.kind == "l":
            return made
        raise TreeError(f'cannot copy directory to non-directory "/{path}"')
    return node.entry._replace(opaque=False) if node is not None else made


def _moved(store: Store, source: Layer, dest: str, above: list[tuple[str, Entry]], there: Entry | None) -> Layer:
    """Return a layer moved below `dest`, made once for each place and attributes of what lies above."""
    root = there or source.entry("") or Entry("d", 0o755)
    rows = "".join(ix.line(p, e) for p, e in [*above, (dest, root)])
    key = hashlib.sha256(f"moved\n{source.id}\n{rows}".encode()).hexdigest()
    if (record := store.actions.get(key)) is not None and (old := store.layer(record["layers"]["out"])) is not None:
        return old
    builder = store.layer_builder()
    for path, e in above:
        builder.mkdir(path, e)
    builder.mkdir(dest, root._replace(opaque=False))
    builder.adopt_content(source, dest)
    layer = builder.finish() if source.prefix or not dest or source.entries < _SMALL else builder.finish_moved(source, dest)
    store.actions.put(key, {"layers": {"out": layer.id}})
    return layer


def copy_file(
    store: Store,
    base: Snapshot,
    src: Snapshot,
    src_path: str,
    *,
    dest: str,
    mode: int | None = None,
    owner: Owner = None,
    parents: Owner = None,
) -> Layers:
    """Copy one file in the place of what is there; into a directory ("", ".", "/" or a trailing slash among them) under its own name.

    `parents` own what is made above.
    """
    view = View(src)
    node = view.file(src_path)
    onto = Onto(store, base, copying=True)
    place = onto.file_at(dest, src_path.rstrip("/").rpartition("/")[2])
    onto.above(place, parents)
    uid, gid = owner or (node.entry.uid, node.entry.gid)
    entry = node.entry._replace(uid=uid, gid=gid, mode=node.entry.mode if mode is None else mode & 0o7777)
    add(store, onto.builder, place, view, node, entry)
    return onto.finish()


def _rewritten(store: Store, base: Snapshot, nodes: Iterable[tuple[Node, Entry]]) -> Layers:
    onto = Onto(store, base)
    for node, entry in nodes:
        onto.above(node.path)
        add(store, onto.builder, node.path, onto.view, node, entry._replace(opaque=False))
    return onto.finish()


def chown(store: Store, base: Snapshot, path: str, owner: tuple[int, int], *, recursive: bool = True) -> Layers:
    """Change the owner of a path and, for a directory, of all below it."""
    view = View(base)
    node = view.need(tidy(path))
    nodes = [node, *(view.walk(node.path) if node.is_dir and recursive else ())]
    return _rewritten(store, base, ((n, n.entry._replace(uid=owner[0], gid=owner[1])) for n in nodes))


def timestamps(store: Store, src: Snapshot, timestamp: int) -> Layers:
    """Return the layer of a snapshot of its own: the same tree with one modification time for everything, in seconds since 1970.

    Not a layer on top of the old ones: every file is in it, so an image would carry each twice.
    """
    view = View(src)
    builder = store.layer_builder()
    builder.mkdir("", view.need("").entry._replace(mtime=timestamp, opaque=False))
    for node in view.walk(""):
        add(store, builder, node.path, view, node, node.entry._replace(mtime=timestamp, opaque=False))
    return (builder.finish(),)


def subtree(
    store: Store, src: Snapshot, path: str = "", *, include: Sequence[str] = (), exclude: Sequence[str] = (), gitignore: bool = False
) -> Layers:
    """Return the layers of a snapshot of its own that holds (the filtered content of) one directory."""
    return copy_tree(store, SCRATCH, src, src_path=path, dest="", include=include, exclude=exclude, gitignore=gitignore)


def diff(store: Store, a: Snapshot, b: Snapshot, *, a_path: str = "", b_path: str = "") -> Layers:
    """Return the layers of a snapshot that holds what `b` adds to or changes in `a`; what it removes does not show."""
    old, new = View(a), View(b)
    old_root, new_root = old.directory(a_path), new.directory(b_path)
    builder = store.layer_builder()
    builder.mkdir("", new_root.entry._replace(opaque=False))
    skip = len(new_root.path) + 1 if new_root.path else 0
    for node in new.walk(new_root.path):
        path = node.path[skip:]
        was = old.get(join(old_root.path, path))
        if was is not None and (was.entry._replace(mtime=0, opaque=False) == node.entry._replace(mtime=0, opaque=False)):
            continue
        for parent in ix.parents(path):
            if parent not in builder.entries:
                builder.mkdir(parent, new.need(join(new_root.path, parent)).entry._replace(opaque=False))
        add(store, builder, path, new, node, node.entry._replace(opaque=False))
    return (builder.finish(),)
