"""What every test shares: examples of property tests that repeat, so a red run can be, and a tiny model."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Connection

# small tensors are faster on one thread, and pytest's workers share the cores; commands that tests start inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights, made once: the built-in model's kind, small enough to learn in a second."""
    from sparring.training import tiny
    from sparring.training.pretrain import save

    folder = tmp_path_factory.mktemp("model")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | small)
        save(tiny.build_model(0), folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _tables_are_made_once() -> Iterator[None]:
    """Fresh databases of one process get the statements that the revisions left in the first: hundreds of tests ask
    for one. Upgrades of older files, and commands that tests start, go through every revision."""
    from sparring.storage.sqlite import Sqlite

    revisions, known = Sqlite.make, list[str]()

    def make(self: Sqlite, connection: Connection, upgrade: Callable[[str], None]) -> None:
        for statement in known:
            connection.exec_driver_sql(statement)
        if not known:
            revisions(self, connection, upgrade)
            driver = connection.connection.driver_connection
            assert driver is not None
            known.extend(line for line in driver.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sqlite, "make", make)
        yield
