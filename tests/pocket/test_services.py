"""Services: started once, found by name, stopped, and honest about why they are not there."""

import base64
import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import left_over
from sessions import Enum, Failed, Session, Step, on, query_of

from pocket.errors import PocketError
from pocket.services import Forward, Service

Steps = tuple[Step, ...]


def exec_(*words: str) -> Step:
    """Give the step that runs a command."""
    return ("withExec", {"args": list(words)})


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Hold a session whose services end with this module."""
    with Session(tmp_path_factory.mktemp("services") / "cache") as session:
        yield session


@pytest.fixture
def box(live: Session, base_archive: Path) -> Steps:
    return live.base(base_archive)


def web(live: Session, box: Steps, page: str, port: int = 8080) -> str:
    """Describe a web server; give its ID."""
    made = ("withNewFile", {"path": "/www/index.html", "contents": page})
    args = ["httpd", "-f", "-p", str(port), "-h", "/www"]
    ident: str = live.value(*box, made, ("withExposedPort", {"port": port}), ("asService", {"args": args}), "id")
    return ident


def bind(alias: str, service: str) -> Step:
    """Give the step that binds a service."""
    return ("withServiceBinding", {"alias": alias, "service": service})


def get(live: Session, *steps: Step, url: str) -> Any:
    """Fetch a page in a container."""
    return live.value(*steps, exec_("wget", "-qO-", url), "stdout")


def test_two_services_on_one_port_have_addresses_of_their_own(live: Session, box: Steps) -> None:
    both = (*box, bind("a", web(live, box, "one")), bind("b", web(live, box, "two")))
    assert [get(live, *both, url=f"http://{name}:8080") for name in "ab"] == ["one", "two"]


def test_equal_services_are_one(live: Session, box: Steps) -> None:
    names = [live.value(*on("Service", web(live, box, text)), "hostname") for text in ("x", "x", "y")]
    assert names[0] == names[1] != names[2]


def test_a_service_stops_when_told_and_can_start_again(live: Session, box: Steps) -> None:
    ident = web(live, box, "again")
    service = on("Service", live.value(*on("Service", ident), ("withHostname", {"hostname": "again"}), "id"))
    live.value(*service, "start")
    assert get(live, *box, ("withEnvVariable", {"name": "N", "value": "1"}), url="http://again:8080") == "again"
    live.value(*service, "stop")
    live.value(*service, ("stop", {"kill": True}))  # it is gone already: nothing to do
    with pytest.raises(Failed):
        get(live, *box, ("withEnvVariable", {"name": "N", "value": "2"}), url="http://again:8080")
    live.value(*service, "start")
    assert get(live, *box, ("withEnvVariable", {"name": "N", "value": "3"}), url="http://again:8080") == "again"
    live.value(*service, ("stop", {"kill": True}))


def test_a_stubborn_service_is_killed(live: Session, box: Steps) -> None:
    script = "trap '' TERM; httpd -p 8081 -h /; while :; do sleep 1; done"
    ident = live.value(*box, ("withExposedPort", {"port": 8081}), ("asService", {"args": ["sh", "-c", script]}), "id")
    live.value(*on("Service", ident), "start")
    live.value(*on("Service", ident), ("stop", {"kill": True}))


def test_a_service_that_does_not_start_says_what_it_said(live: Session, box: Steps) -> None:
    args = ["sh", "-c", "echo to out; echo to err >&2; exit 5"]
    ident = live.value(*box, ("withExposedPort", {"port": 1}), ("asService", {"args": args}), ("withHostname", {"hostname": "bad"}), "id")
    with pytest.raises(Failed, match=r"start bad \(aliased as b\): exit code: 5") as caught:
        live.value(*box, bind("b", ident), exec_("true"), "sync")
    assert caught.value.extensions["_type"] == "EXEC_ERROR"
    assert (caught.value.extensions["exitCode"], caught.value.extensions["stdout"], caught.value.extensions["stderr"]) == (
        5,
        "to out\n",
        "to err\n",
    )


def test_a_step_whose_service_dies_is_not_kept(live: Session, box: Steps) -> None:
    script = "httpd -p 8082 -h /; nc -l -p 8083; exit 9"
    ident = live.value(*box, ("withExposedPort", {"port": 8082}), ("asService", {"args": ["sh", "-c", script]}), "id")
    steps = (*box, bind("mortal", ident), exec_("sh", "-c", "echo | nc mortal 8083; sleep 1; echo went on"), "stdout")
    with pytest.raises(Failed, match=r"bound service \w+ \(aliased as mortal\) exited: exit code: 9"):
        live.value(*steps)
    with pytest.raises(Failed, match="exited: exit code: 9"):
        live.value(*steps)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((("asService", {"args": ["sleep", "9"]}), "endpoint"), "no ports exposed"),
        (("withoutDefaultArgs", "asService", "start"), "no service command has been set"),
        ((("asService", {"args": ["no-such"]}), "start"), ""),
        (
            (("withUser", {"name": "ghost"}), ("withExposedPort", {"port": 1}), ("asService", {"args": ["true"]}), "start"),
            "unable to find user ghost",
        ),
    ],
)
def test_what_is_wrong_is_said(live: Session, box: Steps, steps: Steps, message: str) -> None:
    if steps[-1] == "start" and not message:
        live.value(*box, *steps)  # without a port nobody waits for it
    else:
        with pytest.raises(Failed, match=message):
            live.value(*box, *steps)


def test_endpoints(live: Session, box: Steps) -> None:
    service = on("Service", live.value(*on("Service", web(live, box, "e")), ("withHostname", {"hostname": "ep"}), "id"))
    assert live.value(*service, "endpoint") == "ep:8080"
    assert live.value(*service, ("endpoint", {"port": 99, "scheme": "tcp"})) == "tcp://ep:99"
    assert live.value(*service, "ports", "port") == [8080]
    assert live.value(*service, "sync")


def test_a_tunnel_is_reached_from_here_and_closed_again(live: Session, box: Steps) -> None:
    tunnel = on("Service", live.value("host", ("tunnel", {"service": web(live, box, "through")}), "id"))
    with pytest.raises(Failed, match="has not been started"):
        live.value(*tunnel, "endpoint")
    assert live.value(*tunnel, "ports", "port") == []
    live.value(*tunnel, "start")
    url = live.value(*tunnel, ("endpoint", {"scheme": "http"}))
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"through"
    assert live.value(*tunnel, "hostname") == "127.0.0.1"
    assert [f"http://127.0.0.1:{p}" for p in live.value(*tunnel, "ports", "port")] == [url]
    live.value(*tunnel, "stop")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def asking(live: Session, *steps: Step) -> Iterator[http.client.HTTPConnection]:
    """Hold the connection of a client that has asked and waits."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=120)
    login = base64.b64encode(f"{live.said['session_token']}:".encode()).decode()
    connection.request("POST", "/query", json.dumps({"query": query_of(*steps)}), {"Authorization": f"Basic {login}"})
    yield connection
    connection.close()


def until(port: int, *, open_: bool) -> None:
    """Wait until a port of this machine answers, or answers no more."""
    pause, deadline = threading.Event(), time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            if open_:
                return
        except OSError:
            if not open_:
                return
        pause.wait(0.05)
    raise AssertionError(f"port {port} is not {'open' if open_ else 'closed'}")


@pytest.mark.parametrize("kind", ["Service", "Container"])
def test_up_lasts_as_long_as_somebody_waits_for_it(live: Session, box: Steps, kind: str) -> None:
    port = free_port()
    ports = [{"frontend": port, "backend": 8080}]
    if kind == "Container":
        page = ("withNewFile", {"path": "/www/index.html", "contents": "up Container"})
        args = ["httpd", "-f", "-p", "8080", "-h", "/www"]
        steps: Steps = (*box, page, ("withExposedPort", {"port": 8080}), ("up", {"ports": ports, "args": args}))
    else:
        steps = (*on("Service", web(live, box, "up Service")), ("up", {"ports": ports}))
    with asking(live, *steps):
        until(port, open_=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as response:
            assert response.read() == f"up {kind}".encode()
    until(port, open_=False)


def test_up_takes_the_services_own_port(live: Session, box: Steps) -> None:
    port = free_port()
    with asking(live, *on("Service", web(live, box, "native", port)), "up"):
        until(port, open_=True)
    until(port, open_=False)


def test_up_says_where_a_service_is(tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path) as own:
        box = own.base(base_archive)
        assert own.process.stderr is not None
        with asking(own, *on("Service", web(own, box, "any port")), ("up", {"random": True})):
            url = next(line for line in own.process.stderr if " is up: " in line).rpartition(" ")[2].strip()
            with urllib.request.urlopen(url) as response:
                assert response.read() == b"any port"
        assert not url.endswith(":8080")


@pytest.mark.parametrize("code", [0, 3])
def test_up_ends_with_its_service(live: Session, box: Steps, code: int) -> None:
    """The service takes any number of connections, and ends when one of them says so."""
    script = f"mkfifo /told; nc -ll -p 8080 -e sh -c 'read -r word && echo $word > /told' & read -r word < /told; exit {code}"
    service: Steps = (*box, ("withExposedPort", {"port": 8080}), ("asService", {"args": ["sh", "-c", script]}))
    port = free_port()
    with asking(live, *service, ("up", {"ports": [{"frontend": port, "backend": 8080}]})) as client:
        until(port, open_=True)
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            connection.sendall(b"end\n")
        answer = json.loads(client.getresponse().read())
    if code:
        assert "exited: exit code: 3" in answer["errors"][0]["message"]
    else:
        assert "errors" not in answer


@contextmanager
def listening(text: bytes) -> Iterator[int]:
    """Answer on a loopback port of the host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_ports_of_the_host(live: Session, box: Steps) -> None:
    with listening(b"from the host") as port:
        forward = {"frontend": 80, "backend": port, "protocol": Enum("TCP")}
        ident = live.value("host", ("service", {"ports": [forward]}), "id")
        assert live.value(*on("Service", ident), "ports", "port") == [80]
        assert live.value(*on("Service", ident), "endpoint").endswith(":80")
        assert get(live, *box, bind("h", ident), url="http://h") == "from the host"


def test_no_ports_of_the_host(live: Session) -> None:
    with pytest.raises(Failed, match="no ports"):
        live.value("host", ("service", {"ports": []}), "id")


def test_services_end_with_their_session(tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path / "cache") as session:
        box = session.base(base_archive)
        session.value(*on("Service", web(session, box, "x")), "start")
        session.value(*on("Service", web(session, box, "y")), "start")
    assert not left_over(tmp_path)


def test_forwards_are_read() -> None:
    host = Service.of_host([{"backend": 5, "frontend": None}, {"backend": 6, "frontend": 7, "protocol": "UDP"}], "localhost")
    assert host.forwards == (Forward(frontend=5, backend=5), Forward(frontend=7, backend=6, protocol="UDP"))
    assert host.container() is None
    assert host.ports() == ()
    assert host.inputs() == ()
    tunnel = Service.tunnel(host, native=False, ports=[{"backend": 5}])
    assert tunnel.forwards == (Forward(frontend=0, backend=5),)
    with pytest.raises(PocketError, match="port 70000 is not between"):
        Service.of_host([{"backend": 70000}], "localhost")
    with pytest.raises(PocketError, match="no ports to forward"):
        Service.tunnel(host, native=True, ports=[])
