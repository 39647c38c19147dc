"""build: the service's image from its Python lock, in layers ordered by how often they change, or from its Dockerfile.

Without a Dockerfile: base, then dependencies, then weights, then the model's configuration, then code: a changed line of code is one small
layer on top. The dependencies are made in a container of their own, so pip, its cache and the machine's settings never come near the image.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.artefact import kind_of
from ci.stage import Context, InfraError, StageResult
from ci.stages import common, kept, recipe
from ci.stages.common import VENV, host_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """The built image, which lies in the cache as an OCI archive."""

    digest: str
    size: int
    """Sum of its layers as they are stored, in bytes."""
    layers: int


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:  # noqa: ARG001  every stage is called alike
    """Build the image and keep it in the cache."""
    image = await (_from_dockerfile(ctx) if ctx.config.build.dockerfile else _from_parts(ctx))
    for name, value in sorted(labels(ctx).items()):
        image = image.with_label(name, value)
    with kept.incoming(ctx.cache) as part:
        await image.export(str(part))
        digest, size, layers = describe_archive(part)
        kept.keep(ctx.cache, part, digest)
    return Result(f"{common.megabytes(size)}, {common.plural(layers, 'layer')}", digest, size, layers)


async def _from_dockerfile(ctx: Context) -> dagger.Container:
    build = ctx.config.build
    with common.subject_fault(f"building {build.dockerfile}"):
        image = await (await recipe.built(ctx)).sync()
    image = image.with_exposed_port(build.port)
    return image.with_entrypoint(list(build.entrypoint)).without_default_args() if build.entrypoint else image


async def _from_parts(ctx: Context) -> dagger.Container:
    with common.subject_fault(
        "installing requirements", hint=f"check {ctx.config.build.requirements}: every package needs a version and hashes"
    ):
        dependencies = await common.installed(ctx, ctx.config.build.requirements).with_exec(_DATED).directory(_COPY).sync()
    return service_image(ctx, dependencies)


def service_image(ctx: Context, dependencies: dagger.Directory) -> dagger.Container:
    """Put the image together from the base, the dependencies, the model and the code."""
    build, subject = ctx.config.build, ctx.config.subject
    model = model_files(ctx)
    weights = [name for name in model if kind_of(name) == "weight"]
    others = [name for name in (*model, subject.lock) if name not in weights]
    image = (
        common.start(ctx)
        .with_exec(["sh", "-c", _ADD_USER, "add-user", build.user])
        .with_directory(VENV, dependencies)
        .with_directory(build.workdir, public_tree(ctx, weights))
        .with_directory(build.workdir, public_tree(ctx, others))
        .with_directory(build.workdir, public_tree(ctx, [subject.source]))
        .with_env_variable("PATH", common.PATH)
        .with_env_variable("PYTHONPATH", f"{build.workdir}/{subject.source}")
        .with_workdir(build.workdir)
        .with_user(build.user)
        .with_exposed_port(build.port)
        .with_entrypoint(list(build.entrypoint or ()))
        .without_default_args()
    )
    for name, value in sorted(build.env.items()):
        image = image.with_env_variable(name, value)
    return image


def public_tree(ctx: Context, names: Sequence[str]) -> dagger.Directory:
    """Take files of the subject as every machine has them."""
    return common.public(ctx, host_tree(ctx, ctx.subject, names))


# A virtual environment has links to what only its container has; `withTimestamps` of a Dagger engine follows them, and fails.
# A copy, because a layer says nothing of a directory of which only the time changed.
_COPY = "/dated"
_DATED = ["sh", "-c", f"cp -a {VENV} {_COPY} && find {_COPY} -exec touch -h -d @{common.FIXED_TIME} {{}} +"]

# A base that has the user keeps its own entry; uid 1000 is what most images give the first ordinary user.
_ADD_USER = """
case "$1" in *[!0-9:]*) ;; *) exit 0;; esac
grep -q "^${1%%:*}:" /etc/passwd || {
    echo "${1%%:*}:x:1000:1000::/home/${1%%:*}:/bin/sh" >> /etc/passwd
    echo "${1%%:*}:x:1000:" >> /etc/group
}
"""


def labels(ctx: Context) -> dict[str, str]:
    """Name what the image is made of: commit, model, base."""
    named = {
        "org.opencontainers.image.title": subject_name(ctx),
        "org.opencontainers.image.revision": ctx.facts.commit,
        "weighbridge.model.lock": "sha256:" + _sha256(ctx.subject / ctx.config.subject.lock),
        "weighbridge.dirty": "true" if ctx.facts.dirty else "",
    }
    return {**ctx.base.labels, **{name: value for name, value in named.items() if value}}


def subject_name(ctx: Context) -> str:
    """Return the name of image and artefact."""
    return ctx.config.subject.name or ctx.subject.name


def model_files(ctx: Context) -> list[str]:
    """Return the files of the model that the lock names, relative to the subject."""
    lock = ctx.subject / ctx.config.subject.lock
    parent = Path(ctx.config.subject.lock).parent
    return [str(parent / name) for name in sorted(json.loads(lock.read_bytes())["files"])]


def describe_archive(path: Path) -> tuple[str, int, int]:
    """Read an OCI archive's manifest digest, the sum of its layers' sizes in bytes, and their number."""
    with tarfile.open(path) as tar:

        def document(name: str) -> Any:
            member = tar.extractfile(name)
            if member is None:
                raise KeyError(name)
            return json.load(member)

        try:
            (described,) = document("index.json")["manifests"]
            manifest = document("blobs/" + described["digest"].replace(":", "/"))
        except (KeyError, ValueError) as error:
            raise InfraError(f"the engine exported something that is no OCI image: {error}") from error
    layers = manifest["layers"]
    return described["digest"], sum(layer["size"] for layer in layers), len(layers)


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
