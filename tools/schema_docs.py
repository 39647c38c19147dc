"""Write docs/pocket-api.md: every field of Dagger's API, and whether pocket supports it.

Support is read from the resolvers (`pocket.api.REGISTRY`); what is supported with a difference is told by `docs/pocket-differs.toml`,
whose every entry must name a supported field.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from tools.sdk_model import Api, Field

DIFFERS = Path(__file__).resolve().parent.parent / "docs" / "pocket-differs.toml"
Name = tuple[str, str]

_HEAD = """\
# What pocket supports of Dagger's API

<!-- Made by `python tools/make_schema.py --docs`; changes here are lost. Differences are told in pocket-differs.toml. -->

pocket offers the whole of Dagger's core API in its schema (dagger-io 0.21.11, engine v0.21.8).
A field that it does not support answers with an error that says so; it does not fail in the SDK.

## Tried with the SDKs

By hand, on 2026-11-21, as root and without a network; the sources are not part of this repository.

Dagger's own tests of its Python SDK (v0.21.8, in `sdk/python`): 75 of 78 pass, as on Dagger's engine. The same three fail on both, since
they need the internet or images that are not there: `test_git_repository`, `test_container_build`, `test_service_start_stop`.

    _EXPERIMENTAL_DAGGER_CLI_BIN=$(command -v pocket) POCKET_IMAGE_ARCHIVES=alpine:3.20.2=alpine.tar \\
        pytest -m "slow or not slow" tests/client tests/provisioning/test_integration_connection.py

A program with exec, build, service and export ends with `all ok` with the TypeScript SDK (`@dagger.io/dagger` 0.21.9) and with the
Go SDK (v0.21.8):

    _EXPERIMENTAL_DAGGER_CLI_BIN=$(command -v pocket) npx tsx main.ts base.tar
    _EXPERIMENTAL_DAGGER_CLI_BIN=$(command -v pocket) ./main base.tar out

`POCKET_IMAGE_ARCHIVES` is the setting that takes an image archive for a name that no registry answers.
"""


class DocsError(Exception):
    """The differences name what does not exist or is not supported."""


def registry() -> Container[Name] | None:
    """Give the set of supported fields; None, with a word on stderr, when the resolvers cannot be imported."""
    try:
        from pocket.api import REGISTRY
    except ImportError as e:
        print(f"pocket's resolvers cannot be imported ({e}): support is written as unknown", file=sys.stderr)
        return None
    return REGISTRY


def read_differences(path: Path = DIFFERS) -> dict[Name, str]:
    """Read the differences: `"Type.field" = "what differs"`."""
    if not path.exists():
        return {}
    entries: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {(key.partition(".")[0], key.partition(".")[2]): text for key, text in entries.items()}


def render(api: Api, supported: Container[Name] | None = None, differs: Mapping[Name, str] | None = None) -> str:
    """Give the document's text."""
    supported = registry() if supported is None else supported
    differs = read_differences() if differs is None else differs
    states = {(t, f.name): _state((t, f.name), supported, differs) for t, fs in api.objects.items() for f in fs}
    wrong = [".".join(name) for name in differs if states.get(name, "unsupported") == "unsupported"]
    if wrong:
        raise DocsError(f"{DIFFERS.name} names fields that are not supported: {', '.join(wrong)}")
    given = {f.ref.name for t, fs in api.objects.items() for f in fs if not _is_loader(f) and states[t, f.name] != "unsupported"}
    for type_name in api.objects:  # the query engine itself answers `id`, on everything that can be reached
        if type_name in given or type_name == "Query":
            states[type_name, "id"] = "unknown" if supported is None else "supported"
    used = [t for t in api.objects if any(states[t, f.name] != "unsupported" for f in api.objects[t])]
    parts = [_HEAD, _summary(states.values())]
    parts += [_section(t, api.objects[t], states, differs) for t in sorted(used, key=lambda t: (t != "Query", t))]
    parts.append(_unused({t: fs for t, fs in api.objects.items() if t not in used}))
    return "\n".join(part for part in parts if part)


def _state(name: Name, supported: Container[Name] | None, differs: Mapping[Name, str]) -> str:
    if supported is None:
        return "unknown"
    if name not in supported:
        return "unsupported"
    return "differs" if name in differs else "supported"


def _summary(states: Iterable[str]) -> str:
    all_states = list(states)
    counts = [f"{all_states.count(s)} {s}" for s in ("supported", "differs", "unsupported", "unknown") if s in all_states]
    return f"Of {len(all_states)} fields: {', '.join(counts)}.\n"


def _section(type_name: str, fields: list[Field], states: Mapping[Name, str], differs: Mapping[Name, str]) -> str:
    rows = [f"## {type_name}\n", "| field | arguments | gives | |", "|---|---|---|---|"]
    loaders = {s: [f for f in fields if _is_loader(f) and states[type_name, f.name] == s] for s in set(states.values())}
    for state, found in sorted(loaders.items()):
        if found:
            names = ", ".join(sorted(f.ref.name for f in found))
            rows.append(f"| `load…FromID` | `id` | {names} | {state} |")
    for f in fields:
        if not _is_loader(f):
            name = (type_name, f.name)
            mark = f"differs: {differs[name]}" if states[name] == "differs" else states[name]
            rows.append(f"| `{f.name}` | {_arguments(f)} | `{f.ref.sdl()}` | {mark} |")
    return "\n".join(rows) + "\n"


def _is_loader(field: Field) -> bool:
    return field.name.startswith("load") and field.name.endswith("FromID")


def _arguments(field: Field) -> str:
    return ", ".join(f"`{a.name}`" for a in field.args)


def _unused(types: Mapping[str, list[Field]]) -> str:
    if not types:
        return ""
    rows = ["## Not supported at all\n", "| type | fields |", "|---|---|"]
    rows += [f"| {t} | {', '.join(f'`{f.name}`' for f in fs)} |" for t, fs in sorted(types.items())]
    return "\n".join(rows) + "\n"
