"""`EnvFile`: a list of variables in dotenv form; the last one of a name wins, `$NAME` is expanded when a value is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.api.trees import read_bytes, view
from pocket.dockerfile.words import expand
from pocket.errors import PocketError
from pocket.graph import Leaf
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.values import Container, Pair, put

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj

#: A value in quotes, and the comment that may follow it.
_QUOTED = re.compile(r'(\'[^\']*\'|"(?:[^"\\]|\\.)*")\s*(?:#.*)?', re.DOTALL)
_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Assignments in order; `context` are variables that values may name but that are not part of the file."""

    rows: tuple[Pair, ...] = ()
    context: tuple[Pair, ...] = ()

    def raw(self) -> dict[str, str]:
        """Give the values as written, the last one of each name."""
        return {p.name: p.value for p in self.rows}

    def values(self, host: Mapping[str, str]) -> dict[str, str]:
        """Give the values with quotes removed and variables expanded: by earlier ones, the context, then the host's environment."""
        known = {**host, **{p.name: _value(p.value, host) for p in self.context}}
        found: dict[str, str] = {}
        for row in self.rows:
            found[row.name] = known[row.name] = _value(row.value, known)
        return found


def _value(text: str, known: Mapping[str, str]) -> str:
    bare = text.strip()
    quoted = _QUOTED.fullmatch(bare)
    return expand(quoted[1] if quoted else re.split(r"\s+#", bare, maxsplit=1)[0].rstrip(), known)


def parse(text: str) -> EnvFile:
    """Read a dotenv file.

    Raises:
        PocketError: a line is no assignment; the message has its number.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _NAME.fullmatch(stripped)
        if match is None:
            raise PocketError(f"env file line {number}: not an assignment: {stripped[:60]!r}")
        rows.append(Pair(match[1], match[2]))
    return EnvFile(tuple(rows))


@field("Query", "envFile")
def env_file(_: Engine, _q: None) -> EnvFile:
    return EnvFile()


@field("File", "asEnvFile")
async def as_env_file(e: Engine, f: Leaf) -> EnvFile:
    return parse(read_bytes(await view(e, f), f.path).decode("utf-8", "surrogateescape"))


@field("EnvFile", "withVariable")
def with_variable(_: Engine, f: EnvFile, name: str, value: str) -> EnvFile:
    return replace(f, rows=(*f.rows, Pair(name, value)))


@field("EnvFile", "withoutVariable")
def without_variable(_: Engine, f: EnvFile, name: str) -> EnvFile:
    return replace(f, rows=tuple(p for p in f.rows if p.name != name))


@field("EnvFile", "get")
def get(e: Engine, f: EnvFile, name: str, raw: bool | None = None) -> str:
    return (f.raw() if raw else f.values(e.environ)).get(name, "")


@field("EnvFile", "exists")
def exists(_: Engine, f: EnvFile, name: str) -> bool:
    return name in f.raw()


@field("EnvFile", "variables")
def variables(e: Engine, f: EnvFile, raw: bool | None = None) -> list[Pair]:
    return [Pair(k, v) for k, v in sorted((f.raw() if raw else f.values(e.environ)).items())]


@field("EnvFile", "namespace")
def namespace(_: Engine, f: EnvFile, prefix: str) -> EnvFile:
    """Keep what begins with the prefix, without it; case, dashes and underscores do not count."""
    wanted = _flat(prefix)
    inside: list[Pair] = []
    outside: list[Pair] = []
    for name, value in sorted(f.raw().items()):
        cut = next((n for n in range(len(name) + 1) if _flat(name[:n]) == wanted and wanted), 0)
        rest = name[cut:].lstrip("_-") if cut else ""
        (inside if rest else outside).append(Pair(rest or name, value))
    return EnvFile(tuple(inside), (*f.context, *outside))


def _flat(text: str) -> str:
    return re.sub(r"[-_]", "", text).lower()


@field("EnvFile", "asFile")
def as_file(_: Engine, f: EnvFile) -> Leaf:
    text = "".join(f"{p.name}={p.value}\n" for p in f.rows)
    return Leaf(edit("write_file", SCRATCH_REF, edits.write_file, path=".env", text=text, mode=0o600), ".env")


@field("Container", "withEnvFileVariables")
def with_env_file_variables(e: Engine, c: Container, source: Obj) -> Container:
    env = c.image.env
    for name, value in source.state.values(e.environ).items():
        env = put(env, name, value)
    return c.configure(env=env)
