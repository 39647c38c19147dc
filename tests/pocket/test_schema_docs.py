"""The table of supported fields in the documentation, and how the SDK is read for it."""

from pathlib import Path

import pytest

from tools.schema_docs import DocsError, read_differences, render
from tools.sdk_model import Api, Enumerator, Ref, SdkShapeError, read_sdk

SUPPORTED = {("Query", "container"), ("Query", "loadFileFromID"), ("Container", "withExec"), ("Container", "stdout")}


@pytest.fixture(scope="module")
def api() -> Api:
    return read_sdk()


def test_every_field_has_its_state(api: Api) -> None:
    text = render(api, SUPPORTED, {("Container", "withExec"): "keys count content"})
    assert "| `stdout` |  | `String!` | supported |" in text
    assert "| `stderr` |  | `String!` | unsupported |" in text
    assert "`noInit` | `Container!` | differs: keys count content |" in text
    assert "| `id` |  | `ID!` | supported |" in text
    for type_name, fields in api.objects.items():
        assert type_name in text
        assert all(f"`{f.name}`" in text for f in fields if not f.name.startswith("load"))


def test_numbers_add_up(api: Api) -> None:
    line = next(line for line in render(api, SUPPORTED, {}).splitlines() if line.startswith("Of "))
    total, *parts = [int(word) for word in line.replace(":", "").split() if word.isdigit()]
    assert total == sum(parts) == sum(map(len, api.objects.values()))


def test_loaders_are_told_in_one_row_per_state(api: Api) -> None:
    rows = [line for line in render(api, SUPPORTED, {}).splitlines() if "FromID" in line]
    assert [row.rsplit("|", 2)[1].strip() for row in rows] == ["supported", "unsupported"]
    assert rows[0].split("|")[3].strip() == "File"


def test_a_difference_must_be_of_a_supported_field(api: Api) -> None:
    with pytest.raises(DocsError, match=r"Container\.publish"):
        render(api, SUPPORTED, {("Container", "publish"): "…"})


def test_differences_are_read_by_field(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    assert read_differences(path) == {}
    path.write_text('"Container.withExec" = "text"\n')
    assert read_differences(path) == {("Container", "withExec"): "text"}


def test_the_differences_that_are_kept_name_fields(api: Api) -> None:
    for type_name, field in read_differences():
        assert field in {f.name for f in api.objects[type_name]}


GENERATED = """
class Kind(Enum):
    ONE = "ONE"
    UNO = "ONE"

@typecheck
class Box(Type):
    async def size(self) -> int | None:
        _args: list[Arg] = []
        _ctx = self._select("size", _args)
        return await _ctx.execute(int | None)

    def join(self, others: "list[Box] | None" = None, kind: Kind | None = Kind.ONE) -> "Box":
        _args = [Arg("others", [] if others is None else others, []), Arg("kind", kind, Kind.ONE)]
        _ctx = self._select("join", _args)
        return Box(_ctx)

    def with_(self, cb: Callable[["Box"], "Box"]) -> "Box":
        return cb(self)
"""


def test_a_client_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.sdk_model.NULLABLE_FIELDS", {})
    monkeypatch.setattr("tools.sdk_model.DEPRECATED_ARGS", set())
    source = tmp_path / "gen.py"
    source.write_text(GENERATED)
    api = read_sdk(source)
    join, size = api.objects["Box"]
    assert size.ref == Ref(name="Int", nullable=True)
    assert [(a.name, a.ref.sdl(), a.ref.id_of, a.default) for a in join.args] == [
        ("others", "[ID!]", "Box", ()),
        ("kind", "Kind", None, Enumerator(name="ONE")),
    ]
    assert api.enums == {"Kind": {"ONE": "ONE", "UNO": "ONE"}}


def test_a_correction_that_fits_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.sdk_model.NULLABLE_FIELDS", {"Box": {"weight"}})
    source = tmp_path / "gen.py"
    source.write_text(GENERATED)
    with pytest.raises(SdkShapeError, match="weight"):
        read_sdk(source)


def test_a_shape_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "gen.py"
    source.write_text(GENERATED.replace('Arg("kind", kind', 'Arg("kind", str(kind)'))
    with pytest.raises(SdkShapeError, match=r"Box\.join"):
        read_sdk(source)
