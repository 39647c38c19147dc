"""The parts of a session that everything uses: paths of the host, proxies, traces."""

import asyncio
from pathlib import Path

import pytest
from inprocess import Api, Engines
from otlp_receiver import OtlpReceiver

from pocket.engine import Engine, describe
from pocket.graph import Node
from pocket.ops.edit import SCRATCH_REF
from pocket.ops.exec import Exec
from pocket.values import Container


def test_paths_of_the_host(engines: Engines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = engines()
    monkeypatch.setenv("HOME", "/home/somebody")
    assert engine.host_path("a/../b") == tmp_path / "b"
    assert engine.host_path("/x//y/") == Path("/x/y")
    assert engine.host_path("~/z") == Path("/home/somebody/z")
    assert engine.host_path("..") == tmp_path.parent


def test_proxies_are_given_in_both_spellings(engines: Engines) -> None:
    engine = engines()
    engine.environ = {"http_proxy": "http://p", "NO_PROXY": "localhost", "HTTPS_PROXY": ""}
    assert set(engine.proxy_env()) == {"HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=localhost", "no_proxy=localhost"}


@pytest.mark.parametrize(("value", "epoch"), [("1700000000", 1_700_000_000), ("", None), ("soon", None), ("-1", None)])
def test_the_epoch_of_reproducible_images(engines: Engines, monkeypatch: pytest.MonkeyPatch, value: str, epoch: int | None) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    assert engines().epoch == epoch


async def test_work_is_done_beside_the_loop(api: Api) -> None:
    assert await api.engine.blocking(sorted, [2, 1], reverse=False) == [1, 2]


async def test_requests_have_trace_contexts_of_their_own(api: Api) -> None:
    async def request(value: str) -> str:
        api.engine.set_request(value, lambda: False)
        await asyncio.sleep(0)
        return api.engine.traceparent()

    assert tuple(await asyncio.gather(request("a"), request("b"))) == ("a", "b")
    assert api.engine.traceparent() == ""


async def test_a_trace_that_nobody_hears_costs_nothing(api: Api) -> None:
    with api.engine.trace("Container.from", {"address": "x"}) as span:
        assert api.engine.current_span() is span
    node = Node(Exec(container=Container(rootfs=SCRATCH_REF), argv=("true",)), name="Container.withExec")
    with api.engine.trace_run(node, "key"):
        pass
    api.engine.trace_hit(node, "key")


def test_a_command_is_described_by_its_words() -> None:
    node = Node(Exec(container=Container(rootfs=SCRATCH_REF), argv=("echo", "x" * 1000)))
    assert len(str(describe(node)["pocket.args"])) == 400
    assert describe(SCRATCH_REF.node) == {}


async def test_an_error_ends_its_span(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        for name, value in receiver.env().items():
            monkeypatch.setenv(name, value)
        engine: Engine = engines()
        with pytest.raises(KeyError), engine.trace("broken", {}):
            raise KeyError("what")
        with engine.trace("fine", {}):
            pass
        await engine.close()
        spans = {s.name: s for s in receiver.spans}
    assert spans["broken"].status.code == 2
    assert "what" in spans["broken"].status.message
    assert spans["fine"].status.code != 2
