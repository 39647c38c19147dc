"""Registry authentication: challenges, bearer tokens and basic logins, remembered per scope.

A token service named by a registry gets that registry's credentials and no others, and never over plain http unless the registry
itself is spoken to so.
"""

import base64
import re
from dataclasses import dataclass

import httpx

from pocket.oci.credentials import Credentials, Keychain
from pocket.oci.failures import RegistryError, refused

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,\s*)(Bearer|Basic)(?=\s|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What `WWW-Authenticate` asks for."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""
    error: str = ""


def challenge(header: str) -> Challenge | None:
    """Parse a header; of several challenges Bearer is taken."""
    found = list(_SCHEME.finditer(header))
    best: Challenge | None = None
    for i, match in enumerate(found):
        end = found[i + 1].start() if i + 1 < len(found) else len(header)
        fields = {k.lower(): re.sub(r"\\(.)", r"\1", q) or bare for k, q, bare in _PARAMETER.findall(header[match.end() : end])}
        scheme = match[1].lower()
        if best is None or scheme == "bearer":
            best = Challenge(scheme, *(fields.get(k, "") for k in ("realm", "service", "scope", "error")))
    return best


class Authenticator:
    """Knows what to send to each registry. One per client, so that tokens live as long as the client."""

    def __init__(self, keychain: Keychain) -> None:
        self._keychain = keychain
        self._headers: dict[tuple[str, str], str] = {}

    def header(self, registry: str, scope: str) -> str | None:
        """Return the Authorization header that worked before, if any."""
        return self._headers.get((registry, scope))

    def forget(self, registry: str, scope: str) -> None:
        """Drop what was refused."""
        self._headers.pop((registry, scope), None)

    async def user(self, registry: str, scope: str) -> str:
        """Return the account in use, for messages."""
        found = await self._keychain.find(registry, _repository(scope))
        return (found.username or "token") if found else ""

    async def answer(self, http: httpx.AsyncClient, response: httpx.Response, registry: str, scope: str, *, plain: bool) -> str | None:
        """Return the header that answers a 401, or None when nothing can be said to it."""
        asked = challenge(", ".join(response.headers.get_list("www-authenticate")))
        if asked is None:
            return None
        known = await self._keychain.find(registry, _repository(scope))
        if asked.scheme == "basic":
            if known is None:
                return None
            self._headers[registry, scope] = _basic(known)
            return self._headers[registry, scope]
        header = f"Bearer {await self._token(http, asked, known, registry, scope, plain=plain)}"
        self._headers[registry, scope] = header
        return header

    async def _token(
        self, http: httpx.AsyncClient, asked: Challenge, known: Credentials | None, registry: str, scope: str, *, plain: bool
    ) -> str:
        url = httpx.URL(asked.realm)
        if url.scheme != "https" and not (plain and url.scheme == "http"):
            raise RegistryError(
                f"{registry} names {asked.realm!r} as its token service, which is not https",
                hint="do not trust this registry, or correct its configuration",
            )
        scopes = list(dict.fromkeys(filter(None, (*scope.split(" "), *asked.scope.split(" ")))))
        if known and known.identity_token:
            form = {"grant_type": "refresh_token", "service": asked.service, "scope": " ".join(scopes)}
            form |= {"client_id": "weighbridge", "refresh_token": known.identity_token}
            response = await http.post(url, data=form)
        else:
            query: list[tuple[str, str | int | float | bool | None]] = [("service", asked.service)] if asked.service else []
            query += [("scope", s) for s in scopes]
            headers = {"Authorization": _basic(known)} if known else {}
            response = await http.get(url.copy_merge_params(query), headers=headers)
        if response.status_code in (429, 500, 502, 503, 504):
            response.raise_for_status()
        if response.status_code != 200:
            raise refused(response, registry, f"get a token from {url.host}", user=known.username if known else "")
        try:
            body = response.json()
            token = body.get("token") or body["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryError(f"the token service {url.host} of {registry} gave no token", hint="tell the registry's operator") from None
        return str(token)


def _basic(c: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{c.username}:{c.password}".encode()).decode()


def _repository(scope: str) -> str:
    return scope.split(" ", 1)[0].removeprefix("repository:").rpartition(":")[0]
