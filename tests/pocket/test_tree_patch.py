"""Patches: what git applies is applied, whatever the patch does to a file; what does not fit changes nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import OWN_TIER

from pocket.errors import TreeError
from pocket.store import Entry, Snapshot, Store
from pocket.tree.patch import apply_patch
from pocket.tree.view import View

FILES = {"f": b"one\ntwo\nthree\n", "sub/g": b"g\n", "gone": b"bye\n", "run.sh": b"#!/bin/sh\n"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "cache", tier=OWN_TIER)
    yield opened
    opened.close()


@pytest.fixture
def base(store: Store) -> Snapshot:
    b = store.layer_builder()
    for name, data in FILES.items():
        b.write(name, data, Entry("f", 0o755 if name == "run.sh" else 0o644))
    b.symlink("l", "f")
    return Snapshot((b.finish(),), "base")


def made_by_git(place: Path) -> str:
    """Change the files in every way in a real repository, and give the difference that git tells."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-C", str(place)]
    place.mkdir()
    for name, data in FILES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(data)
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (place / "f").write_bytes(b"zero\none\nthree\nno newline")
    (place / "gone").unlink()
    (place / "sub/g").rename(place / "moved")
    (place / "new/deep").mkdir(parents=True)
    (place / "new/deep/file with space").write_bytes("é\n".encode())
    (place / "binary").write_bytes(bytes(range(256)))
    subprocess.run([*git, "add", "-A"], check=True)
    return subprocess.run([*git, "diff", "--cached", "--binary", "-M"], check=True, capture_output=True, text=True).stdout


def contents(view: View) -> dict[str, bytes]:
    """Give all files."""
    return {n.path: view.read(n) for n in view.walk("") if n.entry.kind == "f"}


def test_what_git_tells_is_applied(store: Store, base: Snapshot, tmp_path: Path) -> None:
    text = made_by_git(tmp_path / "repository")
    layers = apply_patch(store, base, text)
    found = contents(View(Snapshot((*base.layers, *layers), "patched")))
    assert found == {
        "f": b"zero\none\nthree\nno newline", "moved": b"g\n", "run.sh": FILES["run.sh"], "binary": bytes(range(256)),
        "new/deep/file with space": "é\n".encode(),
    }  # fmt: skip


def test_modes_stay_and_can_be_changed(store: Store, base: Snapshot) -> None:
    edit = "--- a/run.sh\n+++ b/run.sh\n@@ -1 +1,2 @@\n #!/bin/sh\n+echo\n"
    mode = "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n"
    view = View(Snapshot((*base.layers, *apply_patch(store, base, edit)), "x"))
    assert view.need("run.sh").entry.mode == 0o755
    view = View(Snapshot((*base.layers, *apply_patch(store, base, mode)), "x"))
    assert view.need("f").entry.mode == 0o755


def test_a_patch_that_changes_nothing_makes_no_layer(store: Store, base: Snapshot) -> None:
    assert apply_patch(store, base, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+two\n three\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-other\n+new\n",
        "--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n",
        "--- a/../../outside\n+++ b/../../outside\n@@ -0,0 +1 @@\n+x\n",
    ],
)
def test_what_does_not_fit_is_refused(store: Store, base: Snapshot, text: str, tmp_path: Path) -> None:
    with pytest.raises(TreeError):
        apply_patch(store, base, text)
    assert not list(tmp_path.rglob("outside"))
