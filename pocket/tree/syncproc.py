"""Sync a host directory of very many files in a process of its own, so that the session stays small and goes on answering.

The child opens the same cache as a session of its own, writes one line of JSON, and ends when its input does: by then the parent
has pinned the layers, or is dead.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocket.errors import PocketError, StoreError, TreeError
from pocket.store import disk
from pocket.store.layer import Snapshot
from pocket.store.store import Store

_START = "import sys; sys.path.insert(0, sys.argv[1]); from pocket.tree.syncproc import main; main()"


def sync_elsewhere(store: Store, root: str, filters: Mapping[str, Any]) -> Snapshot:
    """Have a child sync `root`; return the snapshot. TreeError and StoreError as `sync` raises them."""
    order = {"cache": str(store.root.parent), "tier": store.tier, "path": root, "filters": dict(filters)}
    package = str(Path(__file__).resolve().parents[2])
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _START, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdin.write(json.dumps(order).encode() + b"\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if not answer:
            raise StoreError(f"syncing {root} failed: {child.stderr.read().decode(errors='replace')[-2000:]}")
        said = json.loads(answer)
        if "error" in said:
            raise (TreeError if said["tree"] else StoreError)(said["error"], hint=said["hint"])
        snapshot = store.snapshot(said["layers"], said["key"])
        child.stdin.close()
    if snapshot is None:
        raise StoreError(f"the layers of {root} vanished from the cache", hint="run it again")
    return snapshot


def main() -> None:
    """Carry out one order from standard input."""
    from pocket.tree.hostsync import sync

    order = json.loads(sys.stdin.readline())
    done = threading.Event()
    threading.Thread(target=_watch, args=(done,), daemon=True).start()
    store: Store | None = None
    try:
        with disk.told(f"copy {order['path']} to the cache"):
            store = Store.open(Path(order["cache"]), tier=order["tier"])
            snapshot = sync(store, order["path"], **order["filters"], limit=sys.maxsize)
        answer: dict[str, Any] = {"layers": [layer.id for layer in snapshot.layers], "key": snapshot.key}
    except PocketError as e:
        answer = {"error": e.message, "hint": e.hint, "tree": isinstance(e, TreeError)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    done.wait()
    if store is not None:
        store.close()


def _watch(done: threading.Event) -> None:
    """Wait for the parent to let go; when that happens early it is dead, and nobody wants the rest."""
    sys.stdin.read()
    done.set()
    threading.Timer(5, os._exit, [1]).start()
