"""What a person gets who clones the repository on a machine that has nothing, and types the README's command."""

import base64
import json
from pathlib import Path

from accounts import Account, Checkout, Finished
from layouts import images

STAGES = ["validate", "build", "test", "scan", "evaluate", "package", "push"]


def test_first_lines_name_engine_tier_and_base(first: tuple[Checkout, Finished]) -> None:
    checkout, finished = first
    assert finished.code == 0, finished.output
    lines = finished.output.splitlines()
    tier = "root" if checkout.account.name == "root" else "rootless (single uid)"
    assert lines[0].startswith("weighbridge ")
    assert lines[1].split()[:2] == ["engine", "pocket,"]
    assert tier in lines[1]
    assert lines[2].split()[:2] == ["base", "host"]
    assert "docker.io/library/python" in lines[2]


def test_every_stage_did_its_work(first: tuple[Checkout, Finished]) -> None:
    checkout, finished = first
    assert finished.code == 0, finished.output
    assert checkout.outcomes() == dict.fromkeys(STAGES, "passed")
    run = checkout.latest
    samples = [json.loads(line) for line in next(run.rglob("samples.jsonl")).read_text().splitlines()]
    assert len(samples) > 300
    assert all({"id", "score", "output", "latency_s", "error_class"} <= sample.keys() for sample in samples)
    assert next(run.rglob("junit.xml")).stat().st_size > 0
    assert next(run.rglob("coverage.xml")).stat().st_size > 0


def test_pushed_image_alone_serves_the_model(first: tuple[Checkout, Finished], account: Account) -> None:
    """From the pushed bytes and nothing else: unpack the layers, start the entrypoint, ask about one image."""
    checkout, finished = first
    assert finished.code == 0, finished.output
    (image,) = images(checkout.root / ".weighbridge" / "oci")
    place = account.directory("image")
    image.unpack(place / "root")
    (place / "config.json").write_text(json.dumps(image.config))
    sample = _sample(checkout)
    requests = [{"path": "/v1/models", "body": None}, {"path": "/v1/chat/completions", "body": sample["body"]}]
    (place / "requests.json").write_text(json.dumps(requests))
    account.own(place)
    probe = checkout.root / "tests" / "support" / "image_probe.py"
    namespaces = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
    arguments = (str(place / "root"), str(place / "config.json"), str(place / "requests.json"))
    answer = account.run(*namespaces, "/usr/bin/python3", str(probe), *arguments, cwd=place)
    assert answer.code == 0, answer.output
    (models_status, models), (status, completion) = json.loads(answer.output.splitlines()[-1])
    assert (models_status, status) == (200, 200)
    assert models["data"]
    assert completion["choices"][0]["message"]["content"] == sample["expected"]


def test_image_says_which_base_it_stands_on(first: tuple[Checkout, Finished]) -> None:
    checkout, finished = first
    assert finished.code == 0, finished.output
    (image,) = images(checkout.root / ".weighbridge" / "oci")
    assert any("host" in value for name, value in image.config["Labels"].items() if "base" in name), image.config["Labels"]


def test_neither_image_nor_record_nor_log_holds_what_is_the_machines_own(first: tuple[Checkout, Finished]) -> None:
    """Proxies, package indexes and where things lie are the machine's business; images and records travel."""
    checkout, finished = first
    assert finished.code == 0, finished.output
    account = checkout.account
    environment = account.environment()
    names = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY")
    private = [environment[name].encode() for name in names if environment.get(name)]
    private.append(str(account.home).encode())
    (image,) = images(checkout.root / ".weighbridge" / "oci")
    assert [name for name in private if name in json.dumps([image.manifest, image.config]).encode()] == []
    records = [path for path in checkout.latest.rglob("*") if path.is_file()]
    secrets = [name for name in private if name != str(account.home).encode()]
    assert [path for path in records for name in secrets if name in path.read_bytes()] == []


def _sample(checkout: Checkout) -> dict[str, object]:
    """Take the first image question that the evaluation got right."""
    right = {
        sample["id"]
        for sample in map(json.loads, next(checkout.latest.rglob("samples.jsonl")).read_text().splitlines())
        if sample["score"] == 1
    }
    evals = checkout.subject / "evals"
    question = next(q for q in map(json.loads, (evals / "image.jsonl").read_text().splitlines()) if q["id"] in right)
    url = "data:image/png;base64," + base64.b64encode(Path(evals / question["image"]).read_bytes()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question["prompt"]}]
    body = {"model": "digits-vlm", "temperature": 0, "messages": [{"role": "user", "content": parts}]}
    return {"body": body, "expected": question["expected"]}
