"""Doing as little as possible, and saying why: resuming after a kill, `why`, frozen runs, machines that begin empty."""

import json
import shutil
from collections.abc import Iterator

import pytest
from accounts import Account, Checkout, Finished
from processes import kill_all, wait_until
from registries import real_registry


@pytest.fixture
def registry(account: Account) -> Iterator[str]:
    with real_registry(account.directory("store-registry")) as host:
        yield host
    shutil.rmtree(account.home / "store-registry")


def passed(checkout: Checkout, stage: str) -> bool:
    """Tell whether a stage has passed in a run of this checkout that is under way."""
    try:
        record = checkout.record()
    except (OSError, ValueError):
        return False
    return record["status"] == "running" and any(entry["name"] == stage and entry["status"] == "passed" for entry in record["stages"])


def test_after_kill_9_resume_repeats_nothing_that_passed(checkout: Checkout) -> None:
    """With --force the memo is off; what the killed run did counts all the same."""
    process = checkout.start("run", "--force")
    assert wait_until(process, lambda: passed(checkout, "build")), process.communicate()[0]
    kill_all(process)
    killed = checkout.record()
    done = {entry["name"] for entry in killed["stages"] if entry["status"] == "passed"}
    assert "build" in done
    finished = checkout.ci("run", "--resume", "last")
    assert finished.code == 0, finished.output
    record = checkout.record()
    assert record["resumed"] == killed["id"]
    assert {entry["name"] for entry in record["stages"] if entry["status"] == "reused"} == done
    assert all(entry["why"] == f"passed in run {killed['id']}" for entry in record["stages"] if entry["name"] in done)


def test_why_names_the_line_the_file_and_the_step_that_missed(checkout: Checkout) -> None:
    assert checkout.ci("run").code == 0
    server = checkout.subject / "src" / "digits_vlm" / "server.py"
    lines = server.read_text().count("\n")
    server.write_text(server.read_text() + "API_REVISION = 2\n")
    why = checkout.ci("why", "build")
    assert f"examples/digits_vlm/src/digits_vlm/server.py changed (line {lines + 1}, +1 −0)" in why.output
    finished = checkout.ci("run", "--only", "build")
    assert finished.code == 0, finished.output
    (build,) = (entry for entry in checkout.record()["stages"] if entry["name"] == "build")
    missed = next(step for step in build["steps"] if not step["cached"])
    why = checkout.ci("why", "build")
    assert f"examples/digits_vlm/src/digits_vlm/server.py changed (line {lines + 1}, +1 −0)" in why.output
    assert "the first that was not in the engine's cache was number" in why.output
    assert missed["command"]
    assert missed["command"].split()[0] in why.output.splitlines()[-1]


def test_an_edit_after_the_kill_is_named_and_refused(checkout: Checkout) -> None:
    assert checkout.ci("run", "--only", "build").code == 0
    server = checkout.subject / "src" / "digits_vlm" / "server.py"
    server.write_text(server.read_text() + "API_REVISION = 3\n")
    finished = checkout.ci("run", "--resume", "last")
    assert finished.code == 2
    assert "since build passed there, examples/digits_vlm/src/digits_vlm/server.py changed" in finished.output


def without_network(checkout: Checkout, *arguments: str) -> Finished:
    """Run the command in a network namespace that has loopback and nothing else."""
    flags = ("-n",) if checkout.account.name == "root" else ("-r", "-n")
    script = 'ip link set lo up; exec "$@"'
    command = ("unshare", *flags, "sh", "-c", script, "sh", checkout.account.python, "-m", "ci", *arguments)
    return checkout.account.run(*command, cwd=checkout.root, env=checkout.env)


def test_frozen_refuses_a_base_without_a_digest_before_anything_runs(checkout: Checkout) -> None:
    before = checkout.runs()
    finished = checkout.ci("run", "--frozen")
    assert finished.code == 2
    assert "configs/pipeline.yaml:7:10: base.image docker.io/library/python:3.11-slim has no digest" in finished.output
    assert checkout.runs() == before


def test_frozen_passes_without_a_network_on_a_warm_cache(checkout: Checkout) -> None:
    checkout.configure("base", "image", "host")
    assert checkout.ci("run", "--force").code == 0  # the image of a tree that was edited has a label of its own
    finished = without_network(checkout, "run", "--frozen")
    assert finished.code == 0, finished.output
    assert checkout.ran() == set()
    finished = without_network(checkout, "run", "--frozen", "--force")
    assert finished.code == 0, finished.output
    assert "evaluate" in checkout.ran()  # through the engine, and its steps came from the cache
    stages = {entry["name"]: entry for entry in checkout.record()["stages"]}
    assert {step["cached"] for name, entry in stages.items() if name != "scan" for step in entry["steps"]} == {True}
    assert "not checked: advisories: nobody is asked" in stages["scan"]["summary"]


def test_an_empty_machine_with_a_store_reuses_every_stage(checkout: Checkout, account: Account, registry: str) -> None:
    env = {"WEIGHBRIDGE_STORE": f"oci://{registry}/store"}
    checkout.configure("push", "target", f"{registry}/digits")
    finished = checkout.ci("run", "--force", env=env)
    assert finished.code == 0, finished.output
    empty = checkout.copy("empty-machine")
    shutil.rmtree(empty.root / ".weighbridge")
    try:
        cache = account.directory("empty-cache")
        finished = empty.ci("run", env={**env, "WEIGHBRIDGE_CACHE": str(cache)})
        assert finished.code == 0, finished.output
        assert set(empty.outcomes().values()) == {"reused"}, finished.output
        assert json.loads((empty.latest / "run.json").read_bytes())["notes"] == []
        assert not (cache / "pocket").exists()  # no engine was started
        shutil.rmtree(cache)
    finally:
        empty.remove()
