"""Manifests, indexes, descriptors and platforms as typed values; JSON only at the edge.

What a registry sent is kept as its bytes elsewhere (the digest is over those); these types are what a program reads and
builds. Unknown fields of a manifest are ignored. An index may hold entries for other things than images; they are kept.
"""

import json
import platform as host
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci import media

REF_NAME = "org.opencontainers.image.ref.name"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_SPELLINGS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_ALONE = {"amd64", "arm64", "arm", "386", "ppc64le", "riscv64", "s390x"}  # what goes without an operating system
_VARIANTS = {("arm64", "v8"): "", ("arm", "v7"): "", ("amd64", "v1"): ""}


class ManifestError(PocketError):
    """A manifest, index or image configuration that does not say what it must."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and variant in Go's spelling, e.g. linux/arm64/v8."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)

    def matches(self, other: "Platform") -> bool:
        """Say whether both mean the same machine; arm64/v8 is arm64, arm/v7 is arm."""
        return self.plain == other.plain

    @property
    def plain(self) -> tuple[str, str, str]:
        """The platform without a variant that goes without saying."""
        return self.os, self.architecture, _VARIANTS.get((self.architecture, self.variant), self.variant)

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Read `os/architecture[/variant]`, or an architecture alone, in any spelling that containerd knows; give the usual one."""
        parts = text.lower().split("/")
        if len(parts) == 1 and _SPELLINGS.get(parts[0], parts[0]) in _ALONE:
            parts = ["linux", *parts]
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise ManifestError(f"invalid platform {text!r}", hint="write os/architecture[/variant], such as linux/amd64")
        system, machine, variant = (*parts, "")[:3]
        architecture = _SPELLINGS.get(machine, machine)
        usual = {("amd64", "v1"): "", ("386", variant): "", ("arm64", "v8.0"): "v8", ("arm", ""): "v6" if machine == "armel" else ""}
        variant = f"v{variant}" if architecture.startswith("arm") and variant[:1].isdigit() else variant
        return cls({"macos": "darwin"}.get(system, system), architecture, usual.get((architecture, variant), variant))

    @classmethod
    def local(cls) -> "Platform":
        """Return the platform of this machine."""
        machine = host.machine()
        return cls("linux", _MACHINES.get(machine, machine))


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points to content: its type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value, fields in the order of the specification."""
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            p = self.platform
            out["platform"] = {"architecture": p.architecture, "os": p.os, **({"variant": p.variant} if p.variant else {})}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        if self.annotations:
            out["annotations"] = dict(sorted(self.annotations.items()))
        return out

    @classmethod
    def from_json(cls, raw: Any) -> "Descriptor":
        """Read a descriptor. Raises ManifestError or DigestError."""
        d = _object(raw, "a descriptor")
        size = d.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ManifestError(f"a descriptor has the size {size!r}")
        p = d.get("platform")
        return cls(
            media_type=text(d, "mediaType"),
            digest=dg.checked(text(d, "digest")),
            size=size,
            annotations=strings(d.get("annotations")),
            platform=Platform(text(p, "os"), text(p, "architecture"), text(p, "variant")) if isinstance(p, dict) else None,
            artifact_type=text(d, "artifactType"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image or artefact: a configuration and layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = media.OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON; equal values give equal bytes."""
        out: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        out["config"] = self.config.to_json()
        out["layers"] = [d.to_json() for d in self.layers]
        if self.subject:
            out["subject"] = self.subject.to_json()
        return _finish(out, self.annotations)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestIndex:
    """Several manifests under one name, usually one per platform."""

    manifests: tuple[Descriptor, ...]
    media_type: str = media.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON; equal values give equal bytes."""
        out: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        out["manifests"] = [d.to_json() for d in self.manifests]
        if self.subject:
            out["subject"] = self.subject.to_json()
        return _finish(out, self.annotations)

    def select(self, want: Platform) -> Descriptor:
        """Return the manifest for a platform; one without a platform is taken when it is the only one.

        Raises ManifestError that lists what there is.
        """
        known = [d for d in self.manifests if d.platform and d.platform.os != "unknown"]
        exact = [d for d in known if d.platform == want] or [d for d in known if d.platform and d.platform.matches(want)]
        if exact:
            return exact[0]
        if len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]
        have = ", ".join(sorted({str(d.platform) for d in known})) or "none"
        raise ManifestError(f"no match for platform {want} (there is: {have})", hint="ask for one of these platforms")


def read(data: bytes, media_type: str = "") -> Manifest | ManifestIndex:
    """Parse a manifest or an index; the media type inside wins over the one given."""
    d = _object(_load(data), "a manifest")
    kind = text(d, "mediaType") or media_type.partition(";")[0].strip()
    if d.get("schemaVersion") != 2:
        raise ManifestError(
            f"a manifest has the schema version {d.get('schemaVersion')!r}; only 2 is supported",
            hint="push the image again with a tool made after 2017",
        )
    subject = Descriptor.from_json(d["subject"]) if d.get("subject") else None
    notes, artifact = strings(d.get("annotations")), text(d, "artifactType")
    if kind in media.INDEXES or (kind not in media.MANIFESTS and "manifests" in d):
        entries = tuple(map(Descriptor.from_json, _array(d, "manifests")))
        return ManifestIndex(
            manifests=entries, media_type=kind or media.OCI_INDEX, annotations=notes, artifact_type=artifact, subject=subject
        )
    if "config" not in d:
        raise ManifestError(f"not an image manifest ({kind or 'no media type'})", hint="check that the reference names an image")
    return Manifest(
        config=Descriptor.from_json(d["config"]),
        layers=tuple(map(Descriptor.from_json, _array(d, "layers"))),
        media_type=kind or media.OCI_MANIFEST,
        annotations=notes,
        artifact_type=artifact,
        subject=subject,
    )


def encode(value: Any) -> bytes:
    """Return JSON in the one form that this package writes: compact, UTF-8, keys in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def text(d: Mapping[str, Any], key: str) -> str:
    """Return a string field, "" when absent or null."""
    value = d.get(key)
    if value is not None and not isinstance(value, str):
        raise ManifestError(f"{key} is not a string: {value!r:.80}")
    return value or ""


def strings(raw: Any) -> dict[str, str]:
    """Return a map of strings; null counts as empty."""
    return {str(k): str(v) for k, v in _object(raw or {}, "annotations").items()}


def load_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse JSON that must be an object; `what` names it in the error."""
    return _object(_load(data), what)


def _load(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ManifestError(f"not JSON: {e}", hint="the content is damaged or is no manifest") from e


def _object(raw: Any, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ManifestError(f"{what} is not an object: {raw!r:.80}")
    return raw


def _array(d: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = d.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestError(f"{key} is not a list: {value!r:.80}")
    return value


def _finish(out: dict[str, Any], annotations: Mapping[str, str]) -> bytes:
    if annotations:
        out["annotations"] = dict(sorted(annotations.items()))
    return encode(out)
