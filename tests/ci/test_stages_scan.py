"""The scan: what it finds, what it does not hold against anybody, and what it says it did not look at."""

import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pipelines import CONFIG
from planted import AWS, GITHUB

from ci.change import change_of
from ci.cli import run as ci_run
from ci.config.load import load
from ci.config.model import Config
from ci.facts import collect
from ci.inputs import _version
from ci.record import StageEntry, StageRecord
from ci.stage import Context, StageFailed
from ci.stages import STAGES, scan
from ci.stages.build import Result as Built
from ci.stages.scan import baseline
from ci.stages.scan.image import Memory, Package, look
from ci.stages.scan.leaks import Detectors


@pytest.fixture
def detectors(tmp_path: Path) -> Iterator[Detectors]:
    (tmp_path / "scratch").mkdir()
    with Detectors(tmp_path / "scratch", {}) as ready:
        yield ready


def _layer(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _archive(path: Path, *layers: Mapping[str, bytes], env: tuple[str, ...] = ()) -> str:
    """Write an OCI archive; returns the digest of its manifest."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    packed = [blob(_layer(files)) for files in layers]
    config = blob(json.dumps({"config": {"Env": list(env)}, "rootfs": {}}).encode())
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": packed}).encode())
    with tarfile.open(path, "w") as tar:
        members = {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
        for name, data in {"index.json": json.dumps({"manifests": [manifest]}).encode(), **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return str(manifest["digest"])


class TestImage:
    def test_secrets_are_found_in_every_layer_and_in_the_settings(self, tmp_path: Path, detectors: Detectors) -> None:
        """What a later layer removes is still pulled by everybody."""
        place = tmp_path / "image.tar"
        _archive(place, {"app/.env": f"KEY={AWS}\n".encode()}, {"app/.wh..env": b""}, env=(f"TOKEN={GITHUB}",))
        contents = look(place, detectors, lambda digest: Memory(tmp_path / digest))
        assert [(found.rule, found.file) for found in contents.found] == [
            ("secret:GitHub Token", "image:/settings.env"),
            ("secret:AWS Access Key", "image:/app/.env"),
        ]

    def test_what_packages_and_the_system_brought_is_not_looked_at(self, tmp_path: Path, detectors: Detectors) -> None:
        secret = f'key = "{AWS}"'.encode()
        record = b"wheel/tests.py,sha256=abc,1\n../../../bin/tool,,\n"
        layer = {
            "usr/lib/x.py": secret,
            "venv/lib/python3.11/site-packages/wheel/tests.py": secret,
            "venv/lib/python3.11/site-packages/wheel/own.py": secret,
            "venv/bin/tool": secret,
            "venv/lib/python3.11/site-packages/wheel-1.dist-info/RECORD": record,
            "venv/lib/python3.11/site-packages/wheel-1.dist-info/METADATA": b"Name: Wheel_X\nVersion: 1\nLicense-Expression: MIT\n\ntext",
            "var/lib/dpkg/info/base.list": b"/opt\n/opt/vendor.conf\n",
            "opt/vendor.conf": secret,
        }
        place = tmp_path / "image.tar"
        _archive(place, layer)
        contents = look(place, detectors, lambda digest: Memory(tmp_path / digest))
        assert [found.file for found in contents.found] == ["image:/venv/lib/python3.11/site-packages/wheel/own.py"]
        assert contents.packages == [Package("wheel-x", "1", ("MIT",))]

    def test_a_layer_is_read_once(self, tmp_path: Path, detectors: Detectors) -> None:
        place = tmp_path / "image.tar"
        _archive(place, {"app/a.py": f'key = "{AWS}"'.encode()})
        first = look(place, detectors, lambda digest: Memory(tmp_path / digest))
        again = look(place, Detectors(tmp_path, detectors.seen), lambda digest: Memory(tmp_path / digest))
        assert again == first

    def test_what_is_no_image_is_said(self, tmp_path: Path, detectors: Detectors) -> None:
        place = tmp_path / "image.tar"
        with tarfile.open(place, "w"):
            pass
        with pytest.raises(ValueError, match="no OCI image"):
            look(place, detectors, lambda digest: Memory(tmp_path / digest))


def _git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository on main with a subject in `service`."""
    root = tmp_path / "repository"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "pipeline.yaml").write_text(f'{CONFIG}scan: {{advisories: ""}}\n')
    (root / "service" / "src").mkdir(parents=True)
    (root / "service" / "src" / "a.py").write_text("x = 1\n")
    (root / "service" / "requirements.txt").write_text("thing==1.0 --hash=sha256:0\n")
    (root / "README.md").write_text("Hello\n")
    _git(root, "init", "--quiet", "--initial-branch=main")
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message=first")
    return root


def _config(root: Path) -> Config:
    return load(root / "configs" / "pipeline.yaml")


class TestChange:
    def test_on_main_it_is_everything_that_git_knows_or_would_add(self, repository: Path) -> None:
        (repository / "new.txt").write_text("new")
        (repository / ".gitignore").write_text("ignored.txt\n")
        (repository / "ignored.txt").write_text("ignored")
        change = change_of(repository, _config(repository), collect(repository, {}))
        assert change.whole
        assert {"README.md", "new.txt", "service/src/a.py"} <= set(change.files)
        assert "ignored.txt" not in change.files

    def test_on_a_branch_it_is_what_differs_from_where_it_left_main(self, repository: Path) -> None:
        _git(repository, "checkout", "--quiet", "-b", "topic")
        (repository / "committed.txt").write_text("one")
        _git(repository, "add", "--all")
        _git(repository, "commit", "--quiet", "--message=second")
        (repository / "directory").mkdir()
        (repository / "directory" / "new.txt").write_text("two")
        (repository / "README.md").unlink()
        change = change_of(repository, _config(repository), collect(repository, {}))
        assert change == type(change)(("committed.txt", "directory/new.txt"), whole=False)

    def test_without_git_it_is_every_file(self, tmp_path: Path, repository: Path) -> None:
        config = _config(repository)
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "a.txt").write_text("a")
        (bare / "__pycache__").mkdir()
        (bare / "__pycache__" / "a.pyc").write_text("b")
        assert change_of(bare, config, collect(bare, {})).files == ("a.txt",)


def ci(*arguments: str) -> int:
    """Give the exit code of a command."""
    return int(ci_run(list(arguments)))


class _Scan:
    """The stage over a repository and an image."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache
        (cache / "artifacts").mkdir(parents=True)
        metadata = b"Name: thing\nVersion: 1.0\nLicense-Expression: MIT\n\n"
        self.layer: dict[str, bytes] = {
            "app/src/a.py": (root / "service/src/a.py").read_bytes(),
            "venv/lib/thing-1.0.dist-info/METADATA": metadata,
        }

    async def run(self) -> scan.Result:
        part = self.cache / "artifacts" / "part.tar"
        digest = _archive(part, self.layer)
        part.rename(self.cache / "artifacts" / f"{digest.removeprefix('sha256:')}.tar")
        context = Context(
            config=_config(self.root),
            root=self.root,
            subject=self.root / "service",
            cache=self.cache,
            facts=collect(self.root, {}),
            record=StageRecord(self.cache, StageEntry(name="scan")),
            progress=lambda _line: None,
        )
        return await scan.run(context, {"build": Built("built", digest, 1, 1)})

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.cache / "scan.json").read_text())
        return report


@pytest.fixture
def scanned(repository: Path, tmp_path: Path) -> _Scan:
    return _Scan(repository, tmp_path / "cache")


class TestStage:
    async def test_a_clean_repository_passes_and_says_what_was_looked_at(self, scanned: _Scan) -> None:
        result = await scanned.run()
        assert result.summary == (
            "nothing found · 4 files, 1 image file, 1 package, 1 module · not checked: advisories: nobody is asked "
            "(scan.advisories is empty, or the run is frozen)"
        )
        assert result.findings == ()

    async def test_a_secret_in_the_change_blocks_with_its_place(self, scanned: _Scan) -> None:
        (scanned.root / "deploy.sh").write_text(f"#!/bin/sh\nexport KEY={AWS}\n")
        with pytest.raises(StageFailed) as failure:
            await scanned.run()
        (finding,) = failure.value.findings
        assert (finding.file, finding.line, finding.severity) == ("deploy.sh", 2, "high")
        assert str(failure.value) == "1 finding (1 high)"
        assert "configs/scan-baseline.json" in failure.value.hint

    async def test_a_secret_that_the_change_added_and_removed_again_blocks(self, scanned: _Scan) -> None:
        """Also in a document, and also when it was taken out of a file that is still there."""
        _git(scanned.root, "checkout", "--quiet", "-b", "topic")
        for text in (f"KEY={AWS}\n", "KEY=\n", f"TOKEN={GITHUB}\n"):
            (scanned.root / "deploy.sh").write_text(text)
            (scanned.root / "docs.md").write_text(text)
            _git(scanned.root, "add", "--all")
            _git(scanned.root, "commit", "--quiet", "--message=more")
        (scanned.root / "docs.md").unlink()
        with pytest.raises(StageFailed) as failure:
            await scanned.run()
        found = [(found.file, found.name, "a commit of this change" in found.message) for found in failure.value.findings]
        assert sorted(found) == [
            ("deploy.sh", "secret:AWS Access Key", True),
            ("deploy.sh", "secret:GitHub Token", False),
            ("docs.md", "secret:AWS Access Key", True),
            ("docs.md", "secret:GitHub Token", True),
        ]

    async def test_findings_are_accepted_with_a_reason_and_dropped_when_they_are_gone(
        self, scanned: _Scan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        latest = scanned.root / ".weighbridge" / "runs" / "latest"
        latest.parent.mkdir(parents=True)
        latest.symlink_to(scanned.cache)
        monkeypatch.chdir(scanned.root)
        place = scanned.root / "deploy.sh"
        place.write_text(f"KEY={AWS}\n")
        with pytest.raises(StageFailed):
            await scanned.run()
        assert ci("scan") == 0
        assert "high   secret:AWS Access Key        deploy.sh:1" in capsys.readouterr().out
        assert ci("scan", "--update-baseline") == 2
        assert ci("scan", "--update-baseline", "--reason", "a key of the\ntests", "--file", "other/*") == 0
        assert ci("scan", "--update-baseline", "--reason", "a key of the\ntests", "--rule", "secret:*") == 0
        said = capsys.readouterr()
        assert "what is accepted has a reason" in said.err
        assert said.out.splitlines() == [f"configs/scan-baseline.json: {count} added, 0 dropped. Have it reviewed." for count in (0, 1)]
        assert "1 accepted" in (await scanned.run()).summary
        (entry,) = baseline.read(scanned.root / "configs" / "scan-baseline.json", "")
        assert (entry.rule, entry.file, entry.reason) == ("secret:AWS Access Key", "deploy.sh", "a key of the tests")
        place.write_text("KEY=\n")
        assert "1 of the baseline match nothing" in (await scanned.run()).summary
        assert ci("scan", "--update-baseline") == 0
        assert baseline.read(scanned.root / "configs" / "scan-baseline.json", "") == []

    def test_what_commits_held_is_in_the_key(self, repository: Path) -> None:
        _git(repository, "checkout", "--quiet", "-b", "topic")
        before = change_of(repository, _config(repository), collect(repository, {}))
        for text in ("one", "two", "one"):
            (repository / "new.txt").write_text(text)
            _git(repository, "add", "--all")
            _git(repository, "commit", "--quiet", "--message=more")
        (repository / "new.txt").unlink()
        _git(repository, "commit", "--quiet", "--all", "--message=less")
        after = change_of(repository, _config(repository), collect(repository, {}))
        assert (before.files, before.earlier, after.files) == ((), (), ())
        assert [name for name, _ in after.earlier] == ["new.txt", "new.txt"]

    async def test_the_same_file_in_the_image_is_one_finding(self, scanned: _Scan) -> None:
        """And one that only the image holds is another."""
        source = f'KEY = "{AWS}"\n'
        (scanned.root / "service/src/a.py").write_text(source)
        scanned.layer |= {"app/src/a.py": source.encode(), "home/app/.netrc": f"password {GITHUB}".encode()}
        with pytest.raises(StageFailed) as failure:
            await scanned.run()
        assert [found.file for found in failure.value.findings] == ["image:/home/app/.netrc", "service/src/a.py"]

    async def test_what_does_not_block_is_told_all_the_same(self, scanned: _Scan) -> None:
        (scanned.root / "service/src/a.py").write_text("assert bool\n")
        result = await scanned.run()
        assert result.summary.startswith("1 finding (1 low), none blocks · ")
        assert [(found.name, found.file, found.line) for found in result.findings] == [("B101", "service/src/a.py", 1)]

    async def test_what_the_report_names_can_be_accepted(self, scanned: _Scan) -> None:
        (scanned.root / "deploy.sh").write_text(f"export KEY={AWS}\n")
        with pytest.raises(StageFailed):
            await scanned.run()
        entries = [{**{name: one[name] for name in ("rule", "file", "key")}, "reason": "an example"} for one in scanned.report()["found"]]
        (scanned.root / "configs/scan-baseline.json").write_text(json.dumps({"schema": 1, "accepted": entries}))
        result = await scanned.run()
        assert (result.accepted, result.findings) == (1, ())
        (scanned.root / "deploy.sh").unlink()
        assert "1 of the baseline match nothing" in (await scanned.run()).summary

    async def test_configuration_leaves_out_rules_and_files_and_moves_the_limit(self, scanned: _Scan) -> None:
        (scanned.root / "service/src/a.py").write_text("assert bool\n")
        (scanned.root / "example.env").write_text(f"KEY={AWS}\n")
        config = scanned.root / "configs/pipeline.yaml"
        config.write_text(f'{CONFIG}scan: {{advisories: "", block: low, exclude: ["*.env"], skip: [B101]}}\n')
        assert (await scanned.run()).findings == ()
        config.write_text(f'{CONFIG}scan: {{advisories: "", block: low, exclude: ["*.env"]}}\n')
        with pytest.raises(StageFailed, match="1 low"):
            await scanned.run()

    @pytest.mark.parametrize(
        ("checked", "hours", "why"),
        [(True, 2, ""), (True, 25, "a day old"), (False, 0.5, ""), (False, 2, "could not be checked")],
    )
    def test_advisories_grow_old(self, repository: Path, monkeypatch: pytest.MonkeyPatch, *, checked: bool, hours: float, why: str) -> None:
        config = _config(repository)
        config = replace(config, scan=replace(config.scan, advisories="https://osv.example"))
        monkeypatch.setattr(time, "time", lambda: 1e9)
        said = scan.out_of_date({"advisories": checked, "looked_at": 1e9 - hours * 3600}, config, repository, repository)
        assert (why in said) if why else not said

    def test_its_key_holds_the_files_of_the_change_and_the_tools(self) -> None:
        spec = STAGES["scan"].inputs(_config_of_this_repository())
        assert spec.change
        assert set(spec.tools) == {"bandit", "detect-secrets"}
        assert {name: _version(name) for name in spec.tools} == {name: version(name) for name in spec.tools}
        assert _version("no-such-package") == "not installed"


def _config_of_this_repository() -> Config:
    return load(Path(__file__).parents[2] / "configs" / "pipeline.yaml")
