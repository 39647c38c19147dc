"""`EnvFile`: a list of variables in dotenv form; the last one of a name wins, `$NAME` is expanded when a value is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPORT = re.compile(r"export\s+")
#: What makes a value more than its own letters: quotes, escapes, variables.
_SHELL = re.compile(r"[`\"'\\]|\$[A-Za-z_{(]")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Assignments in the order in which names appear; `context` are variables that values may name but that the file does not have."""

    rows: tuple[Pair, ...] = ()
    context: tuple[Pair, ...] = ()

    def raw(self) -> dict[str, str]:
        """Give the values as written."""
        return {p.name: p.value for p in self.rows}

    def values(self, host: Mapping[str, str]) -> dict[str, str]:
        """Give the values with quotes removed and variables expanded: by others of the file in any order, the context, then the host's.

        Raises:
            PocketError: a line is no assignment, a quote is open, or a variable has no value.
        """
        known = _Known({p.name: p.value for p in (*self.context, *self.rows) if not _is_comment(p)}, host)
        return {row.name: known.value(row.name) for row in self.rows if not _is_comment(row)}


def _is_comment(row: Pair) -> bool:
    return row.name.startswith("#")


class _Known(Mapping[str, str]):
    """What a value may name. A variable that is empty, or that needs itself, counts as one that is not set."""

    def __init__(self, raw: dict[str, str], host: Mapping[str, str]) -> None:
        self._raw, self._host, self._done, self._open = raw, host, dict[str, str](), set[str]()

    def value(self, name: str) -> str:
        """Give the value of a variable of the file."""
        if name not in self._done:
            text = self._raw[name]
            if not _NAME.fullmatch(name):
                raise PocketError(f'parse error: "{name}={text}": not a bare assignment')
            self._open.add(name)
            try:
                self._done[name] = _value(text, self) if _SHELL.search(text) else text
            except PocketError as e:
                raise PocketError(f"{name}: {e}") from e
            finally:
                self._open.discard(name)
        return self._done[name]

    def __getitem__(self, name: str) -> str:
        own = "" if name in self._open else None if name not in self._raw else self.value(name)
        found = self._host.get(name, "") if own is None else own
        if not found:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


class _Anything(dict[str, str]):
    """An environment in which every variable has a value."""

    def get(self, key: str, default: str | None = None) -> str:  # type: ignore[override]
        """Give a word."""
        del key, default
        return "x"


def _value(text: str, known: Mapping[str, str]) -> str:
    bare = text.strip()
    quoted = _QUOTED.fullmatch(bare)
    return expand(quoted[1] if quoted else re.split(r"\s+#", bare, maxsplit=1)[0].rstrip(), known, strict=True)


def parse(text: str) -> EnvFile:
    """Read a dotenv file; whether its lines are assignments is judged when values are asked for."""
    file = EnvFile()
    for line in text.split("\n"):
        if stripped := _EXPORT.sub("", line.strip(), count=1) if _EXPORT.match(line.strip()) else line.strip():
            name, _, value = stripped.partition("=")
            file = _with(file, name, value)
    return file


def _with(file: EnvFile, name: str, value: str) -> EnvFile:
    row = Pair(name, value)
    if any(p.name == name for p in file.rows):
        return replace(file, rows=tuple(row if p.name == name else p for p in file.rows))
    return replace(file, rows=(*file.rows, row))


@field("Query", "envFile")
def env_file(_: Engine, _q: None) -> EnvFile:
    return EnvFile()


@field("File", "asEnvFile")
async def as_env_file(e: Engine, f: Leaf) -> EnvFile:
    file = parse(read_bytes(await view(e, f), f.path).decode("utf-8", "surrogateescape"))
    file.values(_Anything())  # a file that cannot be read is told where it is read; variables may be set later
    return file


@field("EnvFile", "withVariable")
def with_variable(_: Engine, f: EnvFile, name: str, value: str) -> EnvFile:
    return _with(f, name, value)


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
    """Keep what begins with the prefix and an underscore, without them; `myApp` stands for `MYAPP_` and for `MY_APP_`."""
    wanted = _spellings(prefix)
    inside: list[Pair] = []
    outside: list[Pair] = []
    for name, value in sorted(f.raw().items()):
        rest = next((name[len(w) :] for w in wanted if name.lower().startswith(w)), "")
        (inside if rest else outside).append(Pair(rest or name, value))
    return EnvFile(tuple(inside), (*f.context, *outside))


def _spellings(prefix: str) -> tuple[str, str]:
    snake = re.sub(r"[-. ]", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", prefix)).lower().removesuffix("_")
    return snake.replace("_", "") + "_", snake + "_"


@field("EnvFile", "asFile")
def as_file(_: Engine, f: EnvFile) -> Leaf:
    text = "".join(f"{p.name}={p.value}\n" for p in f.rows)
    return Leaf(edit("write_file", SCRATCH_REF, edits.write_file, path=".env", text=text, mode=0o644), ".env")


@field("Container", "withEnvFileVariables")
def with_env_file_variables(e: Engine, c: Container, source: Obj) -> Container:
    env = c.image.env
    for name, value in source.state.values(e.environ).items():
        env = put(env, name, value)
    return c.configure(env=env)
