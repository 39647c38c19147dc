"""From GraphQL text to resolvers: the part of GraphQL that Dagger SDKs use, over the table of `pocket.schema`.

Every object that a field returns has an ID made from the recipe that led to it (parent, field, arguments), so the same
chain asked twice is the same object and its fields are not resolved again. That makes requests idempotent, which the SDK's
retries rely on. Siblings are resolved in parallel; there are no mutations.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pocket import schema
from pocket.arguments import RequestError, coerce
from pocket.errors import PocketError, told
from pocket.gql import Document, Fragment, Operation, Selected, Variable, parse
from pocket.store import disk

if TYPE_CHECKING:
    from types import FunctionType

    from pocket.engine import Engine
    from pocket.schema import FieldSpec

F = TypeVar("F", bound=Callable[..., Any])

#: Scalars of the schema; what is none of these and no enum is an object.
SCALARS = frozenset({"String", "Int", "Float", "Boolean", "ID", "Void", "JSON", "Platform", "Null"})


@dataclass(frozen=True, slots=True)
class Obj:
    """An object that a client can hold: its GraphQL type, its immutable state and its ID."""

    type: str
    state: Any
    id: str


@dataclass(frozen=True, slots=True)
class Resolver:
    """How one field is answered. `whole` resolvers get the `Obj`, others its state; `pure` ones are memoised by recipe."""

    call: Callable[..., Any]
    names: Mapping[str, str]  # GraphQL argument → Python parameter
    whole: bool
    pure: bool


class FieldError(Exception):
    """An error with the place in the query where it happened; `cause` is what the client is told."""

    def __init__(self, cause: Exception, node: Selected, path: tuple[str | int, ...]) -> None:
        super().__init__(str(cause))
        self.cause, self.node, self.path = cause, node, path

    def to_json(self) -> dict[str, Any]:
        """Give the entry for the answer's `errors`."""
        place = {"line": self.node.line, "column": self.node.column}
        error: dict[str, Any] = {"message": told(self.cause), "locations": [place], "path": list(self.path)}
        extensions = dict(getattr(self.cause, "extensions", ()))
        if hint := getattr(self.cause, "hint", ""):
            extensions["hint"] = hint
        if extensions:
            error["extensions"] = extensions
        return error


class Executor:
    """Answers the queries of one session."""

    def __init__(self, engine: Engine, registry: Mapping[tuple[str, str], Resolver]) -> None:
        self.engine = engine
        self.registry = registry
        self.fields = schema.fields()
        self.objects: dict[str, Obj] = {}
        self._fresh = 0
        self._flights: dict[str, asyncio.Future[Obj]] = {}
        self.root = self._keep(Obj("Query", None, "Query:root"))

    async def execute(self, text: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request; errors are part of the answer, in Dagger's shape (`data` is left out then)."""
        try:
            document = parse(text)
            operation = _operation(document)
            if variables is not None and not isinstance(variables, dict):
                raise RequestError("the variables of a request must be an object")
            walk = _Walk(self, operation.defaults | (variables or {}), document.fragments)
            return {"data": await walk.select(self.root, operation.selections, ())}
        except _ManyError as many:
            return {"errors": [e.to_json() for e in many.errors]}
        except FieldError as e:
            return {"errors": [e.to_json()]}
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the session ends
            return {"errors": [{"message": "what this request waited for was cancelled", "locations": [], "path": []}]}
        except Exception as e:  # noqa: BLE001 - a client is always told; GraphQLSyntaxError and our own among them
            return {"errors": [{"message": told(e), "locations": [], "path": []}]}

    def load(self, ident: object) -> Obj:
        """Give the object with an ID.

        Raises:
            RequestError: no object of this session has it.
        """
        found = self.objects.get(ident) if isinstance(ident, str) else None
        if found is None:
            raise RequestError(f"no object in this session has the ID {str(ident)[:80]!r}")
        return found

    def hold(self, cause: Exception) -> None:
        """Let the client have the container that an error speaks of: its ID stands in the error's extensions."""
        container, extensions = getattr(cause, "container", None), getattr(cause, "extensions", {})
        if container is not None and "container" not in extensions:
            self._fresh += 1
            extensions["container"] = self._keep(Obj("Container", container, f"Container:failed.{self._fresh}")).id

    def _keep(self, obj: Obj) -> Obj:
        return self.objects.setdefault(obj.id, obj)

    async def resolve(self, obj: Obj, spec: FieldSpec, name: str, args: dict[str, Any], literal: object) -> Any:
        """Answer one field: an `Obj`, a list of them, or a scalar."""
        resolver = self.registry.get((obj.type, name))
        if resolver is None:
            raise RequestError(f"not supported by pocket: {obj.type}.{name} — use a Dagger engine")
        given = {resolver.names[k]: v for k, v in args.items() if k in resolver.names}
        if spec.type in SCALARS or self.fields.get(spec.type) is None:
            return await _call(self.engine, resolver, obj, given)
        ident = f"{spec.type}:{_recipe(obj.id, name, literal)}"
        if spec.list:
            states = await _call(self.engine, resolver, obj, given)
            return [self._keep(Obj(spec.type, state, f"{ident}.{n}")) for n, state in enumerate(states)]
        if not resolver.pure or args.get("noCache"):
            # Asked again it may be something else, and what is derived from it must be derived again.
            state = await _call(self.engine, resolver, obj, given)
            self._fresh += 1
            return self._made(f"{ident}.{self._fresh}", spec, state)
        return await self._resolve_once(ident, obj, spec, resolver, given)

    async def _resolve_once(self, ident: str, obj: Obj, spec: FieldSpec, resolver: Resolver, given: dict[str, Any]) -> Obj | None:
        known = self.objects.get(ident)
        if known is not None:
            return known
        flight = self._flights.get(ident)
        if flight is None:
            # Most resolvers only make a value: those that do not wait are answered without a task.
            state = resolver.call(self.engine, obj if resolver.whole else obj.state, **given)
            if not asyncio.iscoroutine(state):
                return self._made(ident, spec, state)
            flight = self._flights[ident] = asyncio.ensure_future(state)
            flight.add_done_callback(lambda _: self._flights.pop(ident, None))
        return self._made(ident, spec, await asyncio.shield(flight))

    def _made(self, ident: str, spec: FieldSpec, state: Any) -> Obj | None:
        if state is None:
            return None
        if isinstance(state, Obj):  # the field gives an object that exists already (node, loadXFromID)
            return state
        return self._keep(Obj(spec.type, state, ident))


async def _call(engine: Engine, resolver: Resolver, obj: Obj, given: dict[str, Any]) -> Any:
    value = resolver.call(engine, obj if resolver.whole else obj.state, **given)
    return await value if isinstance(value, Awaitable) else value


def _recipe(parent: str, name: str, literal: object) -> str:
    text = json.dumps([parent, name, literal], separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class _ManyError(Exception):
    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def _operation(document: Document) -> Operation:
    if len(document.operations) != 1 or document.operations[0].kind != "query":
        raise RequestError("a request must hold exactly one query")
    return document.operations[0]


class _Walk:
    """One request's way through its selections."""

    def __init__(self, executor: Executor, variables: dict[str, Any], fragments: dict[str, Fragment]) -> None:
        self.executor, self.variables, self.fragments = executor, variables, fragments

    async def select(self, obj: Obj, selections: list[Any], path: tuple[str | int, ...]) -> dict[str, Any]:
        """Answer a selection on an object. A chain is followed in a loop, as it may be longer than the stack is deep."""
        trail = list(path)
        while True:
            fields = self._collect(obj, selections, 0)
            if len(fields) != 1:
                answer: Any = await self._siblings(obj, fields, tuple(trail))
                break
            (node,) = fields
            trail.append(node.key)
            answer = await self._field(obj, node, trail)
            if not isinstance(answer, Obj):
                answer = await self._listed(answer, node, tuple(trail))
                break
            obj, selections = answer, node.selections
        for key in reversed(trail[len(path) :]):
            answer = {key: answer}
        return cast("dict[str, Any]", answer)

    async def _siblings(self, obj: Obj, fields: list[Selected], path: tuple[str | int, ...]) -> dict[str, Any]:
        """Answer several fields of one object side by side; all their errors are told."""
        results = await asyncio.gather(*(self._whole(obj, node, [*path, node.key]) for node in fields), return_exceptions=True)
        errors: list[FieldError] = []
        for result in results:
            if isinstance(result, _ManyError):
                errors += result.errors
            elif isinstance(result, FieldError):
                errors.append(result)
            elif isinstance(result, BaseException):
                raise result
        if errors:
            raise _ManyError(errors)
        return {node.key: result for node, result in zip(fields, results, strict=True)}

    async def _whole(self, obj: Obj, node: Selected, trail: list[str | int]) -> Any:
        value = await self._field(obj, node, trail)
        if isinstance(value, Obj):
            return await self.select(value, node.selections, tuple(trail))
        return await self._listed(value, node, tuple(trail))

    async def _listed(self, value: Any, node: Selected, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], Obj):
            return list(await asyncio.gather(*(self.select(v, node.selections, (*path, n)) for n, v in enumerate(value))))
        return value

    def _collect(self, obj: Obj, selections: list[Any], depth: int) -> list[Selected]:
        """Give the fields that are selected of an object, fragments resolved."""
        found: list[Selected] = []
        for node in selections:
            if node.directives and not self._included(node.directives):
                continue
            if isinstance(node, Selected):
                found.append(node)
                continue
            fragment = self.fragments.get(node.spread) if node.spread else node
            if fragment is None or depth > 20:
                raise RequestError(f"unknown or recursive fragment {node.spread!r}")
            if not fragment.condition or fragment.condition == obj.type or schema.is_a(obj.type, fragment.condition):
                found += self._collect(obj, fragment.selections, depth + 1)
        return found

    def _included(self, directives: list[tuple[str, dict[str, Any]]]) -> bool:
        for name, arguments in directives:
            condition = bool(self._value(arguments.get("if", False)))
            if (name == "skip" and condition) or (name == "include" and not condition):
                return False
        return True

    async def _field(self, obj: Obj, node: Selected, trail: list[str | int]) -> Any:
        if node.name == "id":
            return obj.id
        if node.name == "__typename":
            return obj.type
        try:
            spec = self.executor.fields.get(obj.type, {}).get(node.name)
            if spec is None:
                raise RequestError(f'Cannot query field "{node.name}" on type "{obj.type}".')
            args, literal = self._arguments(spec, node)
            return await self.executor.resolve(obj, spec, node.name, args, literal)
        except (FieldError, _ManyError):
            raise
        except Exception as e:
            cause = disk.understood(e, f"answer {obj.type}.{node.name}")
            if not isinstance(cause, PocketError):
                self.executor.engine.log_bug(e)
            self.executor.hold(cause)
            raise FieldError(cause, node, tuple(trail)) from e

    def _arguments(self, spec: FieldSpec, node: Selected) -> tuple[dict[str, Any], object]:
        """Give the arguments as Python values (IDs as objects, defaults filled in) and as the recipe sees them."""
        given = {name: self._value(value) for name, value in node.arguments.items()}
        unknown = given.keys() - spec.args.keys()
        if unknown:
            raise RequestError(f'Unknown argument "{min(unknown)}" on field "{node.name}".')
        args = {}
        for name, arg in spec.args.items():
            value = given.get(name)
            value = arg.default if value is None else value  # SDKs leave out what they mean by null
            if value is None and arg.required:
                what = f'Field "{node.name}" argument "{name}" of type "{arg.type}"'
                raise RequestError(f"{what} is required, but it was not provided.")
            args[name] = coerce(arg, value, self.executor.load)
        return args, given

    def _value(self, value: Any) -> Any:
        """Put the variables' values in."""
        if isinstance(value, Variable):
            return self.variables.get(value.name)
        if isinstance(value, list):
            return [self._value(v) for v in value]
        if isinstance(value, dict):
            return {k: self._value(v) for k, v in value.items()}
        return value


def register(
    registry: dict[tuple[str, str], Resolver], type_: str, name: str, *, whole: bool = False, pure: bool = True
) -> Callable[[F], F]:
    """Make the decorator that enters a function into the registry; parameters are the arguments in snake case."""

    def enter(call: F) -> F:
        code = cast("FunctionType", call).__code__  # inspect.signature would take longer than all else at start
        parameters = code.co_varnames[2 : code.co_argcount + code.co_kwonlyargcount]
        spec = schema.fields()[type_][name]
        names = {arg: _snake(arg) for arg in spec.args if _snake(arg) in parameters}
        registry[type_, name] = Resolver(call, names, whole, pure)
        return call

    return enter


def _snake(name: str) -> str:
    out = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return {"from": "from_", "import": "import_", "with": "with_"}.get(out, out)
