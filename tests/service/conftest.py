"""Services on stores of tiny tasks (tests/support/tiny.py)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from model_store import Store
from service.inference.forward import Admission, TowerInput
from service.settings import Settings
from service.telemetry.log_lines import LogLines
from service.web.app import create_app
from tests.support.closed_service import ClosedService, closed_service, publish_label_sets
from tests.support.tiny import PICTURE, PIXELS, Shelf, TinyTask, graph

Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(autouse=True)
def events() -> Iterator[list]:
    """The log events of the service during a test."""
    with capture_logs() as events:
        yield events
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogLines):  # of a command that the test ran in this process
            logging.getLogger().removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def oracle() -> type[TinyTask]:
    return TinyTask


@pytest.fixture(scope="session")
def onnx_graph() -> Callable[..., bytes]:
    return graph


@contextmanager
def running(store: Store, **settings: object) -> Iterator[TestClient]:
    app = create_app(Settings(store=store.root, **{"poll_seconds": 0.02, "intra_op_threads": 1, **settings}))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(store, **settings)`: a client of a service on that store, stopped at the end of the test."""
    with ExitStack() as stack:
        yield lambda store, **settings: stack.enter_context(running(store, **settings))


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with both tasks; tests that share it leave the store alone."""
    shelf = Shelf(Store(tmp_path_factory.mktemp("shared") / "store"))
    shelf.publish("fruit")
    shelf.publish("tags")
    limits = {"max_body_bytes": 200_000, "max_image_pixels": 250_000, "max_text_bytes": 1_000}
    with running(shelf.store, **limits) as client:
        yield client


@pytest.fixture
def own_client(shelf: Shelf, serve: Serve) -> TestClient:
    """A service of its own with both tasks: after some failures a service checks the version, and may refuse it."""
    shelf.publish("fruit")
    shelf.publish("tags")
    return serve(shelf.store)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedService]:
    """A service as a process, closed but for CANARY; tests that share it leave its store alone."""
    with closed_service(tmp_path_factory.mktemp("closed")) as running:
        yield running


@pytest.fixture(scope="session")
def with_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedService]:
    """As `real`, on the tasks of `publish_label_sets`."""
    with closed_service(tmp_path_factory.mktemp("sets"), publish_label_sets) as running:
        yield running


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """A picture that preprocessing leaves as it is: 16 x 16."""
    return PIXELS


@pytest.fixture(scope="session")
def picture() -> bytes:
    return PICTURE


@pytest.fixture(scope="session")
def sample() -> Callable[[TestClient, str], float]:
    """`sample(client, 'mora_x_total{task="a"}')`: the value of a series, 0 if it does not exist."""

    def read(client: TestClient, series: str) -> float:
        lines = (line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
        return float(dict(lines).get(series, 0))

    return read


@pytest.fixture(scope="session")
def occupied() -> Callable[[TestClient, str], AbstractContextManager[None]]:
    """`with occupied(client, "text")`: the encoder of a service with one encoder worker is busy."""

    @contextmanager
    def occupy(client: TestClient, encoder: str) -> Iterator[None]:
        running, release = threading.Event(), threading.Event()

        class Endless:
            sha256, tokens = "endless", None

            def run_on_device(self, array: np.ndarray, options: object) -> np.ndarray:
                running.set()
                release.wait()
                return array

        batcher = getattr(client.app.state.engine.encoders, encoder)
        client.portal.start_task_soon(batcher.run, TowerInput(Endless(), (), np.zeros((1, 1)), (), Admission("", 1)))
        running.wait()
        try:
            yield
        finally:
            release.set()

    return occupy
