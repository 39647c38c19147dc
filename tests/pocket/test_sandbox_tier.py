"""Which privileges the engine takes, and what it says when the machine refuses them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_box import ROOT, tiers, why_not

from pocket.sandbox import SandboxError, Tier, enter_tier
from pocket.sandbox import tier as module

ENTER = """
import sys
from pathlib import Path
from pocket.sandbox import SandboxError, enter_tier
try:
    tier = enter_tier()
except SandboxError as error:
    print("refused", error.message, error.hint, sep="|")
else:
    print(tier.name, tier.ids, Path("/proc/self/setgroups").read_text().strip(), tier.userxattr, tier.note, sep="|")
"""


def enter(*prefix: str, user: str | None = None, **env: str) -> list[str]:
    """Enter the tier in a process of its own and give what it says."""
    python = sys.executable if user is None else "/usr/bin/python3"
    done = subprocess.run(
        [*prefix, python, "-c", ENTER], env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}, user=user, cwd="/",
        group=None if user is None else "nogroup", extra_groups=None if user is None else [], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().split("|")


@pytest.fixture
def real_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs real root")


@pytest.fixture
def nobody() -> str:
    if "nobody" not in tiers():
        pytest.skip("only root can become nobody")
    if reason := why_not("nobody"):
        pytest.skip(reason)
    return "nobody"


@pytest.mark.usefixtures("real_root")
def test_root_needs_no_user_namespace() -> None:
    assert enter()[:4] == ["root", "4294967295", "allow", "False"]


@pytest.mark.usefixtures("real_root")
def test_root_can_be_put_into_the_other_tiers() -> None:
    assert enter(POCKET_TIER="single-uid")[:4] == ["single-uid", "1", "deny", "True"]
    assert enter(POCKET_TIER="subuid")[:4] == ["subuid", "65537", "allow", "True"]


@pytest.mark.usefixtures("real_root")
def test_root_of_a_user_namespace_is_not_taken_for_root() -> None:
    name, ids, _, userxattr, note = enter("unshare", "--user", "--map-root-user")
    assert (name, ids, userxattr) == ("single-uid", "1", "True")
    assert "was there before" in note


def test_an_ordinary_user_gets_a_single_id(nobody: str) -> None:
    name, ids, setgroups, _, note = enter(user=nobody)
    assert (name, ids, setgroups) == ("single-uid", "1", "deny")
    assert "subuid" in note or "newuidmap" in note


def test_what_an_ordinary_user_cannot_have_is_refused(nobody: str) -> None:
    assert enter(user=nobody, POCKET_TIER="root")[:2] == ["refused", "the root tier needs root with CAP_SYS_ADMIN"]
    refused, message, hint = enter(user=nobody, POCKET_TIER="subuid")
    assert refused == "refused"
    assert message.startswith("the subuid tier cannot be used: ")
    assert "single id" in hint


def test_an_unknown_tier() -> None:
    with pytest.raises(SandboxError, match="'rooot', which is no tier") as caught:
        enter_tier("rooot")
    assert caught.value.hint == "use one of: root, subuid, single-uid"


def test_a_limit_of_no_user_namespaces_is_named(nobody: str) -> None:
    # The limit counts per user and namespace, so one set in a namespace of our own hurts nobody else.
    script = f"echo 0 > /proc/sys/user/max_user_namespaces && exec {{}} -c '{ENTER}'"
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", script.format("/usr/bin/python3")]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/bin:/usr/bin", "POCKET_TIER": "single-uid"}
    done = subprocess.run(
        argv, env=env, user=nobody, group="nogroup", extra_groups=[], cwd="/", capture_output=True, text=True, check=True
    )  # fmt: skip
    assert "user.max_user_namespaces is reached" in done.stdout
    assert "sysctl -w user.max_user_namespaces" in done.stdout


@pytest.mark.parametrize(
    ("settings", "number", "message"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, errno.EPERM, "kernel.unprivileged_userns_clone is 0"),
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, errno.EPERM, "AppArmor restricts them"),
        ({}, errno.EPERM, "this machine refuses user namespaces"),
        ({}, errno.EINVAL, "no user namespaces|single thread"),
    ],
)
def test_each_refusal_names_its_cause(
    settings: dict[str, str], number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    monkeypatch.setattr(module, "_SYSCTLS", tmp_path)
    error = module.userns_refused(OSError(number, os.strerror(number)))
    assert error.hint
    with pytest.raises(SandboxError, match=message):
        raise error


def test_a_process_with_threads_is_told_so() -> None:
    code = ENTER.replace("import sys\n", "import sys, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "POCKET_TIER": "single-uid"}, capture_output=True, text=True, check=True
    )
    assert "only be entered while the process has a single thread" in done.stdout


def test_subordinate_ids_are_found_by_name_and_number(tmp_path: Path) -> None:
    uid = os.geteuid()
    file = tmp_path / "subuid"
    file.write_text(f"# comment\nother:1:2\n{uid}:300000:65536\n")
    assert module.subordinate(file, uid) == (300000, 65536)
    file.write_text("other:1:2\nbroken:x\n")
    assert module.subordinate(file, uid) is None
    assert module.subordinate(tmp_path / "absent", uid) is None


def test_the_marks_of_overlayfs_depend_on_the_tier() -> None:
    assert not Tier(name="root", ids=2**32 - 1).userxattr
    assert Tier(name="subuid", ids=65537).userxattr
