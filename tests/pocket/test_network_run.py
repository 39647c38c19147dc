"""Services find each other by address and name, sockets lead into their network, and nothing leads out unless something carries it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_box import Box, Inside, tiers, why_not

from pocket.network import outbound


@pytest.fixture(scope="module", params=tiers())
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    box = Box(request.param)
    yield box
    box.close()


def test_two_services_on_one_port_and_a_client(box: Box) -> None:
    async def body(b: Inside) -> tuple[str, list[str]]:
        net = await b.network()
        places = [await net.attach(name) for name in ("one", "two", "client")]
        for place in places[:2]:
            (page := b.fresh()).joinpath("index.html").write_text(place.name)
            mount = b.mount(target="/www", kind="bind", source=str(page))
            await b.start(b.spec("httpd", "-f", "-p", "80", "-h", "/www", netns=place, mounts=(mount,), user="app"))
            await b.answers(net, place.ip, 80)
        hosts = tuple((p.ip, (p.name,)) for p in places[:2])
        done = await b.sh("wget -qO- http://one; echo; wget -qO- http://two", netns=places[2], hosts=hosts, resolv=net.resolv)
        return done.out + done.err, [p.ip for p in places]

    output, addresses = box.do(body)
    assert output == "one\ntwo"
    assert len(set(addresses)) == 3
    assert all(a.startswith("10.87.") for a in addresses)


def test_a_service_of_the_host_listens_in_the_network(box: Box) -> None:
    async def body(b: Inside) -> str:
        async def answer(reader: object, writer: asyncio.StreamWriter) -> None:
            writer.write(b"from the host")
            writer.close()

        net = await b.network()
        place, client = await net.attach("h"), await net.attach("c")
        async with await asyncio.start_server(answer, sock=await net.listen(place, 443)):
            return (await b.run("nc", place.ip, "443", netns=client)).out

    assert box.do(body) == "from the host"


def test_half_closed_connections_pass(box: Box) -> None:
    async def body(b: Inside) -> bytes:
        net = await b.network()
        place = await net.attach("s")
        await b.start(b.spec("sh", "-c", "nc -l -p 7 -e sh -c 'wc -c; echo end'", netns=place))
        connection = await b.answers(net, place.ip, 7, keep=True)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, b"12345")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := await loop.sock_recv(connection, 100):
            answer += data
        connection.close()
        return answer

    assert box.do(body).split() == [b"5", b"end"]


def test_a_port_where_nobody_listens_refuses(box: Box) -> None:
    async def body(b: Inside) -> str:
        net = await b.network()
        place = await net.attach("s")
        try:
            await net.connect(place.ip, 9)
        except OSError as error:
            return type(error).__name__
        return "connected"

    assert box.do(body) == "ConnectionRefusedError"


def test_a_taken_port_is_said_to_be(box: Box) -> None:
    async def body(b: Inside) -> str:
        net = await b.network()
        place = await net.attach("s")
        with await net.listen(place, 81):
            try:
                await net.listen(place, 81)
            except OSError as error:
                return os.strerror(error.errno or 0)
        return "no error"

    assert box.do(body) == "Address already in use"


def test_the_hosts_loopback_is_not_the_containers(box: Box) -> None:
    async def body(b: Inside) -> str:
        net = await b.network()
        client = await net.attach("c")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            done = await b.sh(f"for h in 127.0.0.1 {net.gateway} 10.0.2.2; do nc -w 1 $h {port} && echo in; done", netns=client)
            return done.out

    assert box.do(body) == ""


def test_closing_gives_the_place_back(box: Box) -> None:
    async def body(b: Inside) -> tuple[int, int]:
        net = await b.network()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            place = await net.attach("x")
            await place.close()
            await place.close()
        return before, len(list(Path("/proc/self/fd").iterdir()))

    before, after = box.do(body)
    assert after <= before + 1


def test_a_user_may_bind_a_low_port_and_ping(box: Box) -> None:
    async def body(b: Inside) -> str:
        net = await b.network()
        place = await net.attach("s")
        done = await b.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", netns=place, user="app")
        return done.out

    assert box.do(body) == "0\n"


def test_the_session_itself_stays_in_the_hosts_network(box: Box) -> None:
    async def body(b: Inside) -> str:
        await b.network()
        return str(Path("/proc/self/ns/net").readlink())

    assert box.do(body) == str(Path("/proc/self/ns/net").readlink())


def test_names_fail_at_once_without_a_way_out() -> None:
    way = outbound.Way(reason="pasta or slirp4netns is not installed")
    assert way.describe() == "none (pasta or slirp4netns is not installed)"
    assert b"nameserver" not in way.resolv()


def fake_programs(path: Path, **versions: str) -> None:
    for name, version in versions.items():
        (path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (path / name).chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "tier", "way"),
    [
        ({"pasta": "pasta 2024_03_26.4988e2b", "slirp4netns": ""}, "single-uid", "slirp4netns"),
        ({"pasta": "pasta 2024_03_26.4988e2b"}, "single-uid", "pasta"),
        ({"pasta": "pasta 2024_03_26.4988e2b"}, "root", "none (slirp4netns is not installed; pasta, started by root, becomes"),
        ({"pasta": "pasta 0.0~git20230309.7c7625d-1"}, "single-uid", "none (slirp4netns is not installed; this pasta (2023) repeats data"),
        ({}, "single-uid", "none (slirp4netns is not installed; pasta is not installed)"),
    ],
)
def test_the_way_out_is_chosen_by_what_works(
    programs: dict[str, str], tier: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs(tmp_path, **programs)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(outbound, "_TUN", "/dev/null")
    assert outbound.find(tier).describe().startswith(way)


def test_the_way_out_needs_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs(tmp_path, slirp4netns="")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(outbound, "_TUN", "/no/such/device")
    assert "slirp4netns is installed, but /no/such/device cannot be opened" in outbound.find("root").describe()


def _address_of_this_machine() -> str:
    """Find an address of this machine that is not a loopback, without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("198.51.100.1", 9))
        except OSError:
            return ""
        return str(s.getsockname()[0])


def test_the_way_out(box: Box) -> None:
    if not shutil.which("slirp4netns"):
        pytest.skip("slirp4netns is not installed")
    if not (address := _address_of_this_machine()):
        pytest.skip("this machine has no address but the loopback")

    async def body(b: Inside, address: str) -> tuple[str, str, str]:
        async def answer(reader: object, writer: asyncio.StreamWriter) -> None:
            writer.write(b"outside")
            writer.close()

        net = await b.network()
        client = await net.attach("c")
        async with await asyncio.start_server(answer, address, 0) as server:
            port = server.sockets[0].getsockname()[1]
            done = await b.run("nc", "-w", "5", address, str(port), netns=client, resolv=net.resolv, timeout=20)
        return net.outbound, done.out, done.err

    way, out, err = box.do(body, address)
    if way.startswith("none"):
        assert "unreachable" in err
    else:
        assert (out, err) == ("outside", "")
