"""The resolvers of Dagger's core API, a module per subject; `REGISTRY` says what is supported."""

from pocket.api import (
    container_files,
    container_image,
    container_run,
    container_settings,
    core,
    directory,
    file,
    host,
    secret,
    service,
)
from pocket.api.registry import REGISTRY

__all__ = [
    "REGISTRY",
    "container_files",
    "container_image",
    "container_run",
    "container_settings",
    "core",
    "directory",
    "file",
    "host",
    "secret",
    "service",
]
