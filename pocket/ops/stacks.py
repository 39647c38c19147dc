"""How many layers a mount sees. A long chain of commands makes a tall stack; every layer costs a mount and a lookup a little,
and overlayfs takes 500 at most, so runs of layers are merged, each run once.
"""

from __future__ import annotations

from pocket.graph import ROOT, digest_of
from pocket.store.layer import Layer, Snapshot
from pocket.store.store import Store
from pocket.tree.squash import squash

RUN = 32  # layers that are merged into one


def mountable(store: Store, snapshot: Snapshot) -> tuple[Layer, ...]:
    """Give layers that show the same as the snapshot's, fewer when there are many; bottom first.

    Runs are cut at fixed places counted from the bottom, so a chain that grows by one layer merges nothing again.
    """
    layers = snapshot.layers
    while len(layers) >= 2 * RUN:
        whole = len(layers) - len(layers) % RUN
        runs = [layers[i : i + RUN] for i in range(0, whole, RUN)]
        layers = (*(_merged(store, run, bottom=i == 0) for i, run in enumerate(runs)), *layers[whole:])
    return layers


def _merged(store: Store, run: tuple[Layer, ...], *, bottom: bool) -> Layer:
    key = digest_of(["merged", bottom, [layer.id for layer in run]])
    record = store.actions.get(key)
    old = store.layer(record["layers"][ROOT][0]) if record else None
    if old is not None:
        return old
    layer = squash(store, run, bottom=bottom)
    store.actions.put(key, {"layers": {ROOT: [layer.id]}})
    return layer
