"""The shape of `store`: where records and the memo outlive a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ci.config.limits import Limits
from ci.config.values import STRICT

_SCHEME = "oci://"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where records and the memo go besides the local cache, for machines that vanish after a run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    remote: str = ""
    """A repository of an OCI registry, `oci://registry.example/team/weighbridge`; `$WEIGHBRIDGE_STORE` stands above it. None when empty.
    Whoever may write there decides what counts as passed."""
    insecure: bool = False
    """Whether a registry that is not on loopback may be spoken to over plain HTTP."""
    timeout: Annotated[float, Limits(gt=0, le=600)] = 10.0
    """How long to wait for an answer before the run goes on without the store, in seconds."""

    def __post_init__(self) -> None:
        if self.remote and not (self.remote.startswith(_SCHEME) and "/" in self.remote.removeprefix(_SCHEME)):
            raise ValueError(f"remote must be oci://<registry>/<repository>, got {self.remote!r}")
