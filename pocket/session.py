"""The session process: `pocket session`, which an SDK starts as its CLI.

The order matters. What needs a single thread comes first (namespaces, the forkserver), then whatever can fail for a reason
that the user must read, then the one line on stdout that the SDK waits for, and only then what later requests need.
The session ends when its stdin does, or by SIGTERM or SIGINT; everything it started ends with it.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

from pocket import __version__
from pocket.errors import PocketError
from pocket.sandbox import Zygote, enter_tier

#: Options of `dagger session` that take a value; all but the working directory are accepted and mean nothing here.
_VALUED = {"--label", "--workdir", "-W", "--workspace", "--version", "--project", "--progress"}


def workdir_of(argv: list[str]) -> Path:
    """Give the working directory that the arguments of `session` name.

    Raises:
        PocketError: it is not a directory.
    """
    where, rest = ".", list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in _VALUED and not equals:
            value = rest.pop(0) if rest else ""
        if name == "--workdir" and value:
            where = value
    path = Path(where).absolute()
    if not path.is_dir():
        raise PocketError(f"the working directory {path} does not exist")
    return path


def main(argv: list[str]) -> int:
    """Serve one session; gives the exit code."""
    try:
        workdir = workdir_of(argv)
        tier = enter_tier()
        zygote = Zygote.begin(tier)  # it prepares itself while the store is opened here
        from pocket.store.store import Store, default_root

        store = Store.open(default_root(), tier=tier.name)
        zygote.ready()
    except PocketError as e:
        print(f"pocket: {e}" + (f"\n  {e.hint}" if e.hint else ""), file=sys.stderr)
        return 1
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    token = os.urandom(16).hex()
    print(f"pocket {__version__} · tier {tier.name} · cache {store.root}", file=sys.stderr, flush=True)
    print(f'{{"port":{listener.getsockname()[1]},"session_token":"{token}"}}', flush=True)
    gc.freeze()
    sys.setrecursionlimit(20_000)  # the answer to a chain of calls nests as deep as the chain is long

    from pocket.serve import run  # after the line: the SDK prepares its request meanwhile

    run(store=store, tier=tier, zygote=zygote, workdir=workdir, listener=listener, token=token)
    return 0
