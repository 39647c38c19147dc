"""Known vulnerabilities of the locked packages, from a server that speaks the API of OSV (https://google.github.io/osv.dev/api/).

One request asks about all packages, one more each about what was found. A server that does not answer within the deadline is no finding
and no failure: the scan says that advisories were not checked, and why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ci.sdk import load_httpx
from ci.stages.scan.found import Found, Severity, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_CONNECT, _ANSWER = 3.0, 10.0
_DETAILS = 40
_SEVERITIES: dict[str, Severity] = {"LOW": "low", "MODERATE": "medium", "MEDIUM": "medium", "HIGH": "high", "CRITICAL": "high"}


class NotChecked(Exception):
    """Nobody answered; the message says who and why."""


def look(url: str, lock: str, lines: Mapping[str, tuple[str, int]]) -> list[Found]:
    """Return a finding for each advisory about a locked package; `lock` is the file's path, `lines` its names → (version, line).

    Raises:
        NotChecked: the server cannot be asked, or does not answer as documented.

    """
    load_httpx()
    import httpx

    host = urlsplit(url).netloc
    names = list(lines)
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": lines[name][0]} for name in names]
    try:
        with httpx.Client(base_url=url, timeout=httpx.Timeout(_ANSWER, connect=_CONNECT), follow_redirects=True) as client:
            answer = client.post("/v1/querybatch", json={"queries": queries}).raise_for_status().json()
            told = [[str(one["id"]) for one in result.get("vulns") or ()] for result in answer["results"]]
            if len(told) != len(names):
                raise NotChecked(f"{host} answered about {len(told)} of {len(names)} packages")
            found = [(name, advisory) for name, advisories in zip(names, told, strict=True) for advisory in advisories]
            details = {advisory: _details(client, advisory) for advisory in sorted({one for _, one in found})[:_DETAILS]}
    except httpx.HTTPError as error:
        raise NotChecked(f"{host} did not answer ({_reason(error)})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotChecked(f"{host} answered something that is no list of advisories ({type(error).__name__})") from error
    return [_found(lock, lines, name, advisory, details.get(advisory, {})) for name, advisory in found]


def _details(client: httpx.Client, advisory: str) -> dict[str, Any]:
    answer = client.get(f"/v1/vulns/{quote(advisory, safe='')}")
    data = answer.json() if answer.is_success else {}
    return data if isinstance(data, dict) else {}


def _found(lock: str, lines: Mapping[str, tuple[str, int]], name: str, advisory: str, details: Mapping[str, Any]) -> Found:
    version, line = lines[name]
    aliases = ", ".join(str(alias) for alias in (details.get("aliases") or ())[:2])
    summary = " ".join(str(details.get("summary") or (details.get("details") or "known vulnerability")).split())[:160]
    fixed = _fixed(details, name)
    advice = f"fixed in {fixed}" if fixed else "no fixed version is known"
    known = f"{advisory} ({aliases})" if aliases else advisory
    return Found(advisory, _severity(details), f"{name} {version}: {known}: {summary}; {advice}", lock, line, key_of(advisory, name))


def _severity(details: Mapping[str, Any]) -> Severity:
    """Return the severity that the advisory states; without one it counts as high, because nobody has said that it is not."""
    stated = str((details.get("database_specific") or {}).get("severity", "")).upper()
    return _SEVERITIES.get(stated, "high")


def _fixed(details: Mapping[str, Any], name: str) -> str:
    for affected in details.get("affected") or ():
        if re.sub(r"[-_.]+", "-", str((affected.get("package") or {}).get("name", ""))).lower() != name:
            continue
        events = [event for span in affected.get("ranges") or () if span.get("type") != "GIT" for event in span.get("events") or ()]
        fixed = [str(event["fixed"]) for event in events if "fixed" in event]
        if fixed:
            return fixed[-1]
    return ""


def _reason(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
