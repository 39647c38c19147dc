"""What every test may rely on: an environment that is not the developer's.

Variables that say which engine, cache or CI host is in use would make a test pass or fail by where it runs, so they are taken away;
a test that means one sets it.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a shared machine. The same examples every time: a commit that passed passes again, and what
# nobody has thought of yet is looked for at night: those tests draw new ones.
settings.register_profile("shared machine", parent=settings.default, deadline=None, derandomize=True)
settings.load_profile("shared machine")

FOREIGN = (
    "CI",
    "GITHUB_",
    "GITLAB_",
    "CI_",
    "RUNNER_",
    "WEIGHBRIDGE_CACHE",
    "WEIGHBRIDGE_ENGINE",
    "POCKET_",
    "DAGGER_",
    "_EXPERIMENTAL_DAGGER_",
    "OTEL_",
    "TRACEPARENT",
    "NO_COLOR",
    "FORCE_COLOR",
)


@pytest.fixture(autouse=True)
def neutral_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take away what the developer's shell or the CI host set, and give each test a cache root of its own."""
    for name in list(os.environ):
        if name == "CI" or name.startswith(tuple(prefix for prefix in FOREIGN if prefix != "CI")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Give the root of the working tree."""
    return Path(__file__).resolve().parent.parent
