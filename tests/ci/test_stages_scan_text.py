"""What the scan finds in texts and in code."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from planted import AWS, GITHUB, PRIVATE

from ci.stages.scan import code
from ci.stages.scan.leaks import Detectors


@pytest.fixture
def detectors(tmp_path: Path) -> Iterator[Detectors]:
    (tmp_path / "scratch").mkdir()
    with Detectors(tmp_path / "scratch", {}) as ready:
        yield ready


class TestSecretsInText:
    @pytest.mark.parametrize(
        ("name", "line", "rule", "severity"),
        [
            ("a.py", f'key = "{AWS}"', "secret:AWS Access Key", "high"),
            ("a.txt", f"token {GITHUB} ", "secret:GitHub Token", "high"),
            ("id_rsa", PRIVATE, "secret:Private Key", "high"),
            ("b.py", 'password = "correct-horse-battery"', "secret:Secret Keyword", "medium"),
            ("c.yaml", "db_password: correct-horse-battery", "secret:Secret Keyword", "medium"),
            ("d.md", "see https://me:horsebattery@host.example/", "secret:Basic Auth Credentials", "medium"),
        ],
    )
    def test_is_found_with_its_line(self, detectors: Detectors, name: str, line: str, rule: str, severity: str) -> None:
        (found,) = detectors.look(name, f"first: 1\n\nsecond: 2\n{line}\nlast: 3\n".encode())
        assert (found.rule, found.severity, found.file, found.line) == (rule, severity, name, 4)

    def test_its_value_is_in_no_finding(self, detectors: Detectors) -> None:
        (found,) = detectors.look("a.py", f'key = "{AWS}"\n'.encode())
        assert AWS not in repr(found)

    @pytest.mark.parametrize(
        "line",
        [
            "password = os.environ['PASSWORD']",
            f'key = "{AWS}"  # pragma: allowlist secret',
            f'# pragma: allowlist nextline secret\nkey = "{AWS}"',
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "password: ${PASSWORD}",
        ],
    )
    def test_what_is_none_is_left_alone(self, detectors: Detectors, line: str) -> None:
        assert detectors.look("a.py", f"\n{line}\n".encode()) == []

    def test_the_last_line_needs_no_end(self, detectors: Detectors) -> None:
        assert [found.line for found in detectors.look("a.py", f'one\nkey = "{AWS}"'.encode())] == [2]

    @pytest.mark.parametrize("data", [b"", b"\0" + AWS.encode(), AWS.encode() * 60_000])
    def test_binary_and_large_files_are_not_looked_at(self, detectors: Detectors, data: bytes) -> None:
        assert detectors.look("weights.bin", data) == []

    def test_what_was_found_before_is_remembered_by_content(self, tmp_path: Path, detectors: Detectors) -> None:
        data = f'key = "{AWS}"'.encode()
        first = detectors.look("a.py", data)
        again = Detectors(tmp_path, detectors.seen)  # not entered: it has no detectors, and finds only what it remembers
        assert again.look("elsewhere/a.py", data) == [replace(found, file="elsewhere/a.py") for found in first]


# bandit gives its plugin loader an argument that means nothing any more.
@pytest.mark.filterwarnings("ignore:The verify_requirements argument:DeprecationWarning")
class TestCode:
    def test_dangerous_calls_are_found_by_line_and_known_again_in_another(self, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        source = tmp_path / "src" / "a.py"
        source.write_text("import subprocess\n\n\ndef f(x):\n    subprocess.call(x, shell=True)\n")
        (high,) = (found for found in code.look(tmp_path, "src")[0] if found.severity == "high")
        assert (high.rule, high.file, high.line) == ("B602", "src/a.py", 5)
        source.write_text("\n\n" + source.read_text())
        moved = next(found for found in code.look(tmp_path, "src")[0] if found.rule == "B602")
        assert (moved.line, moved.key) == (7, high.key)

    def test_what_was_found_is_remembered_until_a_file_changes(self, tmp_path: Path) -> None:
        source, memory = tmp_path / "src", tmp_path / "memory"
        source.mkdir()
        (source / "a.py").write_text("assert bool\n")
        first = code.remembered(tmp_path, "src", memory)
        (kept,) = memory.iterdir()
        assert [found.rule for found in first[0]] == ["B101"]
        assert code.remembered(tmp_path, "src", memory) == first
        kept.write_text(kept.read_text().replace("B101", "B999"))
        assert code.remembered(tmp_path, "src", memory)[0][0].rule == "B999"
        (source / "b.pyw").write_text("exec('1')\n")
        assert sorted(found.rule for found in code.remembered(tmp_path, "src", memory)[0]) == ["B101", "B102"]
        kept.write_text("{")
        (source / "b.pyw").unlink()
        assert code.remembered(tmp_path, "src", memory) == first

    def test_a_password_is_not_quoted(self, tmp_path: Path) -> None:
        (tmp_path / "a.py").write_text("password = 'correct-horse'\n")
        (found,) = code.look(tmp_path, ".")[0]
        assert found.rule == "B105"
        assert "horse" not in repr(found)

    def test_a_file_that_is_no_python_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.py").write_text("def (\n")
        _, count, unread = code.look(tmp_path, ".")
        assert (count, len(unread), unread[0].partition(":")[0]) == (0, 1, "a.py")
