"""Licences and advisories of locked packages, and the reviewed file that accepts findings."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ci.errors import UsageError
from ci.stages.scan import advisories, baseline, licences
from ci.stages.scan.found import Found
from ci.stages.scan.image import Package


class TestLicences:
    LINES: Mapping[str, tuple[str, int]] = {"thing": ("1.0", 7)}

    @pytest.mark.parametrize(
        ("stated", "severities"),
        [
            (("MIT",), []),
            (("AGPL-3.0-or-later",), ["high"]),
            (("MIT OR AGPL-3.0-only",), []),
            (("MIT AND AGPL-3.0-only",), ["high"]),
            (("(MIT OR AGPL-3.0-only) AND (Apache-2.0)",), []),
            (("GNU Affero General Public License v3",), ["high"]),
            (("MIT License", "GNU Affero General Public License v3"), ["high"]),
            ((), ["low"]),
        ],
    )
    def test_what_is_denied_is_found(self, stated: tuple[str, ...], severities: list[str]) -> None:
        found = licences.look([Package("thing", "1.0", stated)], "requirements.txt", self.LINES, allow=(), deny=("AGPL-*",))
        assert [one.severity for one in found] == severities
        assert all((one.file, one.line) == ("requirements.txt", 7) for one in found)

    @pytest.mark.parametrize(
        ("stated", "count"),
        [("Apache Software License", 0), ("BSD License", 0), ("MIT", 0), ("MPL-2.0", 1), ("Mozilla Public License 2.0 (MPL 2.0)", 1)],
    )
    def test_only_what_is_allowed_passes_where_something_is(self, stated: str, count: int) -> None:
        allow = ("MIT", "Apache-2.0", "BSD-*")
        assert len(licences.look([Package("thing", "1.0", (stated,))], "r.txt", self.LINES, allow=allow, deny=())) == count

    def test_a_package_that_is_not_locked_is_the_base_s(self) -> None:
        assert licences.look([Package("pip", "24", ("AGPL-3.0-only",))], "r.txt", self.LINES, allow=(), deny=("AGPL-*",)) == []

    def test_the_lock_gives_versions_and_lines(self) -> None:
        text = "# a comment\nAnnotated_Doc==0.0.7 \\\n    --hash=sha256:0\nuvicorn[standard]==0.30 ; python_version > '3'\n"
        assert licences.locked(text) == {"annotated-doc": ("0.0.7", 2), "uvicorn": ("0.30", 4)}


@contextmanager
def _osv(answers: Mapping[str, Any]) -> Iterator[str]:
    """Answer these paths with JSON, and others with 404."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.path in answers
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode() if known else b"")

        do_GET = do_POST = _answer  # noqa: N815  the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TestAdvisories:
    LINES: Mapping[str, tuple[str, int]] = {"good": ("1", 1), "bad": ("2", 5)}
    DETAILS: Mapping[str, Any] = {
        "id": "GHSA-x",
        "aliases": ["CVE-2020-1"],
        "summary": "Reads too much",
        "database_specific": {"severity": "MODERATE"},
        "affected": [
            {
                "package": {"name": "Bad", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
            }
        ],
    }

    def test_a_known_vulnerability_is_found_at_the_line_of_the_lock(self) -> None:
        answers = {"/v1/querybatch": {"results": [{}, {"vulns": [{"id": "GHSA-x"}]}]}, "/v1/vulns/GHSA-x": self.DETAILS}
        with _osv(answers) as url:
            (found,) = advisories.look(url, "requirements.txt", self.LINES)
        assert (found.rule, found.severity, found.file, found.line) == ("GHSA-x", "medium", "requirements.txt", 5)
        assert found.message == "bad 2: GHSA-x (CVE-2020-1): Reads too much; fixed in 2.1"

    def test_one_of_which_nothing_is_known_counts_as_severe(self) -> None:
        with _osv({"/v1/querybatch": {"results": [{}, {"vulns": [{"id": "PYSEC-1"}]}]}}) as url:
            (found,) = advisories.look(url, "requirements.txt", self.LINES)
        assert found.severity == "high"
        assert "no fixed version is known" in found.message

    @pytest.mark.parametrize(
        ("answers", "said"),
        [
            ({}, r"127\.0\.0\.1:\d+ did not answer \(HTTP 404\)"),
            ({"/v1/querybatch": {"results": [{}]}}, "answered about 1 of 2 packages"),
            ({"/v1/querybatch": ["what"]}, "answered something that is no list of advisories"),
        ],
    )
    def test_an_answer_that_is_none_is_not_taken_for_a_clean_one(self, answers: Mapping[str, Any], said: str) -> None:
        with _osv(answers) as url, pytest.raises(advisories.NotChecked, match=said):
            advisories.look(url, "requirements.txt", self.LINES)

    def test_a_server_that_is_not_there_is_named(self) -> None:
        with pytest.raises(advisories.NotChecked, match=r"127\.0\.0\.1:1 did not answer"):
            advisories.look("http://127.0.0.1:1", "requirements.txt", self.LINES)


class TestBaseline:
    ENTRY: Mapping[str, str] = {"rule": "B602", "file": "src/a.py", "key": "k", "reason": "the input is ours"}
    FOUND = Found("B602", "high", "…", "src/a.py", 3, "k")

    def _write(self, path: Path, *entries: Mapping[str, str]) -> Path:
        path.write_text(json.dumps({"schema": 1, "accepted": entries}))
        return path

    def test_an_entry_accepts_its_finding_wherever_it_moved(self, tmp_path: Path) -> None:
        accepted = baseline.read(self._write(tmp_path / "b.json", self.ENTRY), "b.json")
        other = replace(self.FOUND, file="src/b.py")
        assert baseline.split([replace(self.FOUND, line=99), other], accepted) == ([other], [replace(self.FOUND, line=99)], [])

    def test_an_entry_that_matches_nothing_is_named(self, tmp_path: Path) -> None:
        accepted = baseline.read(self._write(tmp_path / "b.json", self.ENTRY), "b.json")
        assert baseline.split([], accepted)[2] == accepted

    @pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2, "accepted": []}', '{"schema": 1, "accepted": [{"rule": "B602"}]}'])
    def test_a_file_of_another_form_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(UsageError, match=r"b\.json"):
            baseline.read(tmp_path / "b.json", "b.json")

    def test_an_entry_needs_a_reason(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"entry 1 \(B602 in src/a.py\) has no reason"):
            baseline.read(self._write(tmp_path / "b.json", {**self.ENTRY, "reason": " "}), "b.json")

    def test_no_file_accepts_nothing(self, tmp_path: Path) -> None:
        assert baseline.read(tmp_path / "none.json", "none.json") == []
