"""Patterns as BuildKit and git read them."""

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.errors import TreeError
from pocket.tree.patterns import Decision, Gitignore, Patterns, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.py", ["a.py", ".py"], ["a/b.py", "a.pyc"]),
        ("**/*.py", ["a.py", "a/b.py", ".h/x/y.py"], ["a.pyc"]),
        ("**", ["a", "a/b", ".x"], []),
        ("sub/*", ["sub/a", "sub/deep"], ["sub/deep/a", "sub"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["az", "a/bz"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a]x", ["bx"], ["ax"]),
        ("[]]x", ["]x"], ["x"]),
        ("a\\*b", ["a*b"], ["axb"]),
        ("a.b+(c)", ["a.b+(c)"], ["aXb+(c)"]),
    ],
)
def test_one_pattern(pattern: str, yes: list[str], no: list[str]) -> None:
    found = compile_pattern(pattern).fullmatch
    assert [p for p in yes if not found(p)] == []
    assert [p for p in no if found(p)] == []


@pytest.mark.parametrize("pattern", ["[a", "a[", "[z-a]"])
def test_a_broken_class_is_a_syntax_error(pattern: str) -> None:
    with pytest.raises(TreeError, match="syntax error in pattern"):
        compile_pattern(pattern)


def keep(patterns: Patterns, path: str) -> bool:
    """Judge a path from the top, as a walk does."""
    choice = Decision(keep=False, descend=True, state=patterns.start)
    parts = path.split("/")
    for n in range(1, len(parts) + 1):
        if not choice.descend:
            return False
        choice = patterns.decide("/".join(parts[:n]), choice.state)
    return choice.keep


@pytest.mark.parametrize(
    ("include", "exclude", "yes", "no"),
    [
        ([], ["drop"], ["a", "drops"], ["drop", "drop/x/y"]),
        (["n"], [], ["n", "n/a/b"], ["m", "nn"]),
        (["**/*.py"], ["drop"], ["a.py", "x/a.py"], ["drop/a.py", "a.txt"]),
        ([], ["*", "!keep"], ["keep", "keep/a"], ["a", "b/keep"]),
        ([], ["a", "!a/b", "a/b/c"], ["a/b", "a/b/d"], ["a", "a/x", "a/b/c", "a/b/c/d"]),
        ([], ["/abs", "../up", "..", ""], ["abs", "up"], []),
        ([], [" ./x/ "], ["y"], ["x"]),
        (["."], [], ["a", "b/c"], []),
        ([], ["#x"], ["x"], ["#x"]),
    ],
)
def test_includes_and_excludes(include: list[str], exclude: list[str], yes: list[str], no: list[str]) -> None:
    patterns = Patterns(include, exclude)
    assert [p for p in yes if not keep(patterns, p)] == []
    assert [p for p in no if keep(patterns, p)] == []


def test_a_lone_exclamation_mark_is_refused() -> None:
    with pytest.raises(TreeError, match="illegal exclusion pattern"):
        Patterns(exclude=["!"])


@given(st.text(st.sampled_from("ab/*?[]!^-\\. é\n"), max_size=12))
def test_any_pattern_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TreeError):
        patterns = Patterns([text], [text])
        patterns.decide("a/b", patterns.start)


LINES = ["*.log", "!keep.log", "/top", "top/", "a/b", "/a/", "**/c", "c/**", "a/**/d", "#", "!a", "\\#x", "x?", "[ab].log"]
LINES += ["**/a/*", "*.l[!o]g", "d/", "!d/a", "*", "trail ", "trail\\ "]
RULES = st.lists(st.sampled_from(LINES), max_size=5)
FILES = ["keep.log", "top/x", "a/b/c", "a/x/d", "c/y", "x1", "a.log", "d/a/b.log", "a/keep.log", "d/a/c", "b.lag", "#x", "trail", "trail "]


@given(RULES, RULES)
def test_gitignore_agrees_with_git(tmp_path_factory: pytest.TempPathFactory, root: list[str], inner: list[str]) -> None:
    place = tmp_path_factory.getbasetemp() / "git"
    if not place.exists():
        subprocess.run(["git", "init", "-q", place], check=True)
        for name in FILES:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
    (place / ".gitignore").write_text("\n".join(root) + "\n")
    (place / "a/.gitignore").write_text("\n".join(inner) + "\n")
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    rules = Gitignore(lambda d: (place / d / ".gitignore").read_text() if (place / d / ".gitignore").exists() else None)
    assert sorted(f for f in FILES if not _hidden(rules, f)) == sorted(f for f in listed if f and not f.endswith(".gitignore"))


def _hidden(rules: Gitignore, path: str) -> bool:
    parts = path.split("/")
    return any(rules.ignored("/".join(parts[:n]), is_dir=n < len(parts)) for n in range(1, len(parts) + 1))


def test_no_gitignore_hides_nothing() -> None:
    assert not Gitignore(lambda _: None).ignored("a/b", is_dir=False)
