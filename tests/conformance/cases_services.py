"""Services: reached by alias and name, shared, stopped, dying, on ports of the host and through tunnels."""

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import dagger
from casebook import ANY, Ctx, case, fails

HTTPD = ["httpd", "-f", "-p", "8080", "-h", "/www"]


def web(x: Ctx, text: str, port: int = 8080) -> Any:
    """Give a service that serves one page."""
    c = x.base.with_new_file("/www/index.html", text).with_exposed_port(port)
    return c.as_service(args=["httpd", "-f", "-p", str(port), "-h", "/www"])


def get(c: Any, url: str) -> Any:
    """Fetch a page in a container."""
    return c.with_exec(["wget", "-qO-", url]).stdout()


async def fetch(url: str) -> bytes:
    """Fetch a page from the host."""

    def read() -> bytes:
        with urllib.request.urlopen(url) as response:
            body: bytes = response.read()
            return body

    return await anyio.to_thread.run_sync(read)


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[int]:
    """Answer every connection on a loopback port of the host with one text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@case(["one", "two"])
async def two_services_on_one_port(x: Ctx) -> Any:
    c = x.fresh().with_service_binding("a", web(x, "one")).with_service_binding("b", web(x, "two"))
    return [await get(c, "http://a:8080"), await get(c, "http://b:8080")]


@case(["same", "same"])
async def one_service_under_two_names(x: Ctx) -> Any:
    s = web(x, "same")
    c = x.fresh().with_service_binding("a", s).with_service_binding("b", s)
    return [await get(c, "http://a:8080"), await get(c, "http://b:8080")]


@case("first")
async def alias_bound_again(x: Ctx) -> Any:
    return await get(x.fresh().with_service_binding("w", web(x, "first")).with_service_binding("w", web(x, "second")), "http://w:8080")


@case("from behind")
async def service_that_needs_a_service(x: Ctx) -> Any:
    script = "wget -qO /www/index.html http://back:8080 && exec httpd -f -p 8081 -h /www"
    front = x.base.with_new_file("/www/x", "").with_service_binding("back", web(x, "from behind")).with_exposed_port(8081)
    return await get(x.fresh().with_service_binding("front", front.as_service(args=["sh", "-c", script])), "http://front:8081")


@case([True, False])
async def hostname_follows_what_the_service_is(x: Ctx) -> Any:
    a, b, c = [await web(x, text).hostname() for text in ("h1", "h1", "h2")]
    return [a == b, a == c]


@case(["unreachable", "back"])
async def stopped_and_started_again(x: Ctx) -> Any:
    s = web(x, "back").with_hostname("again" + x.salt[:6])
    await s.start()
    await s.stop()
    host = await s.hostname()
    script = f"wget -T 2 -qO- http://{host}:8080 2>/dev/null || echo unreachable"
    out = await x.fresh().with_exec(["sh", "-c", script]).stdout()
    await s.start()
    page = await get(x.fresh().with_env_variable("N", "2"), f"http://{host}:8080")
    await s.stop(kill=True)
    return [out.strip(), page]


@case([3, "RE:.*exit code: 3.*", "no luck\n"])
async def service_that_fails_says_why(x: Ctx) -> Any:
    s = x.base.with_exposed_port(90).as_service(args=["sh", "-c", "echo no luck >&2; sleep 0.05; exit 3"])
    try:
        await s.start()
    except dagger.ExecError as e:
        return [e.exit_code, str(e), e.stderr]


@case(fails("RE:bound service .* \\(aliased as mortal\\) exited: exit code: 7"))
async def service_that_dies_while_it_is_used(x: Ctx) -> Any:
    script = "httpd -p 91 -h /www; while [ ! -e /www/end ]; do nc -l -p 92 >/dev/null && exit 7; done"
    s = x.base.with_new_file("/www/index.html", "").with_exposed_port(91).as_service(args=["sh", "-c", script])
    c = x.fresh().with_service_binding("mortal", s)
    return await c.with_exec(["sh", "-c", "echo | nc mortal 92; sleep 1; echo went on"]).stdout()


@case(["RE:\\w+:8080", "http://fixed:8080", ANY])
async def endpoints(x: Ctx) -> Any:
    s = web(x, "e")
    return [await s.endpoint(), await s.with_hostname("fixed").endpoint(scheme="http"), await s.hostname()]


@case([[8080, "TCP"]])
async def ports_of_a_service(x: Ctx) -> Any:
    return [[await p.port(), (await p.protocol()).value] for p in await web(x, "p").ports()]


@case("entry default\n")
async def service_runs_entrypoint_and_arguments(x: Ctx) -> Any:
    c = x.base.with_new_file("/serve", '#!/bin/sh\necho "$@" > /www/index.html\nexec httpd -f -p 93 -h /www\n', permissions=0o755)
    c = c.with_new_file("/www/x", "").with_entrypoint(["/serve", "entry"]).with_default_args(["default"]).with_exposed_port(93)
    return await get(x.fresh().with_service_binding("s", c.as_service(use_entrypoint=True)), "http://s:93")


@case("kept")
async def service_sees_mounts_and_variables(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/www", x.dag.directory().with_new_file("index.html", "kept")).with_env_variable("P", "94")
    s = c.with_exposed_port(94).as_service(args=["sh", "-c", "exec httpd -f -p $P -h /www"])
    return await get(x.fresh().with_service_binding("s", s), "http://s:94")


@case(["tunnel", "tunnel"])
async def tunnel_to_a_chosen_port(x: Ctx) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    t = x.dag.host().tunnel(web(x, "tunnel"), ports=[dagger.PortForward(backend=8080, frontend=port)])
    await t.start()
    pages = [(await fetch(f"http://127.0.0.1:{port}")).decode() for _ in range(2)]
    await t.stop()
    return pages


@case(True)
async def tunnel_carries_much(x: Ctx) -> Any:
    c = x.base.with_exec(["sh", "-c", "mkdir /www; head -c 5000000 /dev/zero | tr '\\0' z > /www/index.html"]).with_exposed_port(95)
    t = await x.dag.host().tunnel(c.as_service(args=["httpd", "-f", "-p", "95", "-h", "/www"])).start()
    body = await fetch(await t.endpoint(scheme="http"))
    await t.stop()
    return body == b"z" * 5_000_000


@case(fails("no ports to forward"))
async def tunnel_without_ports(x: Ctx) -> Any:
    return await x.dag.host().tunnel(x.base.as_service(args=["sleep", "60"])).start()


@case(["host one", "host two"])
async def two_ports_of_the_host(x: Ctx) -> Any:
    with answering(b"host one") as a, answering(b"host two") as b:
        ports = [dagger.PortForward(frontend=80, backend=a), dagger.PortForward(frontend=81, backend=b)]
        c = x.fresh().with_service_binding("h", x.dag.host().service(ports))
        return [await get(c, "http://h:80"), await get(c, "http://h:81")]


@case("same number")
async def port_of_the_host_under_its_own_number(x: Ctx) -> Any:
    with answering(b"same number") as port:
        c = x.fresh().with_service_binding("h", x.dag.host().service([dagger.PortForward(backend=port)]))
        return await get(c, f"http://h:{port}")


@case("udp\n")
async def ports_that_are_not_tcp_are_not_waited_for(x: Ctx) -> Any:
    udp = dagger.NetworkProtocol.UDP
    s = x.base.with_exposed_port(53, protocol=udp).as_service(args=["sleep", "300"])
    return await x.fresh().with_service_binding("u", s).with_exec(["echo", "udp"]).stdout()


@case("not waited for\n")
async def health_check_skipped(x: Ctx) -> Any:
    s = x.base.with_exposed_port(96, experimental_skip_healthcheck=True).as_service(args=["sleep", "300"])
    return await x.fresh().with_service_binding("u", s).with_exec(["echo", "not waited for"]).stdout()


@case(True)
async def bound_step_is_cached_by_what_the_service_is(x: Ctx) -> Any:
    async def run() -> Any:
        return await x.fresh().with_service_binding("w", web(x, "cached")).with_exec(["cat", "/proc/sys/kernel/random/uuid"]).stdout()

    return await run() == await run()
