"""Secrets in everything that is written: every form, every border between pieces."""

import base64
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.scrub import Scrubber, Stream

SECRET = 'c4n&ry "<é>/\\'
FORMS = {
    "plain": SECRET,
    "json": json.dumps(SECRET),
    "json, as it is": json.dumps(SECRET, ensure_ascii=False),
    "xml text": escape(SECRET),
    "xml attribute": escape(SECRET, {'"': "&quot;"}),
    "address": quote(SECRET, safe=""),
    "base64": base64.b64encode(SECRET.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_taken_out(form: str, tmp_path: Path) -> None:
    scrubber = Scrubber([SECRET])
    assert scrubber.text(f"a{form}b").strip('ab"') == "***"
    (tmp_path / "report").write_bytes(b"\xff" + form.encode())
    scrubber.file(tmp_path / "report")
    assert form.strip('"').encode() not in (tmp_path / "report").read_bytes()
    assert (tmp_path / "report").read_bytes().startswith(b"\xff")


def test_values_and_keys_of_json_are_scrubbed() -> None:
    assert Scrubber(["canary-1"]).value({"canary-1": [1, "xcanary-1", {"a": None}], "b": True}) == {
        "***": [1, "x***", {"a": None}],
        "b": True,
    }


def test_each_line_of_a_key_counts_and_short_ones_do_not() -> None:
    scrubber = Scrubber(["-----BEGIN\nabcdefgh\nxyz\n"])
    assert scrubber.text("abcdefgh and xyz") == "*** and xyz"


def test_without_secrets_nothing_changes(tmp_path: Path) -> None:
    scrubber = Scrubber()
    assert not scrubber
    assert scrubber.text("a") == "a"
    assert scrubber.value(["a"]) == ["a"]
    assert Stream(scrubber).feed("abc") == "abc"


@given(
    st.lists(st.sampled_from(["canary-17", "canary", "-17", "can", "x", "\n", "yrcanary-"]), max_size=12).map("".join),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_a_stream_shows_what_the_whole_text_would(text: str, cuts: list[int]) -> None:
    """Wherever the pieces end, no value gets through and nothing else is lost."""
    scrubber = Scrubber(["canary-17"])
    stream = Stream(scrubber)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = "".join(stream.feed(text[start:end]) for start, end in pairwise(borders)) + stream.close()
    assert shown == scrubber.text(text)


def test_what_cannot_become_a_value_is_shown_at_once() -> None:
    stream = Stream(Scrubber(["canary-17"]))
    assert stream.feed("progress: 50 %\n") == "progress: 50 %\n"
    assert stream.feed("a can") == "a "
    assert stream.feed("did one") == "candid one"


def test_the_program_scrubs_what_a_command_leaves_and_keeps_its_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, sys; open('r.xml', 'w').write('<a b=\"' + os.environ['TOKEN'] + '\"/>'); sys.exit(3)"]
    program = Path(__file__).parents[2] / "ci" / "scrub.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), "TOKEN,OTHER", "--", *command], cwd=tmp_path, env={"TOKEN": "canary-17"}, check=False
    )
    assert (done.returncode, (tmp_path / "r.xml").read_text()) == (3, '<a b="***"/>')
