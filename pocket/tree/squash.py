"""Merge neighbouring layers into one: overlayfs takes at most 500, and every one of them costs each lookup a little."""

from collections.abc import Sequence

from pocket.errors import TreeError
from pocket.store.index import Entry, tree_key
from pocket.store.layer import Layer
from pocket.store.store import Store

_Merged = dict[str, tuple[Entry, Layer]]


def squash(store: Store, layers: Sequence[Layer], *, bottom: bool = False) -> Layer:
    """Return one layer that hides and shows the same as `layers`; with `bottom` nothing lies below, so nothing need be hidden."""
    if not layers:
        raise TreeError("no layers to merge")
    merged: _Merged = {}
    for layer in layers:
        for path, e in layer.rows():
            _put(merged, path, e, layer)
    builder = store.layer_builder()
    for path in sorted(merged, key=tree_key):
        e, layer = merged[path]
        if bottom:
            e = e._replace(opaque=False)
        if not (bottom and e.kind == "w"):
            builder.add(path, e, f"{layer.path}/{path}" if e.kind == "f" else None)
    return builder.finish()


def _put(merged: _Merged, path: str, e: Entry, layer: Layer) -> None:
    old = merged.get(path)
    if old is not None and old[0].kind == "d" and (e.kind != "d" or e.opaque):
        prefix = path + "/" if path else ""
        for name in [n for n in merged if n.startswith(prefix) and n != path]:
            del merged[name]
    # A directory in the place of something else must go on hiding whatever lies below the merged layers.
    hides = e.kind == "d" and (e.opaque or (old is not None and (old[0].opaque or old[0].kind != "d")))
    merged[path] = (e._replace(opaque=hides), layer)
