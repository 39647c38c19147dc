import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.oci.reference import InvalidReference, Reference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.22", "docker.io/library/alpine:3.22"),
        ("o/n", "docker.io/o/n:latest"),
        ("index.docker.io/n", "docker.io/library/n:latest"),
        ("docker.io/n", "docker.io/library/n:latest"),
        ("ghcr.io/o/n:t", "ghcr.io/o/n:t"),
        ("localhost/n", "localhost/n:latest"),
        ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest"),
        ("127.0.0.1:1/none:latest", "127.0.0.1:1/none:latest"),
        ("[::1]:5000/n:t", "[::1]:5000/n:t"),
        ("Host/n", "Host/n:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        (f"alpine:3.22.1@{DIGEST}", f"docker.io/library/alpine:3.22.1@{DIGEST}"),
        ("a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g:latest"),
    ],
)
def test_names_are_normalised_as_docker_does(text: str, full: str) -> None:
    assert str(parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "Not A Ref!",
            ":t",
            "a:",
            "a:-t",
            "a:" + "t" * 129,
            "a//b",
            "/a",
            "a/",
            "A",
            "o/N",
            "a@",
            "a@sha256:123",
            "a@sha512:" + "a" * 128,
        ),
        *(
            "a@sha256:" + "A" * 64,
            "http://a/b",
            "-a.io/b",
            "a..b",
            "a___b",
            "a/../b",
            "a\n",
            "x.io/" + "a" * 256,
            "[::g]:1/n",
            "a:b:c",
            "ü",
        ),
    ],
)
def test_everything_else_is_an_invalid_reference_format(text: str) -> None:
    with pytest.raises(InvalidReference, match="invalid reference format") as e:
        parse(text)
    assert e.value.hint


def test_upper_case_names_are_told_apart() -> None:
    with pytest.raises(InvalidReference) as e:
        parse("ghcr.io/Org/n")
    assert "must be lowercase" in e.value.hint


def test_tag_and_digest_can_be_replaced() -> None:
    ref = parse("a:1")
    assert str(ref.with_digest(DIGEST)) == f"docker.io/library/a:1@{DIGEST}"
    assert str(ref.with_digest(DIGEST).with_tag("2")) == "docker.io/library/a:2"
    assert ref.with_digest(DIGEST).wanted == DIGEST
    assert parse("a", default_tag=None).tag is None
    assert parse("a", default_tag=None).wanted == "latest"
    with pytest.raises(InvalidReference):
        ref.with_tag("a/b")


@given(st.text(max_size=60) | st.from_regex(r"[a-z0-9.:/@_-]{1,60}", fullmatch=True))
def test_any_text_is_parsed_or_refused_and_what_is_parsed_is_stable(text: str) -> None:
    try:
        ref = parse(text)
    except InvalidReference:
        return
    assert parse(str(ref)) == ref == Reference(ref.registry, ref.repository, ref.tag, ref.digest)
    assert ".." not in ref.repository.split("/")
