"""What `pocket doctor` finds out, in a process of its own: probes fork, and a test process has threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_box import ROOT, tiers, why_not

from pocket.sandbox.limits import Limits

CODE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from pocket.sandbox.probe import run_all
print(json.dumps([asdict(p) for p in run_all(Path(sys.argv[1]))]))
"""


def probes(cache: Path | str, tier: str = "") -> dict[str, dict[str, str]]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "POCKET_TIER": tier}
    done = subprocess.run([sys.executable, "-c", CODE, str(cache)], env=env, capture_output=True, text=True, check=True)
    return {p["name"]: p for p in json.loads(done.stdout)}


@pytest.mark.parametrize("tier", [t for t in tiers() if t != "nobody"])
def test_this_machine_can_run_containers_and_nothing_is_left(tier: str, tmp_path: Path) -> None:
    if reason := why_not(tier):
        pytest.skip(reason)
    found = probes(tmp_path / "cache", "" if tier == "own" else tier)
    assert [p["name"] for p in found.values() if p["status"] == "fail"] == []
    assert list(found) == ["kernel", "tier", "cache", "command", "services", "limits", "gpu"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_which_variable_to_set() -> None:
    found = probes("/proc/cache")
    assert found["cache"]["status"] == "fail"
    assert "POCKET_CACHE" in found["cache"]["fix"]


def test_a_tier_that_cannot_be_had_is_the_only_complaint(tmp_path: Path) -> None:
    found = probes(tmp_path, "nonsense")
    assert [(p["name"], p["status"]) for p in found.values()] == [("kernel", "ok"), ("tier", "fail")]
    assert "use one of" in found["tier"]["fix"]


def provoked(script: str, place: Path) -> dict[str, dict[str, str]]:
    """Give what doctor finds for nobody, in surroundings that root makes; $DOCTOR, as nobody, ends the script, $PLACE is nobody's."""
    if "nobody" not in tiers():
        pytest.skip("only root can make the surroundings")
    if reason := why_not("nobody"):
        pytest.skip(reason)
    place.chmod(0o777)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PLACE": str(place), "CODE": CODE}
    env["DOCTOR"] = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    done = subprocess.run(["unshare", "--mount", "sh", "-euc", script], env=env, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return {p["name"]: p for p in json.loads(done.stdout)}


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory that everybody can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/var/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_no_range_of_ids_says_which_to_add(place: Path) -> None:
    script = (
        'for f in subuid subgid; do : > "$PLACE/none"; mount --bind "$PLACE/none" /etc/$f; done; '
        '$DOCTOR /usr/bin/python3 -c "$CODE" "$PLACE/c"'
    )
    tier = provoked(script, place)["tier"]
    assert tier["status"] == "info"
    assert "no subordinate ids for nobody in /etc/subuid and /etc/subgid" in tier["detail"]
    assert "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 nobody" in tier["fix"]


def test_a_range_without_the_program_for_it_names_the_package(place: Path) -> None:
    tier = provoked('$DOCTOR env PATH="$PLACE" /usr/bin/python3 -c "$CODE" "$PLACE/c"', place)["tier"]
    assert "newuidmap is not in PATH" in tier["detail"]
    assert "apt install uidmap" in tier["fix"]


def test_a_program_that_may_not_say_so_is_told(place: Path) -> None:
    """A newuidmap without its privilege, as in a container that forbids new ones."""
    script = (
        'echo nobody:20000000:65536 > "$PLACE/ids"; for f in subuid subgid; do mount --bind "$PLACE/ids" /etc/$f; done; '
        '$DOCTOR --no-new-privs /usr/bin/python3 -c "$CODE" "$PLACE/c"'
    )
    found = provoked(script, place)
    assert "newuidmap failed" in found["tier"]["detail"]
    assert "setuid root" in found["tier"]["fix"]
    assert found["command"]["status"] == "ok"  # with one id, as said


def test_no_user_namespace_is_left_to_have(place: Path) -> None:
    script = (
        '$DOCTOR unshare --user --map-root-user sh -c "echo 0 > /proc/sys/user/max_user_namespaces; '
        "POCKET_TIER=single-uid exec /usr/bin/python3 -c '$CODE' $PLACE/c\""
    )
    found = provoked(script, place)
    assert list(found) == ["kernel", "tier"]
    assert found["tier"]["status"] == "fail"
    assert "user.max_user_namespaces is reached" in found["tier"]["detail"]
    assert "sysctl -w user.max_user_namespaces=" in found["tier"]["fix"]


def test_a_cache_on_an_overlay_is_refused_and_the_advice_helps(place: Path) -> None:
    mounted = (
        'cd "$PLACE"; mkdir l u w m; mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m; chmod 777 m; '
        '$DOCTOR env POCKET_TIER=single-uid /usr/bin/python3 -c "$CODE" "{}"'
    )
    found = provoked(mounted.format("$PLACE/m/c"), place)
    assert found["cache"]["status"] == "fail"
    assert "an overlay (a container's own root)" in found["cache"]["detail"]
    assert "such as /dev/shm" in found["cache"]["fix"]
    assert found["tier"]["fix"] == "for real owners: unset POCKET_TIER"


def test_a_tmpfs_will_do_for_a_cache(place: Path) -> None:
    found = provoked('mount -t tmpfs -o size=64m,mode=1777 t "$PLACE"; $DOCTOR /usr/bin/python3 -c "$CODE" "$PLACE/c"', place)
    assert found["cache"]["status"] == "warn"  # works, but there is little room
    assert "overlayfs works, but only" in found["cache"]["detail"]
    assert found["command"]["status"] == "ok"


def grouped(place: Path, groups: dict[str, dict[str, str]], own: str) -> Limits:
    """Read the limits of a process in a group, with some files in each group's directory."""
    for group, files in groups.items():
        (place / "groups" / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / "groups" / group / name).write_text(text)
    (place / "membership").write_text(own)
    return Limits.read(place / "groups", place / "membership")


def test_the_tightest_limit_of_all_groups_counts(tmp_path: Path) -> None:
    groups = {
        ".": {"cgroup.controllers": "memory pids"}, "a": {"memory.max": "1073741824\n", "pids.max": "100\n"},
        "a/b": {"memory.max": "536870912\n", "pids.max": "max\n"}, "other": {"memory.max": "1\n"},
    }  # fmt: skip
    limits = grouped(tmp_path, groups, "0::/a/b\n")
    assert limits == Limits(unified=True, memory=512 << 20, tasks=100)
    assert limits.describe() == "at most 0.5 GiB of memory, at most 100 processes"
    assert "MemoryMax=" in limits.advice()
    assert "TasksMax=" in limits.advice()


def test_without_control_groups_memory_is_not_known(tmp_path: Path) -> None:
    for limits in (
        grouped(tmp_path, {"memory": {}}, "3:memory:/x\n"),
        grouped(tmp_path, {}, "0::/\n"),
        Limits.read(tmp_path, tmp_path / "none"),
    ):
        assert not limits.unified
        assert limits.memory is None
        assert "no control groups of version 2" in limits.describe()
    assert not Limits(unified=True, memory=4 << 30, tasks=None).advice()
