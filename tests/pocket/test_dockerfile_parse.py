"""Dockerfiles as stages of instructions; every error has the line on which it is."""

import pytest

from pocket.dockerfile.parse import DockerfileError, ignore_patterns, parse, parse_trigger
from pocket.errors import PocketError


def test_stages_and_arguments_before_them() -> None:
    found = parse("ARG A=1\nARG B\nFROM one AS First\nRUN x\n\nFROM --platform=linux/amd64 two\nRUN y\n")
    assert [i.args for i in found.globals] == [("A=1",), ("B",)]
    assert [(s.index, s.base, s.name, s.platform, s.line) for s in found.stages] == [
        (0, "one", "first", "", 3),
        (1, "two", "", "linux/amd64", 6),
    ]
    assert found.find("").base == "two"
    assert found.find("FIRST").base == "one"
    assert found.find("0").base == "one"
    with pytest.raises(PocketError, match='"third" could not be found') as caught:
        found.find("third")
    assert "first, 1" in caught.value.hint


def test_options_and_forms() -> None:
    (stage,) = parse('FROM scratch\nCOPY --chown=1:2 --link --exclude=a --exclude=b x y\nCMD ["a", "b c"]\nCMD a  b\n').stages
    copy, argv, shell = stage.body
    assert copy.flag("chown") == "1:2"
    assert copy.flag("link") == "true"
    assert copy.flag("chmod", "none") == "none"
    assert copy.all_flags("exclude") == ["a", "b"]
    assert (argv.json, argv.args) == (True, ("a", "b c"))
    assert (shell.json, shell.args) == (False, ("a  b",))
    with pytest.raises(DockerfileError, match=r"line 2: unknown flag: link"):
        copy.refuse_flags("chown", "exclude")


def test_here_documents() -> None:
    text = "FROM scratch\nCOPY <<one <<'two' <<-three /d/\n$A\none\n$B\ntwo\n\t$C\nthree\n"
    docs = parse(text).stages[0].body[0].heredocs
    assert [(d.name, d.content, d.expand) for d in docs] == [("one", "$A\n", True), ("two", "$B\n", False), ("three", "$C\n", True)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, ""),
        ("# only a comment\n", 1, ""),
        ("RUN x\n", 1, "no build stage"),
        ("ARG A\nRUN x\nFROM y\n", 2, "no build stage"),
        ("FROM a\n\nBOGUS x\n", 3, "unknown instruction: BOGUS"),
        ("FROM a b c d\n", 1, "one or three arguments"),
        ("FROM a AS -bad-\n", 1, "invalid name"),
        ("FROM --bogus=1 a\n", 1, "unknown flag: bogus"),
        ("FROM a\nRUN true\nENV A\nRUN true\n", 3, ""),
        ("FROM a\nLABEL x=1 y\n", 2, "can't find ="),
    ],
)
def test_errors_have_their_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    assert f"on line {line}: " in str(caught.value)
    assert message in str(caught.value)


def test_triggers() -> None:
    (on_build,) = parse("FROM a\nONBUILD COPY x y\n").stages[0].body
    assert parse_trigger(on_build.args[0], 2).name == "COPY"
    for bad in ("FROM x", "ONBUILD RUN x", "MAINTAINER x"):
        with pytest.raises(DockerfileError, match="isn't allowed as an ONBUILD trigger"):
            parse_trigger(bad, 2)


def test_ignore_files_are_cleaned() -> None:
    text = "\ufeff# comment\n\n  a/b/  \n/rooted\n./x/../y\n!keep\n! spaced\n.\n/\n #not a comment\n"
    assert ignore_patterns(text) == ["a/b", "rooted", "y", "!keep", "!spaced", "#not a comment"]
