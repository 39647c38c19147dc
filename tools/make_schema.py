"""Make what `pocket.schema` ships: the SDL, the field table and the prepared introspection answers.

    python tools/make_schema.py            write pocket/schema/{api.graphql,table.json,introspection-*.json.gz}
    python tools/make_schema.py --check    change nothing; exit 1 when what is there is not what would be written
    python tools/make_schema.py --docs     write docs/pocket-api.md: every field and whether pocket supports it

It reads the installed dagger-io package (see sdk_model.py) and nothing else.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphql import build_schema, get_introspection_query, graphql_sync, print_ast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the tool runs from a checkout that is not installed

from pocket import schema  # noqa: E402
from tools.schema_docs import DocsError, render  # noqa: E402
from tools.sdk_model import Api, Argument, Default, Enumerator, Field, Ref, SdkShapeError, read_sdk  # noqa: E402

TARGET = ROOT / "pocket" / "schema"
_DEPRECATED = ' @deprecated(reason: "deprecated by Dagger")'


def main(argv: list[str] | None = None) -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on a difference")
    parser.add_argument("--docs", action="store_true", help="write docs/pocket-api.md instead")
    options = parser.parse_args(argv)
    try:
        files = _documents() if options.docs else {TARGET / name: data for name, data in build(read_sdk()).items()}
    except (DocsError, SdkShapeError) as e:
        parser.exit(2, f"{parser.prog}: {e}\n")
    stale = [path for path, data in files.items() if not path.exists() or _plain(path.read_bytes()) != _plain(data)]
    for path in stale:
        print(f"{'differs' if options.check else 'wrote'}: {path.relative_to(ROOT)}")
        if not options.check:
            path.write_bytes(files[path])
    return 1 if options.check and stale else 0


def _documents() -> dict[Path, bytes]:
    return {ROOT / "docs" / "pocket-api.md": render(read_sdk()).encode()}


def _plain(data: bytes) -> bytes:
    """Undo compression: another zlib writes other bytes for the same content."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def build(api: Api) -> dict[str, bytes]:
    """Give the content of each generated file by name; the same API gives the same bytes."""
    sdl = to_sdl(api)
    return {
        "api.graphql": sdl.encode(),
        "table.json": (json.dumps(to_table(api), separators=(",", ":")) + "\n").encode(),
        **{name: gzip.compress(answer, 9, mtime=0) for name, answer in introspection_answers(sdl).items()},
    }


def introspection_answers(sdl: str) -> dict[str, bytes]:
    """Answer the known introspection queries: name of the file -> response body."""
    built = build_schema(sdl)
    answers: dict[str, bytes] = {}
    for query in known_queries():
        result = graphql_sync(built, query)
        if result.errors:
            raise result.errors[0]
        name = schema.answer_name(schema.fingerprint(query))
        answers[name] = json.dumps({"data": result.data}, separators=(",", ":")).encode()
    return answers


def known_queries() -> list[str]:
    """Give the introspection queries that SDKs send: gql's (the Python SDK), and graphql-js's usual one."""
    from gql.utilities import get_introspection_query_ast

    return [print_ast(get_introspection_query_ast()), get_introspection_query()]


def to_sdl(api: Api) -> str:
    """Write the API as SDL."""
    blocks = ["# Made by tools/make_schema.py from the installed Dagger SDK; changes here are lost."]
    blocks += [f"scalar {name}" for name in sorted(api.scalars)]
    blocks += [_block(f"enum {name}", members) for name, members in sorted(api.enums.items())]
    blocks += [_block(f"input {name}", [_argument(a) for a in fields]) for name, fields in sorted(api.inputs.items())]
    blocks += [_block(f"interface {name}", [_field(f) for f in fields]) for name, fields in sorted(api.interfaces.items())]
    for name, fields in sorted(api.objects.items()):
        implemented = " & ".join(api.implements(name))
        head = f"type {name} implements {implemented}" if implemented else f"type {name}"
        blocks.append(_block(head, [_field(f) for f in fields]))
    return "\n\n".join(blocks) + "\n"


def _block(head: str, lines: list[str] | Mapping[str, str]) -> str:
    return "\n".join([f"{head} {{", *(f"  {line}" for line in lines), "}"])


def _field(field: Field) -> str:
    args = ", ".join(_argument(a) for a in field.args)
    return f"{field.name}{f'({args})' if args else ''}: {field.ref.sdl()}{_DEPRECATED if field.deprecated else ''}"


def _argument(arg: Argument) -> str:
    default = "" if arg.default is None else f" = {_literal(arg.default)}"
    return f"{arg.name}: {arg.ref.sdl()}{default}{_DEPRECATED if arg.deprecated else ''}"


def _literal(value: Default) -> str:
    if isinstance(value, Enumerator):
        return value.name
    return "[]" if value == () else str(json.dumps(value))


def to_table(api: Api) -> dict[str, Any]:
    """Write the API as the compact table that `pocket.schema` loads: see there for the row formats."""
    return {
        "scalars": sorted(api.scalars),
        "enums": {name: dict(sorted(members.items())) for name, members in sorted(api.enums.items())},
        "inputs": {name: [_arg_row(a) for a in fields] for name, fields in sorted(api.inputs.items())},
        "interfaces": {name: sorted(o for o in api.objects if name in api.implements(o)) for name in sorted(api.interfaces)},
        "fields": {name: [_field_row(f) for f in fields] for name, fields in sorted({**api.objects, **api.interfaces}.items())},
    }


def _flags(ref: Ref, *, deprecated: bool) -> int:
    return (schema.LIST if ref.is_list else 0) | (schema.NULLABLE if ref.nullable else 0) | (schema.DEPRECATED if deprecated else 0)


def _field_row(field: Field) -> list[Any]:
    row = [field.name, field.ref.name, _flags(field.ref, deprecated=field.deprecated)]
    return [*row, [_arg_row(a) for a in field.args]] if field.args else row


def _arg_row(arg: Argument) -> list[Any]:
    default: Any = arg.default
    if isinstance(default, Enumerator):
        default = default.name
    elif default == ():
        default = []
    row = [arg.name, arg.ref.name, _flags(arg.ref, deprecated=arg.deprecated), default, arg.ref.id_of]
    while row[-1] is None:
        row.pop()
    return row


if __name__ == "__main__":
    sys.exit(main())
