"""Ten Dockerfiles as people write them give the same image in pocket as in buildah: tree, modes, owners and settings.

Each case is a directory under tests/resources/dockerfiles: the context, `expected.json` (what buildah made) and `case.json`, which may
hold build arguments, secrets, archives to make, names that only mounts leave in buildah's image (`gone`), settings in which buildah
differs from BuildKit, each with the reason (`differs`), and paths with owners that no RUN can set with a single uid (`single_uid`).
Where buildah is at hand it builds again and pocket is compared with that too; elsewhere the test says so and compares with
`expected.json`. A `Dockerfile.buildah` says the same in the words that older versions of buildah know (no here-documents, --link,
--parents and --exclude). `UPDATE_EXPECTED=1` writes expected.json anew from buildah.
"""

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagger
import pytest
from accounts import ROOT
from buildah import LEFT_BEHIND, Buildah, why_not
from image_trees import changes, read

CASES = ROOT / "tests" / "resources" / "dockerfiles"
NAMES = sorted(path.name for path in CASES.iterdir())
NOT_CONTEXT = ("case.json", "expected.json", "Dockerfile.buildah")
PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".tar": bytes}
pytestmark = pytest.mark.xdist_group("dockerfile-cases")


@dataclass(frozen=True, slots=True)
class Case:
    """A context made ready, and what the build is given."""

    name: str
    context: Path
    options: dict[str, Any]


def archive() -> bytes:
    """Make the tar that an ADD unpacks: owners, modes and links of every kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, mode, owner, data in [
            ("tree", tarfile.DIRTYPE, 0o750, 1000, ""), ("tree/file", tarfile.REGTYPE, 0o4711, 1000, "from the archive"),
            ("tree/link", tarfile.SYMTYPE, 0o777, 0, "file"), ("tree/hard", tarfile.LNKTYPE, 0o4711, 1000, "tree/file"),
            ("top", tarfile.REGTYPE, 0o600, 7, "top"), ("implied/parent/file", tarfile.REGTYPE, 0o644, 0, ""),
        ]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, owner, owner, 1_700_000_000
            content = data.encode() if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(content), "" if kind == tarfile.REGTYPE else data
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def prepare(name: str, home: Path) -> Case:
    """Copy a context, with the modes that the umask of a checkout would hide, and make its archives."""
    context = home / name
    shutil.copytree(CASES / name, context, symlinks=True, ignore=shutil.ignore_patterns(*NOT_CONTEXT))
    for path in [context, *context.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    options = json.loads(path.read_text()) if (path := CASES / name / "case.json").exists() else {}
    for made in options.get("archives", []):
        (context / made).write_bytes(PACKERS[Path(made).suffix](archive()))
    return Case(name, context, options)


async def build(cases: list[Case], home: Path) -> dict[str, str]:
    """Build every case by Dagger's SDK in one session; give the errors by case."""
    errors = {}
    async with dagger.connection(dagger.Config(log_output=io.StringIO())):
        for case in cases:
            arguments = [dagger.BuildArg(k, v) for k, v in case.options.get("args", {}).items()]
            secrets = [dagger.dag.set_secret(k, v) for k, v in case.options.get("secrets", {}).items()]
            context = dagger.dag.host().directory(str(case.context))
            try:
                await context.docker_build(build_args=arguments, secrets=secrets).export(str(home / f"{case.name}.tar"))
            except dagger.QueryError as e:
                errors[case.name] = str(e)
    return errors


@dataclass(frozen=True, slots=True)
class Built:
    """Where pocket's images are, what failed, and the base of all."""

    cases: dict[str, Case]
    images: Path
    errors: dict[str, str]
    base: Path


@pytest.fixture(scope="module")
def built(base_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build all cases with pocket."""
    home = tmp_path_factory.mktemp("dockerfiles")
    cases = {name: prepare(name, home) for name in NAMES}
    launcher = home / "pocket"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec "{sys.executable}" -m pocket "$@"\n')
    launcher.chmod(0o755)
    images = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(launcher))
        patch.setenv("POCKET_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("POCKET_IMAGE_ARCHIVES", f"base={base_archive}")
        errors = asyncio.run(build(list(cases.values()), images))
    return Built(cases, images, errors, base_archive)


@pytest.fixture(scope="module")
def buildah(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Buildah | None:
    """Give buildah with the base, or None; the reason is printed."""
    if reason := why_not():
        print(f"compared with the committed expectations only: {reason}")
        return None
    return Buildah(tmp_path_factory.mktemp("buildah"), built.base)


def result(image: Path, built: Built, case: Case) -> dict[str, Any]:
    """Read an image; names that buildah's mounts leave behind are no difference."""
    tree, config = read(image)
    gone = {*LEFT_BEHIND, *case.options.get("gone", [])}
    base = read(built.base)[0]
    found = {path: row for path, row in changes(tree, base).items() if path not in gone}
    return {"tree": found, "config": config}


def by_buildah(buildah: Buildah, built: Built, case: Case, out: Path) -> dict[str, Any]:
    """Build with buildah."""
    other = CASES / case.name / "Dockerfile.buildah"
    dockerfile = other if other.exists() else case.context / "Dockerfile"
    args, secrets = case.options.get("args", {}), case.options.get("secrets", {})
    found = result(buildah.build(case.context, dockerfile, args=args, secrets=secrets, out=out / f"{case.name}.tar"), built, case)
    found["config"].update({setting: right for setting, (right, _) in case.options.get("differs", {}).items()})
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_image_is_buildahs(name: str, built: Built, buildah: Buildah | None, tmp_path: Path) -> None:
    case = built.cases[name]
    assert name not in built.errors, built.errors[name]
    ours = without_lost_owners(result(built.images / f"{name}.tar", built, case), case)
    committed = CASES / name / "expected.json"
    if buildah is not None:
        theirs = by_buildah(buildah, built, case, tmp_path)
        if os.environ.get("UPDATE_EXPECTED"):
            committed.write_text(text(theirs))
        assert not (found := differences(ours, theirs)), found
    expected = without_lost_owners(json.loads(committed.read_text()), case)
    assert not (found := differences(ours, expected)), found


def without_lost_owners(found: dict[str, Any], case: Case) -> dict[str, Any]:
    """Leave out, for one who has a single uid, the paths that show an owner which a command of a RUN set or asked for."""
    lost = case.options.get("single_uid", []) if os.geteuid() else []
    return {**found, "tree": {path: row for path, row in found["tree"].items() if path not in lost}}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Name what is not the same, one path or setting a line."""
    flat = [{**{f"/{k}": v for k, v in found["tree"].items()}, **found["config"]} for found in (ours, theirs)]
    wrong = [k for k in sorted({**flat[0], **flat[1]}) if flat[0].get(k) != flat[1].get(k)]
    return "\n".join(f"{k}: pocket {flat[0].get(k)}, buildah {flat[1].get(k)}" for k in wrong)


def text(found: dict[str, Any]) -> str:
    """Write a result with one line for each path."""
    rows = ",\n".join(f"  {json.dumps(path)}: {json.dumps(row)}" for path, row in found["tree"].items())
    return f'{{\n "config": {json.dumps(found["config"], indent=1)},\n "tree": {{\n{rows}\n }}\n}}\n'
