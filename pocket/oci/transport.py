"""HTTP to registries: which scheme and proxy, authentication, redirects, retries.

Plain http is used for loopback registries that speak it and where it was asked for, never as a fall-back for others. Redirects are
followed here and not by httpx, so that Authorization never leaves the host it is meant for. What may be repeated is repeated:
connections that fail, 408, 429 and 5xx, with Retry-After honoured.
"""

import asyncio
import contextlib
import email.utils
import ipaddress
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from pocket.oci.auth import Authenticator
from pocket.oci.credentials import Keychain
from pocket.oci.failures import RegistryError, hopeless, refused, unreachable
from pocket.oci.reference import DOCKER_HUB

Body = bytes | Callable[[], AsyncIterator[bytes]] | None
_AGAIN = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_LARGEST = 16 << 20  # bytes of an answer that is held in memory
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often to try (the first time included) and how long to wait: `base` doubles; seconds."""

    attempts: int = 5
    base: float = 0.25
    longest: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def wait(self, attempt: int, response: httpx.Response | None = None) -> None:
        """Wait before the next attempt, as long as the registry says or a little longer each time."""
        delay = self.base * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 — spreads clients, hides nothing
        if response is not None:
            delay = max(delay, _retry_after(response))
        await self.sleep(min(delay, self.longest))


class Transport:
    """Sends requests to registries. Use as an async context manager, in one event loop."""

    def __init__(self, keychain: Keychain, *, plain_http: Collection[str] = (), retry: Retry | None = None) -> None:
        self.retry = retry or Retry()
        self._auth = Authenticator(keychain)
        self._plain = frozenset(plain_http)
        self._schemes: dict[str, str] = {}
        self._probing = asyncio.Lock()
        self._clients: dict[tuple[bool, str], httpx.AsyncClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def request(
        self,
        registry: str,
        method: str,
        path: str,
        *,
        what: str,
        scope: str,
        ok: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        again: bool = True,
    ) -> httpx.Response:
        """Send a request and read the whole answer. Raises RegistryError for any status that is not in `ok`.

        `path` is below the registry, or a URL that it gave; `again` says whether the request may be repeated.
        """
        async with self.stream(registry, method, path, what=what, scope=scope, ok=ok, headers=headers, body=body, again=again) as response:
            return await _read(response, registry, what)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        registry: str,
        method: str,
        path: str,
        *,
        what: str,
        scope: str,
        ok: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        again: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and give the answer with its body unread."""
        response = await self._persist(registry, method, path, what, scope, headers or {}, body, again=again)
        try:
            if response.status_code not in ok:
                answer = await _read(response, registry, what)
                raise refused(answer, registry, what, user=await self._auth.user(registry, scope))
            yield response
        finally:
            await response.aclose()

    async def _persist(
        self, registry: str, method: str, path: str, what: str, scope: str, headers: Mapping[str, str], body: Body, *, again: bool
    ) -> httpx.Response:
        last = self.retry.attempts - 1 if again else 0
        for attempt in range(last + 1):
            answer: httpx.Response | None = None
            try:
                base = await self._base(registry)
                answer = await self._authorised(registry, method, base, path, scope, headers, body)
                if answer.status_code not in _AGAIN or attempt == last:
                    return answer
                await answer.aclose()
            except httpx.HTTPStatusError as e:
                answer = e.response  # of the token service
                if attempt == last:
                    raise refused(answer, registry, what) from e
            except (httpx.TransportError, OSError) as e:
                if attempt == last or (attempt > 1 and isinstance(e, httpx.ConnectError)) or hopeless(e):
                    raise unreachable(e, registry, what) from e
            await self.retry.wait(attempt, answer)
        raise RegistryError(f"cannot {what}: no attempt is allowed", hint="allow at least one")

    async def _authorised(
        self, registry: str, method: str, base: httpx.URL, path: str, scope: str, headers: Mapping[str, str], body: Body
    ) -> httpx.Response:
        """Send with what worked before; on 401 answer the challenge once, with a fresh token."""
        response = await self._follow(method, base, path, headers, self._auth.header(registry, scope), body)
        if response.status_code != 401:
            return response
        self._auth.forget(registry, scope)
        header = await self._auth.answer(self._client(base), response, registry, scope, plain=base.scheme == "http")
        if header is None:
            return response
        await response.aclose()
        return await self._follow(method, base, path, headers, header, body)

    async def _follow(
        self, method: str, base: httpx.URL, path: str, headers: Mapping[str, str], authorization: str | None, body: Body
    ) -> httpx.Response:
        """Send, and follow redirects. Authorization goes to the registry's own origin only, whoever names another one."""
        url = base.join(path)
        for _ in range(_MOST_REDIRECTS + 1):
            if url.scheme not in ("http", "https") or (base.scheme == "https" and url.scheme == "http"):
                raise RegistryError(f"{base.host} leads to {url.scheme}://{url.host}", hint="do not trust this registry")
            client = self._client(url)
            sent = dict(headers)
            if authorization and _origin(url) == _origin(base):
                sent["Authorization"] = authorization
            content = body() if callable(body) else body
            response = await client.send(client.build_request(method, url, headers=sent, content=content), stream=True)
            target = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not target:
                return response
            await response.aclose()
            url = url.join(target)
            if response.status_code == 303:
                method, body = "GET", None
        raise RegistryError(f"{base.host} redirects more than {_MOST_REDIRECTS} times", hint="tell the registry's operator")

    async def _base(self, registry: str) -> httpx.URL:
        """Return the URL of a registry. A loopback registry is asked once which scheme it speaks."""
        host = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        if registry in self._plain:
            return httpx.URL(f"http://{host}")
        if not is_loopback(registry):
            return httpx.URL(f"https://{host}")
        async with self._probing:
            if registry not in self._schemes:
                self._schemes[registry] = await self._probe(host)
        return httpx.URL(f"{self._schemes[registry]}://{host}")

    async def _probe(self, host: str) -> str:
        url = httpx.URL(f"http://{host}/v2/")
        try:
            response = await self._client(url).get(url)
        except httpx.RemoteProtocolError:  # how some TLS servers answer plain http; others say it with a 400
            return "https"
        return "https" if response.status_code == 400 and b"HTTPS" in response.content else "http"

    def _client(self, url: httpx.URL) -> httpx.AsyncClient:
        """Return a client: loopback addresses are reached directly, everything else as the proxy variables say."""
        direct = is_loopback(url.host)
        key = direct, url.scheme
        if key not in self._clients:
            self._clients[key] = httpx.AsyncClient(
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if key == (True, "http") else tls_context(),
                trust_env=not direct,
                follow_redirects=False,
                timeout=httpx.Timeout(60, connect=15, pool=None),
                limits=httpx.Limits(max_connections=16),
                headers={"User-Agent": "weighbridge-pocket", "Accept-Encoding": "identity"},
            )
        return self._clients[key]


def is_loopback(registry: str) -> bool:
    """Say whether a registry (`host` or `host:port`) is on this machine, by its name alone."""
    host = registry[1:].partition("]")[0] if registry.startswith("[") else registry
    if host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts what this machine trusts: SSL_CERT_FILE and SSL_CERT_DIR, then OpenSSL's own places."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not os.environ.get("SSL_CERT_FILE"):
        # An interpreter that was built elsewhere may look for certificates where this machine has none.
        for bundle in _BUNDLES:
            if os.path.exists(bundle):
                context.load_verify_locations(bundle)
                break
    return context


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


async def _read(response: httpx.Response, registry: str, what: str) -> httpx.Response:
    """Read an answer into memory, up to a limit; nothing is decompressed, because nothing compressed was asked for."""
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > _LARGEST:
                raise RegistryError(f"cannot {what}: {registry} sent more than {_LARGEST} bytes", hint="do not trust this registry")
    except httpx.TransportError as e:
        raise unreachable(e, registry, what) from e
    headers = httpx.Headers(response.headers)
    headers.pop("content-encoding", None)
    return httpx.Response(response.status_code, headers=headers, content=bytes(data), request=response.request)
