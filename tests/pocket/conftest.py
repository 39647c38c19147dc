"""A query engine in the test's own process for what runs no command, and sessions as processes for what does."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from busybox_image import make_base
from inprocess import OWN_TIER, Api, Engines
from sessions import Session, Step

from pocket.api import REGISTRY
from pocket.engine import Engine
from pocket.query import Executor
from pocket.sandbox import Tier, Zygote
from pocket.store.store import Store


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    """Make engines that share one cache; they can do everything but run commands."""
    made: list[Engine] = []

    def make() -> Engine:
        store = Store.open(tmp_path / "cache", tier=OWN_TIER)
        tier = Tier(name="root" if OWN_TIER == "root" else "single-uid", ids=1)
        made.append(Engine(store=store, tier=tier, zygote=cast("Zygote", None), workdir=tmp_path, environ=dict(os.environ)))
        return made[-1]

    yield make
    for engine in made:
        engine.store.close()


@pytest_asyncio.fixture
async def api(engines: Engines) -> AsyncIterator[Api]:
    """Give a query engine of its own."""
    engine = engines()
    yield Api(engine, Executor(engine, REGISTRY))
    await engine.close()


@pytest.fixture(scope="session")
def base_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the busybox image."""
    return make_base(tmp_path_factory.mktemp("base") / "base.tar")


@pytest.fixture(scope="session")
def shared_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Hold one session per worker for tests that only ask."""
    with Session(tmp_path_factory.mktemp("shared") / "cache", cwd=tmp_path_factory.mktemp("workdir")) as session:
        yield session


@pytest.fixture
def box(shared_session: Session, base_archive: Path) -> tuple[Step, ...]:
    """Give the steps that begin at the busybox container in the shared session."""
    return shared_session.base(base_archive)
