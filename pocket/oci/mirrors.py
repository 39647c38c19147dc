"""Registry mirrors: other places that have what a registry has, asked first and never trusted with more than that.

`POCKET_REGISTRY_MIRRORS` names them: `docker.io=mirror.example/hub`, several separated by commas and tried in their order, then the
registry itself. Only what is read goes to a mirror; what comes is verified by digest as always, logins are the mirror's own, and a
mirror that cannot be reached or is in trouble is left out from then on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pocket.errors import PocketError
from pocket.oci.failures import RegistryError
from pocket.oci.reference import Reference, parse

VARIABLE = "POCKET_REGISTRY_MIRRORS"
_HINT = "for example docker.io=mirror.example/hub, or docker.io=http://10.0.0.1:5000"


@dataclass(slots=True)
class Mirrors:
    """The mirrors of each registry, as (registry, prefix of repositories); `plain` are those that are spoken to without TLS."""

    table: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)
    _down: set[str] = field(default_factory=set)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Mirrors:
        """Read the variable.

        Raises:
            PocketError: it is not of the form registry=mirror[,registry=mirror…].
        """
        mirrors = cls()
        for item in filter(None, (os.environ if environ is None else environ).get(VARIABLE, "").split(",")):
            registry, _, place = (part.strip() for part in item.partition("="))
            scheme, slashes, bare = place.rpartition("://")
            host, _, prefix = bare.strip("/").partition("/")
            try:
                ours, theirs = parse(f"{registry}/x/x"), parse(f"{host}/{prefix or 'x'}")
            except PocketError as e:
                raise PocketError(f"{VARIABLE}: {item!r} is not registry=mirror", hint=_HINT) from e
            if ours.repository != "x/x" or (slashes and scheme not in ("http", "https")) or theirs.registry != host:
                raise PocketError(f"{VARIABLE}: {item!r} is not registry=mirror", hint=_HINT)
            mirrors.table.setdefault(ours.registry, []).append((host, prefix))
            if scheme == "http":
                mirrors.plain.add(host)
        return mirrors

    def places(self, ref: Reference) -> Iterator[Reference]:
        """Give where to look for something, in order; the registry itself comes last."""
        for host, prefix in self.table.get(ref.registry, ()):
            if host not in self._down:
                yield replace(ref, registry=host, repository=f"{prefix}/{ref.repository}" if prefix else ref.repository)
        yield ref

    def note(self, place: Reference, error: PocketError) -> None:
        """Take note of a failure: a mirror that does not answer, or answers that it is in trouble, is not asked again."""
        if isinstance(error, RegistryError) and (not error.status or error.status in (401, 403, 429) or error.status >= 500):
            self._down.add(place.registry)
