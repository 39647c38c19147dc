"""The table: types, nullability, defaults and what arguments' IDs stand for, against what the Dagger engine's own schema says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLInterfaceType, GraphQLList, GraphQLNonNull, GraphQLObjectType, build_schema, value_from_ast_untyped

from pocket import schema
from pocket.schema import ArgSpec


def test_the_table_says_what_the_sdl_says() -> None:
    built = build_schema(schema.sdl())
    seen = set()
    for name, kind in built.type_map.items():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not name.startswith("__"):
            seen.add(name)
            for field_name, field in kind.fields.items():
                spec = schema.fields()[name][field_name]
                element, is_list, nullable = unwrap(field.type)
                assert (spec.type, spec.list, spec.nullable) == (element, is_list, nullable)
                assert spec.deprecated == (field.deprecation_reason is not None)
                for arg_name, arg in field.args.items():
                    told = spec.args[arg_name]
                    element, is_list, nullable = unwrap(arg.type)
                    assert arg.ast_node is not None
                    literal = arg.ast_node.default_value
                    default = None if literal is None else value_from_ast_untyped(literal)
                    assert (told.type, told.list, told.default) == (element, is_list, default)
                    assert told.required == (not nullable and default is None)
    assert seen == set(schema.fields())


def unwrap(kind: Any) -> tuple[str, bool, bool]:
    nullable = not isinstance(kind, GraphQLNonNull)
    inner = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    is_list = isinstance(inner, GraphQLList)
    if is_list:
        assert isinstance(inner.of_type, GraphQLNonNull)
        inner = inner.of_type.of_type
    return str(inner), is_list, nullable


@pytest.mark.parametrize(
    ("type_name", "field", "arg", "expected"),
    [
        ("Container", "withExec", "args", ArgSpec("String", True, True, None, None)),
        ("Container", "withExec", "expect", ArgSpec("ReturnType", False, False, "SUCCESS", None)),
        ("Container", "withDirectory", "source", ArgSpec("ID", False, True, None, "Directory")),
        ("Container", "asTarball", "platformVariants", ArgSpec("ID", True, False, [], "Container")),
        ("Container", "withMountedSecret", "mode", ArgSpec("Int", False, False, 256, None)),
        ("Container", "withFiles", "sources", ArgSpec("ID", True, True, None, "File")),
        ("Container", "up", "ports", ArgSpec("PortForward", True, False, [], None)),
        ("Directory", "withNewDirectory", "permissions", ArgSpec("Int", False, False, 420, None)),
        ("Query", "git", "keepGitDir", ArgSpec("Boolean", False, False, True, None)),
        ("Query", "http", "checksum", ArgSpec("String", False, False, None, None)),
        ("Query", "node", "id", ArgSpec("ID", False, True, None, "Node")),
        ("Query", "loadFileFromID", "id", ArgSpec("FileID", False, True, None, "File")),
    ],
)  # fmt: skip
def test_an_argument_is_as_the_dagger_engine_has_it(type_name: str, field: str, arg: str, expected: ArgSpec) -> None:
    assert schema.fields()[type_name][field].args[arg] == expected


@pytest.mark.parametrize("name", ["Query.node", "Container.dockerHealthcheck", "Container.stat", "Directory.findUp", "Service.up"])
def test_what_may_be_null_is_known(name: str) -> None:
    type_name, _, field = name.partition(".")
    assert schema.fields()[type_name][field].nullable


def test_sync_gives_an_id_and_lists_are_lists() -> None:
    fields = schema.fields()["Container"]
    assert fields["sync"].type == "ID"
    assert (fields["envVariables"].type, fields["envVariables"].list) == ("EnvVariable", True)
    assert not fields["stdout"].list


def test_fragments_apply_by_interface() -> None:
    assert schema.is_a("Container", "Container")
    assert schema.is_a("Container", "Syncer")
    assert not schema.is_a("Secret", "Syncer")
    assert not schema.is_a("Container", "Directory")
    assert schema.possible_types("Exportable") == {"Changeset", "Container", "Directory", "File"}
    assert len(schema.possible_types("Node")) == len(schema.fields()) - 3  # every object, and not the interfaces themselves


def test_enum_aliases_stand_for_a_member() -> None:
    assert schema.enums()["ImageLayerCompression"]["GZIP"] == "Gzip"
    assert schema.enums()["FileType"]["DIRECTORY_TYPE"] == "DIRECTORY"


def test_the_table_loads_without_graphql_core() -> None:
    code = "import sys, pocket.schema as s; s.fields()['Container']; print({'graphql', 'dagger'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert out.stdout.strip() == "set()"


def test_the_files_are_what_the_generator_writes(repository: Path) -> None:
    done = subprocess.run([sys.executable, "tools/make_schema.py", "--check"], capture_output=True, text=True, cwd=repository, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
