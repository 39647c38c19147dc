"""The pipeline on a real Dagger engine beside the same on pocket: equal plan, equal verdicts, equal image tree, and a cached second run.

It runs where the environment names an engine (a Dagger CLI or a runner host, by the SDK's own variables) or where a Dagger CLI and a
running Docker are at hand. An engine that cannot reach a package index takes packages from PIP_FIND_LINKS, with PIP_NO_INDEX=1.
An engine whose disk is nearly full forgets at once what it has done, and then the second run is not cached: that is its garbage collection.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import image_trees
import pytest
from accounts import Account, Checkout, Finished, names

CLI, RUNNER_HOST = "_EXPERIMENTAL_DAGGER_CLI_BIN", "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
STAGES = ["validate", "build", "test", "scan", "evaluate", "package", "push"]
SECONDS = 3000


def _at_hand() -> dict[str, str] | None:
    """Give the variables that lead to a Dagger engine; None without one."""
    named = {name: os.environ[name] for name in (CLI, RUNNER_HOST) if os.environ.get(name)}
    cli, docker = shutil.which("dagger"), shutil.which("docker")
    if named or not cli or not docker:
        return named or None
    running = subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    return {CLI: cli} if running else None


ENGINE = _at_hand()
pytestmark = [
    pytest.mark.skipif(ENGINE is None, reason="not run: no Dagger engine"),
    pytest.mark.timeout(2 * SECONDS),
    # Who runs the tests can reach the engine; others perhaps cannot.
    pytest.mark.parametrize("account", [pytest.param(names()[0], marks=pytest.mark.xdist_group(names()[0]))], indirect=True),
]


@pytest.fixture(scope="module")
def dagger(first: tuple[Checkout, Finished], account: Account) -> Checkout:
    """Give a copy of the clone in which the engine has carried out everything, with a cache of its own."""
    assert first[1].code == 0, first[1].output
    root = first[0].copy("dagger").root
    shutil.rmtree(root / ".weighbridge")
    checkout = Checkout(account, root, {**(ENGINE or {}), "WEIGHBRIDGE_CACHE": str(account.directory("dagger-cache"))})
    finished = checkout.ci("run", "--engine", "dagger", timeout=SECONDS)
    assert finished.code == 0, finished.output
    return checkout


@pytest.fixture(scope="module")
def again(dagger: Checkout) -> Checkout:
    """Carry everything out again there, though all of it is remembered: what the engine has cached still counts."""
    checkout = dagger.copy("dagger-again")
    finished = checkout.ci("run", "--engine", "dagger", "--force", timeout=SECONDS)
    assert finished.code == 0, finished.output
    return checkout


def _results(checkout: Checkout) -> dict[str, Any]:
    """Give what each stage came to, without what the moment decides: digests of archives, seconds, what nobody answered."""
    results = {stage["name"]: stage["result"] for stage in checkout.record()["stages"]}
    found = {"validate": results["validate"], "test": results["test"], "outcomes": checkout.outcomes()}
    found["scan"] = [results["scan"][name] for name in ("findings", "counts", "accepted")]
    found["evaluate"] = [results["evaluate"][name] for name in ("model", "suites", "answers")]
    gate = json.loads(next(checkout.latest.rglob("gate.json")).read_text())
    found["gate"] = [
        gate["verdict"],
        *([suite[name] for name in ("name", "verdict", "score", "planned", "wrong")] for suite in gate["suites"]),
    ]
    return found


def _image(checkout: Checkout) -> tuple[image_trees.Tree, dict[str, Any]]:
    digest = next(stage for stage in checkout.record()["stages"] if stage["name"] == "build")["result"]["digest"]
    cache = checkout.account.environment(checkout.env)["WEIGHBRIDGE_CACHE"]
    return image_trees.read(Path(cache, "artifacts", f"{digest.removeprefix('sha256:')}.tar"))


def test_every_stage_passes_on_the_engine_and_it_is_named(dagger: Checkout) -> None:
    assert dagger.outcomes() == dict.fromkeys(STAGES, "passed")
    assert dagger.record()["engine"]["engine"] == "dagger"
    assert dagger.record()["engine"]["version"].startswith("v0.")


def test_plans_are_equal(first: tuple[Checkout, Finished], dagger: Checkout) -> None:
    assert (dagger.latest / "plan.json").read_bytes() == (first[0].latest / "plan.json").read_bytes()


def test_verdicts_are_equal(first: tuple[Checkout, Finished], dagger: Checkout) -> None:
    assert _results(dagger) == _results(first[0])


def test_image_trees_and_settings_are_equal(first: tuple[Checkout, Finished], dagger: Checkout) -> None:
    (theirs, their_settings), (ours, our_settings) = _image(dagger), _image(first[0])
    assert len(theirs) > 1000
    assert image_trees.changes(theirs, ours) == {}
    assert their_settings == our_settings


def test_second_run_is_cached(dagger: Checkout, again: Checkout) -> None:
    """Without the pipeline's own memory: the engine runs nothing of what it has run before, and makes the same image."""
    built, told = [], {}
    for checkout in (dagger, again):
        stages = {stage["name"]: stage for stage in checkout.record()["stages"]}
        built.append(stages["build"]["result"]["digest"])
        told = {name: [step["cached"] for step in stage["steps"]] for name, stage in stages.items()}
    assert built[0] == built[1]
    assert all(all(cached) for cached in told.values()), told
    assert told["build"]
    assert told["test"]


def test_a_run_in_which_nothing_changed_asks_no_engine(dagger: Checkout) -> None:
    copy = dagger.copy("dagger-unchanged")
    finished = copy.ci("run", "--engine", "dagger")
    assert finished.code == 0, finished.output
    assert copy.outcomes() == dict.fromkeys(STAGES, "reused")
    assert copy.record()["engine"] == {}
