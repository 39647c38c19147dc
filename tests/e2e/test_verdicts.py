"""Every way a run can end, by the exit code that a script sees and the words that a person sees."""

import json
import os
import signal
import socket
import struct
import zlib

from accounts import Checkout
from processes import serving, wait_until


def test_failing_unit_test_is_exit_1_with_pytests_own_words(checkout: Checkout) -> None:
    test = checkout.subject / "tests" / "test_one_too_many.py"
    test.write_text("def test_arithmetic() -> None:\n    assert 1 + 1 == 3, 'arithmetic is not what it was'\n")
    checkout.account.own(test)
    finished = checkout.ci("run")
    assert finished.code == 1, finished.output
    assert "arithmetic is not what it was" in finished.output
    assert "test_one_too_many.py" in finished.output
    assert checkout.outcomes()["test"] == "failed"
    assert checkout.outcomes()["push"] not in {"passed", "reused"}


def test_zeroed_weights_are_exit_3_with_score_and_floor(checkout: Checkout) -> None:
    checkout.edit_weights(_zero)
    checkout.limit_suites(60)
    finished = checkout.ci("run")
    assert finished.code == 3, finished.output
    assert "image" in finished.output
    assert "floor" in finished.output
    assert checkout.outcomes()["push"] not in {"passed", "reused"}


def test_blank_images_bring_the_image_score_down(checkout: Checkout) -> None:
    """The model looks: without a picture it cannot know."""
    folder = checkout.subject / "evals" / "images"
    pictures = sorted(folder.glob("*.png"))
    blank = _blank_png(pictures[0].read_bytes())
    for picture in pictures:
        picture.write_bytes(blank)
    checkout.limit_suites(120)
    finished = checkout.ci("run")
    assert finished.code == 3, finished.output
    samples = [json.loads(line) for line in next(checkout.latest.rglob("samples.jsonl")).read_text().splitlines()]
    scores = [sample["score"] for sample in samples if sample["suite"] == "image"]
    assert scores
    assert sum(scores) / len(scores) <= 0.2


def test_typo_in_the_configuration_is_exit_2_with_its_place(checkout: Checkout) -> None:
    config = checkout.root / "configs" / "pipeline.yaml"
    lines = config.read_text().splitlines()
    (number,) = (index for index, line in enumerate(lines) if line.startswith("evaluate:"))
    lines[number] = lines[number].replace("evaluate:", "evalute:")
    config.write_text("\n".join(lines) + "\n")
    before = checkout.runs()
    finished = checkout.ci("run")
    assert finished.code == 2, finished.output
    assert f"configs/pipeline.yaml:{number + 1}:1:" in finished.output
    assert "evaluate" in finished.output
    assert checkout.runs() == before


def test_server_killed_in_mid_evaluation_is_exit_5(checkout: Checkout) -> None:
    """A server that died is not a model that got worse; without a further attempt the run ends with that."""
    checkout.configure("run", "attempts", 1)
    server = checkout.subject / "src" / "digits_vlm" / "server.py"
    server.write_text(server.read_text() + "\nAPI_REVISION = 'dies'\n")
    process = checkout.start("run")
    port = checkout.configured("build", "port", 8000)
    assert wait_until(process, lambda: bool(serving(process, port=port, clients=3))), process.communicate()[0]
    os.kill(serving(process, port=port, clients=1), signal.SIGKILL)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 5, output
    assert checkout.outcomes()["evaluate"] not in {"passed", "reused"}


def test_unreachable_registry_is_exit_5_and_the_image_is_kept(checkout: Checkout) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        checkout.configure("run", "backoff", 0.01)
        checkout.configure("push", "target", f"127.0.0.1:{nobody_listens.getsockname()[1]}/digits-vlm")
        finished = checkout.ci("run")
    assert finished.code == 5, finished.output
    assert checkout.outcomes()["build"] == "reused"
    checkout.configure("push", "target", None)
    again = checkout.ci("run")
    assert again.code == 0, again.output
    assert checkout.outcomes()["build"] == "reused"


def _zero(tensors: bytearray) -> None:
    tensors[:] = bytes(len(tensors))


def _blank_png(like: bytes) -> bytes:
    """Make a white picture of the same size and kind."""
    width, height, depth, colour = struct.unpack(">IIBB", like[16:26])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = b"\0" + b"\xff" * ((width * channels * depth + 7) // 8)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return like[:8] + chunk(b"IHDR", like[16:29]) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
