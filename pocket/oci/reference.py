"""Image references as Docker writes them: `alpine`, `ghcr.io/o/n:tag`, `localhost:5000/n@sha256:…`.

The grammar is the one of distribution/reference; a short name means docker.io/library. Only sha256 digests are taken.
"""

import re
from dataclasses import dataclass, replace

from pocket.errors import PocketError

DOCKER_HUB = "docker.io"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_NAME = 255


class InvalidReference(PocketError):
    """A text that is not an image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry, a repository in it, and a tag, a digest, both or neither."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """The full name without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What to ask a registry for: the digest when there is one, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def with_digest(self, digest: str) -> "Reference":
        """Return the same name pinned to a digest."""
        return replace(self, digest=digest)

    def with_tag(self, tag: str) -> "Reference":
        """Return this name under another tag, without a digest."""
        if not _TAG.fullmatch(tag):
            raise InvalidReference(f"invalid tag format: {tag!r}", hint="a tag has up to 128 letters, digits, '_', '.' and '-'")
        return replace(self, tag=tag, digest=None)


def parse(text: str, *, default_tag: str | None = "latest") -> Reference:
    """Parse and normalise a reference; the default tag is added only where neither tag nor digest is given.

    Raises InvalidReference, whose message holds `invalid reference format` as Docker's does.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "a digest looks like sha256:<64 hex digits>")
    colon = rest.rfind(":")
    tag: str | None = None
    if colon > rest.rfind("/"):
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise _invalid(text, "a tag has up to 128 letters, digits, '_', '.' and '-'")
    registry, path = _split_domain(rest)
    if not _DOMAIN.fullmatch(registry):
        raise _invalid(text, f"{registry!r} is not the name of a registry")
    if not _PATH.fullmatch(path):
        if path.lower() != path and _PATH.fullmatch(path.lower()):
            raise _invalid(text, f"repository name ({path}) must be lowercase")
        raise _invalid(text, "write [registry/]name[:tag][@sha256:…]")
    if len(path) > _LONGEST_NAME:
        raise _invalid(text, f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(registry, path, tag or (None if digest else default_tag), digest or None)


def _split_domain(name: str) -> tuple[str, str]:
    """Tell a registry from the first part of a path: it has a dot, a colon or an upper-case letter, or is localhost."""
    first, slash, rest = name.partition("/")
    if not slash or (first != "localhost" and first == first.lower() and "." not in first and ":" not in first):
        first, rest = DOCKER_HUB, name
    if first == "index.docker.io":
        first = DOCKER_HUB
    if first == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


def _invalid(text: str, hint: str) -> InvalidReference:
    return InvalidReference(f"{text!r}: invalid reference format", hint=hint)
