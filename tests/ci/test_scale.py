"""The manifests of docs/scale: they parse, agree with each other, and name the engine that the SDK speaks to."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCALE = ROOT / "docs" / "scale"


@pytest.fixture(scope="module")
def engine() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all((SCALE / "engine.yaml").read_text())}


def values(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((SCALE / name).read_text())
    return loaded


def test_every_object_has_what_kubernetes_asks_for(engine: dict[str, dict[str, Any]]) -> None:
    assert set(engine) == {"Namespace", "Service", "StatefulSet", "NetworkPolicy"}
    for kind, document in engine.items():
        assert re.fullmatch(r"[a-z0-9.]*/?v\d+", document["apiVersion"]), kind
        assert re.fullmatch(r"[a-z0-9-]+", document["metadata"]["name"]), kind
        assert kind == "Namespace" or document["metadata"]["namespace"] == engine["Namespace"]["metadata"]["name"]


def test_selectors_ports_and_volumes_meet(engine: dict[str, dict[str, Any]]) -> None:
    stateful, service, policy = (engine[kind]["spec"] for kind in ("StatefulSet", "Service", "NetworkPolicy"))
    labels = stateful["template"]["metadata"]["labels"]
    assert service["selector"] == stateful["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"] == labels
    (container,) = stateful["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert service["ports"][0]["targetPort"] == container["readinessProbe"]["tcpSocket"]["port"] == port["name"]
    assert f"tcp://0.0.0.0:{port['containerPort']}" in container["args"]
    assert policy["ingress"][0]["ports"][0]["port"] == service["ports"][0]["port"] == port["containerPort"]
    volumes = {volume["name"] for volume in stateful["template"]["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes | claims
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_engine_is_the_sdks(engine: dict[str, dict[str, Any]]) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (version,) = (name.partition("==")[2] for name in dependencies if name.startswith("dagger-io=="))
    (container,) = engine["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.dagger.io/engine:v{version}-gpu"


def test_the_runners_of_both_hosts_may_reach_the_engine_and_know_where_it_is(engine: dict[str, dict[str, Any]]) -> None:
    service, policy = engine["Service"], engine["NetworkPolicy"]
    allowed = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    address = f"tcp://{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{service['spec']['ports'][0]['port']}"
    github = values("github-runners.yaml")["template"]
    assert github["metadata"]["labels"] == allowed
    (runner,) = github["spec"]["containers"]
    assert {"name": "_EXPERIMENTAL_DAGGER_RUNNER_HOST", "value": address} in runner["env"]
    gitlab = tomllib.loads(values("gitlab-runners.yaml")["runners"]["config"])
    (executor,) = gitlab["runners"]
    assert f"_EXPERIMENTAL_DAGGER_RUNNER_HOST={address}" in executor["environment"]
    assert executor["kubernetes"]["pod_labels"] == allowed


def test_the_page_names_each_file_and_no_other() -> None:
    assert set(re.findall(r"\(scale/([a-z.-]+)\)", (ROOT / "docs" / "scale.md").read_text())) == {path.name for path in SCALE.iterdir()}
