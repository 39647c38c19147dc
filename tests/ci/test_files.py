import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.files import Digests, digest_of, matches

FILES = ("src/a.py", "src/deep/b.py", "src/deep/c.txt", "evals/x.jsonl", "evals/images/1.png", "top.toml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("patterns", "exclude", "expected"),
    [
        (("src",), (), ["src/a.py", "src/deep/b.py", "src/deep/c.txt"]),
        (("src/",), (), ["src/a.py", "src/deep/b.py", "src/deep/c.txt"]),
        (("src/*.py",), (), ["src/a.py"]),
        (("src/**/*.py",), (), ["src/a.py", "src/deep/b.py"]),
        (("**/*.py", "top.toml"), (), ["src/a.py", "src/deep/b.py", "top.toml"]),
        (("src", "src/a.py"), ("src/deep",), ["src/a.py"]),
        (("src",), ("**/*.txt",), ["src/a.py", "src/deep/b.py"]),
        (("evals/i*",), (), ["evals/images/1.png"]),
        (("evals/images/[0-9].png",), (), ["evals/images/1.png"]),
        (("evals/images/[!0-9].png",), (), []),
        (("src/?.py",), (), ["src/a.py"]),
        (("nowhere", "no*where"), (), []),
        ((".",), ("src", "evals"), ["top.toml"]),
    ],
)
def test_patterns(root: Path, patterns: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]) -> None:
    assert list(Digests(root, None).of(patterns, exclude)) == expected


def test_what_tools_leave_behind_never_counts(root: Path) -> None:
    for name in ("src/__pycache__/a.pyc", ".git/HEAD", ".coverage", "src/x.egg-info/PKG", ".weighbridge/runs/1", "src/a.py~"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert list(Digests(root, None).of(["."])) == sorted(FILES)


def test_content_executable_bit_and_link_target_count_and_times_do_not(root: Path) -> None:
    digests = Digests(root, None)
    before = digests.of(["."])
    os.utime(root / "src/a.py", (1, 1))
    assert digests.of(["."]) == before
    (root / "src/a.py").chmod(0o755)
    (root / "src/deep/b.py").write_text("changed")
    (root / "link").symlink_to("src")
    after = digests.of(["."])
    assert {name for name in after if after[name] != before.get(name)} == {"src/a.py", "src/deep/b.py", "link"}


def test_known_files_are_not_read_again(root: Path, tmp_path: Path) -> None:
    """A file whose content can no longer be read proves that nobody tried."""
    kept = tmp_path / "stat.json"
    os.utime(root / "top.toml", (1, 1))
    first = Digests(root, kept)
    expected = first.of(["top.toml"])
    first._known = {name: (*entry[:5], entry[5] + 10**9) for name, entry in first._known.items()}  # as if read a second later
    first.save()
    second = Digests(root, kept)
    seen = os.lstat(root / "top.toml")
    assert second.of(["top.toml"]) == expected
    assert not second._changed, seen


def test_a_file_changed_right_after_it_was_read_is_read_again(root: Path, tmp_path: Path) -> None:
    """Same size, same times, same inode: only that it was read too soon after its last change gives it away."""
    kept = tmp_path / "stat.json"
    path = root / "top.toml"
    first = Digests(root, kept)
    before = first.of(["top.toml"])
    first.save()
    path.write_text("TOP.toml")
    again = Digests(root, kept)
    seen = os.lstat(path)
    again._known["top.toml"] = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, before["top.toml"], seen.st_ctime_ns)
    assert again.of(["top.toml"]) != before


def test_a_damaged_or_unwritable_cache_costs_nothing_but_time(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "stat.json"
    kept.write_text("[1, 2")
    assert len(Digests(root, kept).of(["src"])) == 3
    (tmp_path / "file").write_text("")
    digests = Digests(root, tmp_path / "file" / "stat.json")
    digests.of(["src"])
    digests.save()


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_the_order_of_a_mapping_does_not_change_its_digest(value: dict[str, object]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("docs", {"docs", "docs/a.md", "docs/more/b.md"}),
        ("./docs/", {"docs", "docs/a.md", "docs/more/b.md"}),
        ("docs/a.md", {"docs/a.md"}),
        ("docs/*.md", {"docs/a.md"}),
        ("**/*.md", {"docs/a.md", "docs/more/b.md", "README.md"}),
        (".", {"docs", "docs/a.md", "docs/more/b.md", "README.md", "documents"}),
        ("/", set()),
    ],
)
def test_plain_paths_and_patterns_match_alike(pattern: str, names: set[str]) -> None:
    every = ("docs", "docs/a.md", "docs/more/b.md", "README.md", "documents")
    assert {name for name in every if matches(name, (pattern,))} == names
    assert {name for name in every if matches(name, ("nothing", "no*", pattern))} == names
    assert not matches("docs", ())


def test_named_files_that_are_gone_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("nowhere")
    digests = Digests(tmp_path, None)
    assert set(digests.named(["a", "link", "gone", "a/below"])) == {"a", "link"}
