"""The same program on both CI hosts: their files hold one command of ours, and what it does there is what it does here."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from accounts import BRANCH, Account, Checkout, Finished, clone, names
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families

# Each host installs anew, which takes longer than all that is asked here; the ordinary user is the harder case.
pytestmark = pytest.mark.parametrize("account", [pytest.param(names()[-1], marks=pytest.mark.xdist_group(names()[-1]))], indirect=True)


def _plan(checkout: Checkout) -> bytes:
    """Read the plan of the newest run, byte for byte."""
    return (checkout.latest / "plan.json").read_bytes()


def _head(checkout: Checkout) -> str:
    command = ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=checkout.root, check=True, capture_output=True, text=True).stdout.strip()


def _github(account: Account) -> Checkout:
    """Execute the `run:` lines of the GitHub workflow as a runner does: one shell per step, with the runner's variables and files."""
    checkout = clone(account, "github")
    workflow = yaml.safe_load((checkout.root / ".github" / "workflows" / "ci.yml").read_text())
    commit, files = _head(checkout), account.directory("github-files")
    event = files / "event.json"
    event.write_text(
        json.dumps({"ref": f"refs/heads/{BRANCH}", "after": commit, "before": "0" * 40, "repository": {"full_name": "team/model"}})
    )
    for name in ("path", "output", "summary", "env"):
        (files / name).write_text("")
    account.own(files)
    environment = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REF": f"refs/heads/{BRANCH}",
        "GITHUB_REF_NAME": BRANCH,
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REPOSITORY": "team/model",
        "GITHUB_SHA": commit,
        "GITHUB_WORKSPACE": str(checkout.root),
        **{
            f"GITHUB_{name}": str(files / file)
            for name, file in {"PATH": "path", "OUTPUT": "output", "STEP_SUMMARY": "summary", "ENV": "env"}.items()
        },
    }
    for step in workflow["jobs"]["pipeline"]["steps"]:
        if "run" in step:
            path = ":".join([*(files / "path").read_text().split(), "/usr/local/bin:/usr/bin:/bin"])
            finished = account.run("bash", "-e", "-c", step["run"], cwd=checkout.root, env={**environment, "PATH": path})
            assert finished.code == 0, finished.output
    return checkout


def _gitlab(account: Account) -> Checkout:
    """Run .gitlab-ci.yml with gitlab-ci-local, in this machine's shell."""
    program = os.environ.get("WEIGHBRIDGE_GITLAB_CI_LOCAL")
    if program is None:
        pytest.skip("WEIGHBRIDGE_GITLAB_CI_LOCAL does not name gitlab-ci-local (npm package, 4.61 for Node 20); .ci/run installs it")
    checkout = clone(account, "gitlab")
    state = account.directory("gitlab-state")
    options = ("--force-shell-executor", "--no-color", "--home", str(state))
    finished = account.run(program, *options, "weighbridge", cwd=checkout.root, env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    assert finished.code == 0, finished.output
    return checkout


@pytest.fixture(scope="module")
def github(first: tuple[Checkout, Finished], account: Account) -> Checkout:
    assert first[1].code == 0, first[1].output
    return _github(account)


@pytest.fixture(scope="module")
def gitlab(first: tuple[Checkout, Finished], account: Account) -> Checkout:
    assert first[1].code == 0, first[1].output
    return _gitlab(account)


def test_github_runs_the_same_pipeline(github: Checkout) -> None:
    """The stages were proven here already, so there they are reused: same inputs, same keys."""
    outcomes = github.outcomes()
    assert {name: status for name, status in outcomes.items() if status != "reused"} in ({}, {"push": "passed"})


def test_gitlab_runs_the_same_pipeline(gitlab: Checkout) -> None:
    outcomes = gitlab.outcomes()
    assert {name: status for name, status in outcomes.items() if status != "reused"} in ({}, {"push": "passed"})


def test_both_hosts_make_the_same_plan(github: Checkout, gitlab: Checkout) -> None:
    assert _plan(github) == _plan(gitlab)


def test_what_is_uploaded_is_there(github: Checkout) -> None:
    """The paths that both files name for upload hold the run's record."""
    workflow = yaml.safe_load((github.root / ".github" / "workflows" / "ci.yml").read_text())
    (upload,) = (step for step in workflow["jobs"]["pipeline"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert list(github.root.glob(f"{upload['with']['path']}/run.json"))
    artifacts = yaml.safe_load((github.root / ".gitlab-ci.yml").read_text())["weighbridge"]["artifacts"]
    wanted = [artifacts["reports"]["junit"], artifacts["reports"]["coverage_report"]["path"]]
    assert all(sorted(Path(github.root).glob(pattern)) for pattern in wanted)


def _reports(checkout: Checkout) -> dict[str, Path]:
    """Give kind → file for what .gitlab-ci.yml hands to GitLab, as its runner finds the files."""
    reports = yaml.safe_load((checkout.root / ".gitlab-ci.yml").read_text())["weighbridge"]["artifacts"]["reports"]
    patterns = {kind: report if isinstance(report, str) else report["path"] for kind, report in reports.items()}
    return {kind: found for kind, pattern in patterns.items() for found in checkout.root.glob(pattern)}


def test_what_gitlab_reads_is_there_and_valid(gitlab: Checkout) -> None:
    reports = _reports(gitlab)
    assert set(reports) == {"junit", "coverage_report", "metrics", "dotenv", "codequality"}
    cases = list(ET.parse(reports["junit"]).iter("testcase"))
    assert cases
    assert all((gitlab.root / case.get("file", "none")).is_file() for case in cases)
    covered = [element.get("filename", "none") for element in ET.parse(reports["coverage_report"]).iter("class")]
    assert covered
    assert all((gitlab.root / name).is_file() for name in covered)
    metrics = reports["metrics"].read_text().replace("# EOF\n", "")
    samples = {sample.name for family in text_string_to_metric_families(metrics) for sample in family.samples}
    assert {"weighbridge_seconds", "weighbridge_coverage_percent", "weighbridge_score", "weighbridge_scan_findings"} <= samples
    variables = dict(line.split("=", 1) for line in reports["dotenv"].read_text().splitlines())
    assert variables["WEIGHBRIDGE_STATUS"] == "passed"
    assert variables["WEIGHBRIDGE_IMAGE"].startswith("sha256:")
    assert isinstance(json.loads(reports["codequality"].read_text()), list)


def test_github_s_summary_is_a_table_of_all_stages(github: Checkout, account: Account) -> None:
    page = MarkdownIt("commonmark").enable("table").render((account.home / "github-files" / "summary").read_text())
    rows = re.findall(r"<td><strong>(\w+)</strong></td>", page)
    assert rows == [stage["name"] for stage in github.record()["stages"]]
