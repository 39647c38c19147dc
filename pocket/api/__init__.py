"""The resolvers of Dagger's core API, a module per subject; `REGISTRY` says what is supported."""

from pocket.api import (
    address,
    changeset,
    container_files,
    container_image,
    container_run,
    container_settings,
    core,
    directory,
    envfile,
    file,
    git,
    host,
    http,
    jsonvalue,
    secret,
    service,
)
from pocket.api.registry import REGISTRY

__all__ = [
    "REGISTRY",
    "address",
    "changeset",
    "container_files",
    "container_image",
    "container_run",
    "container_settings",
    "core",
    "directory",
    "envfile",
    "file",
    "git",
    "host",
    "http",
    "jsonvalue",
    "secret",
    "service",
]
