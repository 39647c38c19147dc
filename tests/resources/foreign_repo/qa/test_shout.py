import os
from pathlib import Path

from shout.model import Model


def test_it_shouts():
    model = Model(os.environ.get("SHOUT_MODEL", Path(__file__).parents[1] / "assets"))
    assert model.answer("hello")["text"] == "HELLO"
