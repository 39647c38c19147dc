"""Branches: age, distance, merged since when; advice for a run; and removal after a notice, of merged ones alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipelines import CONFIG, Pipeline

from ci.branches import DAY, HOUR, advice, age, branches, notice, remove
from ci.config.load import load
from ci.config.model import PolicyConfig
from ci.errors import InfraError
from ci.facts import Facts

ROOT = Path(__file__).resolve().parents[2]
NOW = int(time.time())


def git(root: Path, *arguments: str, days_ago: float = 0) -> str:
    when = f"{NOW - int(days_ago * DAY)} +0000"
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost", "-c", "init.defaultBranch=main")
    environment = {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    return subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


def commit(root: Path, days_ago: float) -> None:
    git(root, "commit", "--quiet", "--allow-empty", "--message=work", days_ago=days_ago)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a main branch with one branch merged 10 days ago, one merged yesterday, a stale one and a fresh one."""
    root = Pipeline.at(tmp_path).root
    git(root, "init", "--quiet")
    git(root, "config", "user.name", "Somebody")
    git(root, "config", "user.email", "somebody@localhost")
    git(root, "add", "--all")
    commit(root, 30)
    for name, began, merged in (("old/merged", 20.0, 10.0), ("new/merged", 5.0, 1.0)):
        git(root, "checkout", "--quiet", "-b", name)
        commit(root, began)
        git(root, "checkout", "--quiet", "main")
        git(root, "merge", "--quiet", "--no-ff", "--no-edit", name, days_ago=merged)
    for name, start, began in (("stale", "main~1", 9), ("fresh", "main", 0.5)):
        git(root, "checkout", "--quiet", "-b", name, start)
        commit(root, began)
    git(root, "checkout", "--quiet", "main")
    return root


def ci(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CACHE": str(root.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "ci", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_each_is_told_what_to_do(root: Path) -> None:
    found = {branch.name: branch for branch in branches(root, "main")}
    policy = PolicyConfig()
    assert set(found) == {"old/merged", "new/merged", "stale", "fresh"}
    assert found["old/merged"].advice(policy, NOW) == "merged 10 days ago: remove it"
    assert found["stale"].advice(policy, NOW) == "9 days old and 2 commits behind: rebase it and merge what is ready"
    assert [found[name].advice(policy, NOW) for name in ("new/merged", "fresh")] == ["", ""]
    assert (found["fresh"].ahead, found["fresh"].behind) == (1, 0)


def test_a_run_on_a_branch_is_advised_and_one_on_main_is_not(root: Path) -> None:
    policy = PolicyConfig()
    for name, said in (
        ("stale", ["stale is 9 days old and 2 commits behind: rebase it and merge what is ready"]),
        ("fresh", []),
        ("main", []),
    ):
        git(root, "checkout", "--quiet", name)
        assert advice(root, policy, Facts(branch=name, commit=git(root, "rev-parse", "HEAD"))) == said
    assert advice(root, policy, Facts(branch="stale", commit="")) == []
    assert advice(root, policy, Facts(branch="stale", commit=git(root, "rev-parse", "stale"), base_branch="nowhere")) == []


def test_removal_is_announced_first_and_done_when_the_notice_has_run_out(root: Path) -> None:
    assert "old/merged" in ci(root, "branches").stdout
    (root / "configs" / "pipeline.yaml").write_text(CONFIG + "policy: {notice_days: 1}\n")
    assert "announced: removed by the first --delete after 1 days" in ci(root, "branches", "--delete").stdout
    assert "stays until 1 days have passed" in ci(root, "branches", "--delete").stdout
    assert git(root, "branch", "--list", "old/merged")
    (root / "configs" / "pipeline.yaml").write_text(CONFIG + "policy: {notice_days: 0}\n")
    done = {entry["name"]: entry["done"] for entry in json.loads(ci(root, "branches", "--delete", "--json").stdout)}
    assert done["old/merged"].startswith("removed; back with: git branch old/merged ")
    assert {name: said for name, said in done.items() if name != "old/merged"} == {"new/merged": "", "stale": "", "fresh": ""}
    assert git(root, "branch", "--list", "old/merged") == ""


def test_a_branch_that_moves_on_has_no_notice_any_more_and_is_not_removed(root: Path) -> None:
    (branch,) = (branch for branch in branches(root, "main") if branch.name == "old/merged")
    notice(root, branch, NOW)
    git(root, "checkout", "--quiet", "old/merged")
    commit(root, 0)
    git(root, "checkout", "--quiet", "main")
    (moved,) = (branch for branch in branches(root, "main") if branch.name == "old/merged")
    assert (moved.noticed, moved.merged) == (0, 0)
    with pytest.raises(InfraError, match="git update-ref failed"):
        remove(root, branch)


def test_branches_of_a_remote_are_removed_there(root: Path, tmp_path: Path) -> None:
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--bare", str(root), str(remote))
    git(tmp_path, "clone", "--quiet", str(remote), str(clone))
    found = {branch.name: branch for branch in branches(clone, "main", remote="origin")}
    assert set(found) == {"old/merged", "new/merged", "stale", "fresh"}
    notice(clone, found["old/merged"], NOW - 9 * DAY)
    (again,) = (branch for branch in branches(clone, "main", remote="origin") if branch.name == "old/merged")
    assert again.may_go(PolicyConfig(), NOW)
    remove(clone, again, remote="origin")
    assert "old/merged" not in git(remote, "branch", "--list")


def test_what_is_checked_out_elsewhere_is_left_alone_and_a_lonely_main_is_said(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", str(tmp_path / "other"), "old/merged")
    assert "old/merged" not in {branch.name for branch in branches(root, "main")}
    for name in ("new/merged", "stale", "fresh"):
        git(root, "branch", "--quiet", "-D", name)
    assert ci(root, "branches").stdout == "no branch besides main\n"
    assert (age(47 * HOUR), age(49 * HOUR)) == ("47 h", "2 days")
    assert load(root / "configs" / "pipeline.yaml").policy.merged_days == 7
