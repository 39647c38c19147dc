"""A session without the network (POCKET_OFFLINE): what is cached counts, steps reach nothing, what would be fetched is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from busybox_image import make_base
from pocket_session import IMAGE, session, sh

ROUTES = "tail -n +2 /proc/net/route | wc -l"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base.tar")


def asked(script: str) -> str:
    return f'{{container{{from(address:"{IMAGE}"){{{sh(script)}{{stdout}}}}}}}}'


def test_what_was_made_with_a_network_counts_and_new_steps_have_none(tmp_path: Path, image: Path) -> None:
    path = ("container", "from", "withExec", "stdout")
    cache, log = tmp_path / "cache", tmp_path / "log"
    script = "cat /proc/sys/kernel/random/uuid"
    with session(cache, log, image=image) as online:
        before = online.ok(asked(script), *path)
    with session(cache, log, image=image, env={"POCKET_OFFLINE": "1"}) as offline:
        assert offline.ok(asked(script), *path) == before  # the same key
        assert offline.ok(asked(ROUTES), *path).strip() == "0"


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ('{container{from(address:"registry.invalid/image:1"){id}}}', "an image of a registry"),
        ('{http(url:"http://files.invalid/f"){contents}}', "http://files.invalid/f"),
        ('{git(url:"https://git.invalid/r.git"){head{commit}}}', "https://git.invalid/r.git"),
    ],
)
def test_what_would_have_to_be_fetched_is_refused_at_once(tmp_path: Path, image: Path, query: str, what: str) -> None:
    with session(tmp_path / "cache", tmp_path / "log", image=image, env={"POCKET_OFFLINE": "1"}) as offline:
        message = offline.error(query)["message"]
    assert f"{what} is not in the cache, and POCKET_OFFLINE forbids the network" in message
