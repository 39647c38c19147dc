"""Compiles modules for another root: reads `source path TAB path in the image` lines, writes `<n>.pyc` files into the directory argv[1].

Run as a script in a fresh interpreter (`python -I -S bytecode.py OUT < list`), because what `marshal` writes depends on which strings the
process happens to share: a fresh process with the same list writes the same bytes. The files hold the hash of their source instead of its
time and are not checked at run time (PEP 552), so neither clock nor layer extraction makes them stale.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys


def main(out: str) -> None:
    """Compile every module of the list on stdin; one that does not compile (a template, a test of syntax errors) is left out."""
    for number, line in enumerate(sys.stdin.read().splitlines()):
        source_path, _, image_path = line.partition("\t")
        with open(source_path, "rb") as handle:
            source = handle.read()
        try:
            code = compile(source, image_path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        unchecked_hash = (1).to_bytes(4, "little")
        with open(os.path.join(out, f"{number}.pyc"), "wb") as handle:
            handle.write(importlib.util.MAGIC_NUMBER + unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code))


if __name__ == "__main__":
    main(sys.argv[1])
