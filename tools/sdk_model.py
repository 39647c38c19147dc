"""Read Dagger's API out of the installed Python SDK.

The SDK's `dagger/client/gen.py` is parsed, never imported: each client class is a type, each method that selects a field is that
field, each `Arg(name, value, default)` an argument. What the SDK cannot say (which object results may be null, enum members
that exist twice) is put right by `sdk_corrections.py`. Descriptions are left out: they belong to Dagger's documentation.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.sdk_corrections import DEPRECATED_ARGS, NULLABLE_FIELDS

BUILTIN = {"str": "String", "int": "Int", "float": "Float", "bool": "Boolean"}
_CLIENT_BASES = {"Type", "Root"}


class SdkShapeError(Exception):
    """The SDK's generated client has a shape that this reader does not know; the reader needs an update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A type as it is used: element name, list or not, null or not. List elements are never null in Dagger's API."""

    name: str
    is_list: bool = False
    nullable: bool = False
    id_of: str | None = None

    def sdl(self) -> str:
        """Write the reference as SDL."""
        text = f"[{self.name}!]" if self.is_list else self.name
        return text if self.nullable else f"{text}!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerator:
    """A reference to an enum member, as a default value."""

    name: str


Default = None | bool | int | str | Enumerator | tuple[()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument or an input field. `default` None means that there is none."""

    name: str
    ref: Ref
    default: Default = None
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an object or interface."""

    name: str
    ref: Ref
    args: tuple[Argument, ...] = ()
    deprecated: bool = False


@dataclass(slots=True, kw_only=True)
class Api:
    """The whole API: every mapping is keyed by GraphQL type name."""

    scalars: list[str] = field(default_factory=list)
    enums: dict[str, dict[str, str]] = field(default_factory=dict)  # member -> the member it stands for
    inputs: dict[str, list[Argument]] = field(default_factory=dict)
    interfaces: dict[str, list[Field]] = field(default_factory=dict)
    objects: dict[str, list[Field]] = field(default_factory=dict)

    def implements(self, name: str) -> list[str]:
        """Name the interfaces an object implements: those all of whose fields it has, with at least the same arguments."""
        own = {f.name: f for f in self.objects[name]}
        return sorted(iface for iface, wanted in self.interfaces.items() if all(f.name in own and _covers(own[f.name], f) for f in wanted))


def _covers(own: Field, wanted: Field) -> bool:
    """Say whether `own` may stand where the interface promises `wanted` (GraphQL: extra arguments must be optional)."""
    names = {a.name: a.ref for a in own.args}
    extra = [a for a in own.args if a.name not in {w.name for w in wanted.args}]
    same_result = (own.ref.name, own.ref.is_list) == (wanted.ref.name, wanted.ref.is_list)
    optional = all(a.ref.nullable for a in extra)
    return same_result and optional and all(names.get(w.name) == w.ref for w in wanted.args)


def read_sdk(source: Path | None = None) -> Api:
    """Read the API from the SDK's generated client (by default that of the installed `dagger` package)."""
    path = source or _installed()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    api = Api()
    for cls in classes:
        _read_plain(api, cls)
    for cls in classes:
        _read_client(api, cls)
    _correct(api)
    return api


def _installed() -> Path:
    spec = importlib.util.find_spec("dagger")
    if spec is None or spec.origin is None:
        message = "the dagger-io package is not installed: install it to make the schema"
        raise SdkShapeError(message)
    return Path(spec.origin).parent / "client" / "gen.py"


def _base(cls: ast.ClassDef) -> str:
    return ast.unparse(cls.bases[0]) if cls.bases else ""


def _read_plain(api: Api, cls: ast.ClassDef) -> None:
    """Read scalars and enums, and note the names of inputs and clients."""
    match _base(cls):
        case "Scalar":
            api.scalars.append(cls.name)
        case "Enum":
            api.enums[cls.name] = {
                target.id: str(ast.literal_eval(node.value))
                for node in cls.body
                if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
            }
        case "Input":
            api.inputs[cls.name] = []
        case base if base in _CLIENT_BASES:
            name = _graphql_name(cls)
            (api.objects if name == cls.name else api.interfaces)[name] = []


def _graphql_name(cls: ast.ClassDef) -> str:
    """Give a client class's type name; only the clients of interfaces name another than their own."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "_graphql_name" and isinstance(node.body[-1], ast.Return):
            return str(ast.literal_eval(node.body[-1].value or ast.Constant(value="")))
    return cls.name


def _read_client(api: Api, cls: ast.ClassDef) -> None:
    base = _base(cls)
    if base == "Input":
        api.inputs[cls.name] = [
            Argument(name=node.target.id, ref=_annotation(api, node.annotation), default=_default(node.value))
            for node in cls.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ]
    elif base in _CLIENT_BASES:
        name = _graphql_name(cls)
        fields = [f for node in cls.body if (f := _method(api, name, node)) is not None]
        (api.objects if name in api.objects else api.interfaces)[name] = fields


def _method(api: Api, owner: str, node: ast.stmt) -> Field | None:
    """Read one method, or give None when it selects nothing (`with_`, `__await__`)."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    for call in calls:
        attr = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if attr not in ("_select", "execute_sync"):
            continue
        name = str(ast.literal_eval(call.args[1 if attr == "execute_sync" else 0]))
        ref = Ref(name="ID", id_of=owner) if attr == "execute_sync" or name == "id" else _result(api, owner, node)
        args = tuple(_argument(api, owner, name, node, arg) for arg in _arg_calls(node))
        return Field(name=name, ref=ref, args=args, deprecated=_warns(node))
    return None


def _warns(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) == "warnings.warn" for n in ast.walk(node))


def _result(api: Api, owner: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Ref:
    if node.returns is None:
        message = f"{owner}.{node.name} has no return annotation"
        raise SdkShapeError(message)
    return _annotation(api, node.returns, owner=owner)


def _arg_calls(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.Call]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Arg"]


def _argument(api: Api, owner: str, field_name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> Argument:
    """Read `Arg("name", value, default)`; the type is the annotation of the parameter that `value` names."""
    parameters = {p.arg: p.annotation for p in [*node.args.args, *node.args.kwonlyargs]}
    value = call.args[1].orelse if isinstance(call.args[1], ast.IfExp) else call.args[1]
    annotation = parameters.get(value.id) if isinstance(value, ast.Name) else None
    if annotation is None:
        message = f"{owner}.{field_name}: cannot tell the type of {ast.unparse(call)}"
        raise SdkShapeError(message)
    ref = _annotation(api, annotation, owner=owner, argument=True)
    name = str(ast.literal_eval(call.args[0]))
    if (owner, field_name) == ("Query", "node"):
        ref = Ref(name="ID", id_of="Node")
    default = _default(call.args[2]) if len(call.args) > 2 else None
    return Argument(name=name, ref=ref, default=default)


def _annotation(api: Api, node: ast.expr, *, owner: str = "", argument: bool = False) -> Ref:
    """Turn an annotation (`'list[Container] | None'`) into a reference; objects in arguments travel as their ID."""
    text = ast.unparse(node).replace('"', "").replace("'", "")
    text, nullable = text.removesuffix(" | None"), text.endswith(" | None")
    is_list = text.startswith("list[")
    name = text.removeprefix("list[").removesuffix("]") if is_list else text
    name = owner if name == "Self" else BUILTIN.get(name, name)
    if argument and (name in api.objects or name in api.interfaces):
        return Ref(name="ID", is_list=is_list, nullable=nullable, id_of=name)
    id_of = name.removesuffix("ID") if argument and name.endswith("ID") else None
    return Ref(name=name, is_list=is_list, nullable=nullable, id_of=id_of)


def _default(node: ast.expr | None) -> Default:
    if node is None:
        return None
    if isinstance(node, ast.Attribute):
        return Enumerator(name=node.attr)
    value = ast.literal_eval(node)
    if value == []:
        return ()
    if value is None or isinstance(value, bool | int | str):
        return value
    message = f"unknown default {ast.unparse(node)}"
    raise SdkShapeError(message)


def _correct(api: Api) -> None:
    """Put right what the SDK's annotations cannot say; a correction that fits nothing any more is an error."""
    for type_name, names in NULLABLE_FIELDS.items():
        _known(type_name, names, {f.name for f in api.objects[type_name]})
        api.objects[type_name] = [replace(f, ref=replace(f.ref, nullable=True)) if f.name in names else f for f in api.objects[type_name]]
    for type_name, field_name, arg_name in DEPRECATED_ARGS:
        old = next(f for f in api.objects[type_name] if f.name == field_name)
        _known(f"{type_name}.{field_name}", {arg_name}, {a.name for a in old.args})
        args = tuple(replace(a, deprecated=True) if a.name == arg_name else a for a in old.args)
        api.objects[type_name][api.objects[type_name].index(old)] = replace(old, args=args)
    for fields in api.objects.values():
        fields.sort(key=lambda f: f.name)


def _known(where: str, names: set[str], present: set[str]) -> None:
    if names - present:
        message = f"sdk_corrections.py names what {where} no longer has: {', '.join(sorted(names - present))}"
        raise SdkShapeError(message)
