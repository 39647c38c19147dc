"""The immutable values behind the API's objects: containers, mounts, secrets, services, ports and the like.

A container is its image settings, its mounts and a `Ref` to its root file system; every `with…` makes a new value and
nothing runs until somebody asks for content.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pocket.errors import PocketError
from pocket.graph import Leaf, Node, Ref, Tree

if TYPE_CHECKING:
    from pocket.services import Service

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by name; `uri` for those that the host provides. Its value is kept by the session, never in a graph or key."""

    ident: str
    name: str
    uri: str = ""


@dataclass(frozen=True, slots=True)
class CacheVolume:
    """A directory that outlives runs. `ident` is its place in the store: another sharing mode or owner is another volume."""

    ident: str
    sharing: str = "SHARED"
    seed: Tree | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container listens on."""

    port: int
    protocol: str = "TCP"
    description: str | None = None
    skip_healthcheck: bool = False
    from_image: bool = False  # listed, but not waited for


@dataclass(frozen=True, slots=True)
class Pair:
    """A named value: an environment variable or a label."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """An image's health check, with durations in nanoseconds."""

    args: tuple[str, ...]
    shell: bool = False
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """Something mounted at `target`; which of the sources is set depends on `kind`."""

    target: str
    kind: Literal["directory", "file", "cache", "temp", "secret", "socket"]
    tree: Tree | None = None
    leaf: Leaf | None = None
    cache: CacheVolume | None = None
    secret: Secret | None = None
    socket: str = ""
    readonly: bool = False
    owner: str = ""
    mode: int = 0
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image's configuration says of how to run it; None means never set."""

    env: tuple[Pair, ...] = ()
    workdir: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    labels: tuple[Pair, ...] = ()
    ports: tuple[Port, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container value."""

    rootfs: Ref
    platform: str = "linux/amd64"
    image: Image = field(default_factory=Image)
    mounts: tuple[MountPoint, ...] = ()
    secret_env: tuple[tuple[str, Secret], ...] = ()
    volatile_env: tuple[Pair, ...] = ()
    services: tuple[tuple[str, Service], ...] = ()
    annotations: tuple[Pair, ...] = ()
    gpus: tuple[str, ...] = ()
    last_exec: Node | None = None
    image_ref: str = ""
    default_args_set: bool = False

    def change(self, **changes: object) -> Container:
        """Give a copy with other fields; it is no longer the image that `from` gave."""
        return replace(self, image_ref="", **changes)  # type: ignore[arg-type]  # the field names are checked by replace

    def configure(self, **changes: object) -> Container:
        """Give a copy with other image settings."""
        return self.change(image=replace(self.image, **changes))  # type: ignore[arg-type]  # as above

    def resolve(self, path: str) -> str:
        """Give the absolute, normalised form of a path inside the container."""
        joined = posixpath.normpath(posixpath.join("/", self.image.workdir or "/", path))
        return "/" + joined.lstrip("/")

    def env(self, name: str) -> str | None:
        """Give the value of an environment variable."""
        return next((p.value for p in self.image.env if p.name == name), None)

    def expand(self, text: str) -> str:
        """Replace `$VAR`, `${VAR}` and the shell's special variables, which are empty, by the container's environment, as Go's os.Expand.

        Raises:
            PocketError: a secret or volatile variable is named; their values must not reach a graph.
        """
        secret = {name for name, _ in self.secret_env}
        volatile = {p.name for p in self.volatile_env}

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2] or match[3] or ""  # a brace that is not closed is dropped, as Go does
            if name in secret:
                raise PocketError(f'expand cannot be used with secret env variable "{name}"')
            if name in volatile:
                raise PocketError(f'expand cannot be used with volatile env variable "{name}"')
            return self.env(name) or ""

        return re.sub(r"\$(?:\{([^}]*)\}|\{|([*#$@!?0-9-])|([A-Za-z_][A-Za-z0-9_]*))", value, text)

    def mount_at(self, path: str) -> MountPoint | None:
        """Give the innermost mount that holds an absolute path."""
        holding = [m for m in self.mounts if path == m.target or path.startswith(m.target.rstrip("/") + "/")]
        return max(holding, key=lambda m: len(m.target), default=None)


def checked_port(number: int) -> int:
    """Give a port's number.

    Raises:
        PocketError: it is none.
    """
    if not 0 < number < 1 << 16:
        raise PocketError(f"port {number} is not between 1 and 65535")
    return number


def put(pairs: tuple[Pair, ...], name: str, value: str) -> tuple[Pair, ...]:
    """Set a named value in place, or at the end."""
    if any(p.name == name for p in pairs):
        return tuple(Pair(name, value) if p.name == name else p for p in pairs)
    return (*pairs, Pair(name, value))


def drop(pairs: tuple[Pair, ...], name: str) -> tuple[Pair, ...]:
    """Remove a named value."""
    return tuple(p for p in pairs if p.name != name)


def labels_of(values: Mapping[str, str]) -> tuple[Pair, ...]:
    """Give named values in a fixed order."""
    return tuple(Pair(k, v) for k, v in sorted(values.items()))
