"""Approvals: who, when and why, for one commit; kept as git notes, shown by the plan, and the condition of what a hotfix may push."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import CONFIG, Pipeline, commits, git, passing, stage

from ci.approvals import REF, Approval, approve, fetch, read, send, with_approvals
from ci.config.load import load
from ci.errors import InfraError, UsageError
from ci.facts import Facts
from ci.plan import make_plan, planned_stages
from ci.report import html
from ci.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
GIVEN = Approval(commit="1" * 40, by="Ana <ana@localhost>", when="2026-11-21T18:00:00Z", why="restores the service")
HOTFIX = Facts(commit="1" * 40, branch="hotfix/nan", approvals=(GIVEN,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a repository on a hotfix branch, with an identity."""
    root = Pipeline.at(tmp_path).root
    next(commits(root))
    git(root, "checkout", "--quiet", "-b", "hotfix/nan")
    git(root, "config", "user.name", "Ana")
    git(root, "config", "user.email", "ana@localhost")
    return root


def ci(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CACHE": str(root.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "ci", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def does(plan: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["do"] for entry in plan["stages"]}


def test_a_hotfix_is_pushed_once_its_commit_is_approved(root: Path) -> None:
    before = json.loads(ci(root, "plan", "--json").stdout)
    assert does(before)["push"] == "skip"
    said = ci(root, "approve", "--reason", "restores the\nservice")
    assert said.returncode == 0, said.stderr
    assert "approved by Ana <ana@localhost> on 20" in said.stdout
    assert f"git push origin {REF}" in said.stdout
    after = json.loads(ci(root, "plan", "--json").stdout)
    assert does(after) == {**dict.fromkeys(STAGES, "run"), "evaluate": "skip"}
    assert [given["why"] for given in after["approvals"]] == ["restores the service"]
    assert after["permits"]["push"] is True
    assert "approved by Ana" in ci(root, "plan").stdout
    assert json.loads(ci(root, "approve", "--list", "--json").stdout)[0]["by"] == "Ana <ana@localhost>"


def test_another_commit_is_not_approved(root: Path) -> None:
    approve(root, "HEAD", "this one")
    git(root, "commit", "--quiet", "--allow-empty", "--message=one more")
    assert does(json.loads(ci(root, "plan", "--json").stdout))["push"] == "skip"
    assert ci(root, "approve", "--list").stdout == "no approval\n"


def test_a_file_that_differs_from_the_approved_commit_counts(root: Path) -> None:
    approve(root, "HEAD", "this one")
    (root / "service" / "main.py").write_text("print('and this')\n")
    assert "from which 1 file differs" in ci(root, "plan").stdout


def test_only_who_may_can_approve() -> None:
    config = load(ROOT / "configs" / "pipeline.yaml")
    allowed = replace(config, policy=replace(config.policy, approvers=("Ana *",)))
    assert make_plan(allowed, HOTFIX, STAGES).permits.push is True
    others = replace(config, policy=replace(config.policy, approvers=("*@release.example>",)))
    plan = make_plan(others, HOTFIX, STAGES)
    assert plan.permits.push is False
    assert "is none of policy.approvers" in plan.policies[0].why


def test_only_hotfixes_need_one_and_only_they_are_spared_the_evaluation(root: Path) -> None:
    config = load(ROOT / "configs" / "pipeline.yaml")
    plan = make_plan(config, HOTFIX, STAGES)
    assert planned_stages(plan, STAGES)["package"].needs == ("build", "scan")
    waived = make_plan(config, Facts(event="pull_request", labels=("skip-full-eval",), branch="x", base_branch="main"), STAGES)
    assert {entry.name: entry.do for entry in waived.stages}["package"] == "skip"
    assert with_approvals(root, config, Facts(commit="1" * 40, branch="feature")).approvals == ()
    own = {"evaluate": STAGES["evaluate"], "last": stage("last", passing(), needs=("evaluate",))}
    assert {entry.name: entry.do for entry in make_plan(config, HOTFIX, own).stages} == {"evaluate": "skip", "last": "skip"}


def test_approvals_travel_and_those_of_two_people_meet(root: Path, tmp_path: Path) -> None:
    """As on a CI host, whose clone has no notes of its own."""
    remote = tmp_path / "remote.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(root), str(remote))
    git(root, "remote", "add", "origin", str(remote))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--branch", "hotfix/nan", str(remote), str(clone))
    git(clone, "config", "user.name", "Ben")
    git(clone, "config", "user.email", "ben@localhost")
    commit = git(root, "rev-parse", "HEAD")
    approve(root, "HEAD", "mine")
    send(root, "origin")
    assert fetch(clone)
    (only,) = read(clone, commit)
    approve(clone, "HEAD", "mine too")
    send(clone, "origin")
    send(root, "origin")
    assert {given.by for given in read(root, commit)} == {only.by, "Ben <ben@localhost>"}
    host = Facts(host="github", commit=commit, branch="hotfix/nan")
    (root / "configs" / "pipeline.yaml").write_text(CONFIG)
    config = load(root / "configs" / "pipeline.yaml")
    git(tmp_path, "clone", "--quiet", "--branch", "hotfix/nan", str(remote), "fresh")
    fresh = tmp_path / "fresh"
    assert with_approvals(fresh, config, host, fetching=False).approvals == ()  # a frozen run leaves the network alone
    assert len(with_approvals(fresh, config, host).approvals) == 2


def test_what_is_no_approval_is_refused_and_what_is_none_in_a_note_is_left_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has a reason"):
        approve(root, "HEAD", " \n")
    with pytest.raises(UsageError, match="there is no commit nowhere"):
        approve(root, "nowhere", "why")
    git(root, "config", "user.name", "")
    with pytest.raises(UsageError, match="does not know who you are"):
        approve(root, "HEAD", "why")
    commit = git(root, "rev-parse", "HEAD")
    git(root, "notes", f"--ref={REF}", "append", "-m", 'all good\n{"commit": 1}\n[]', commit)
    assert read(root, commit) == ()
    assert not fetch(root, "nowhere")
    with pytest.raises(InfraError, match="git push failed"):
        send(root, str(tmp_path / "nowhere"))


def test_an_approval_and_a_waiver_are_in_record_and_page_with_name_and_reason(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    for name in ("build", "evaluate", "push"):
        pipeline.add(name, passing())
    pipeline.facts = HOTFIX
    approved = pipeline.run()
    page = html.write(approved.directory, pipeline.root).read_text()
    for said in ("Who answers for it", "Ana &lt;ana@localhost&gt;", "restores the service", "2026-11-21T18:00:00Z"):
        assert said in page
    assert json.loads((approved.directory / "run.json").read_text())["facts"]["approvals"][0]["why"] == "restores the service"
    reasons = {"skip-full-eval": "a comment only"}
    pipeline.facts = Facts(
        commit="2" * 40, event="pull_request", branch="x", base_branch="main", author="ben", labels=tuple(reasons), reasons=reasons
    )
    waived = pipeline.run()
    page = html.write(waived.directory, pipeline.root).read_text()
    assert all(said in page for said in ("waiver", "ben", "a comment only"))
    (kept,) = json.loads((waived.directory / "plan.json").read_text())["waivers"]
    assert (kept["by"], kept["reason"]) == ("ben", "a comment only")
