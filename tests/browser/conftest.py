"""Chromium on the playground of running services. Skipped where there is no Chromium: `make setup-browser`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from examples.demo import service
from service.settings import Settings
from service.web.app import create_app
from service.web.server import Server
from tests.browser.driving import launched
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

NEVER_WAIT_LONGER_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One a module, not one a session: while Playwright is there, no other test could run an event loop."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def shipped(browser: Browser) -> Iterator[str]:
    """The base URL of a service on the shipped store; nothing is asked of it before there is a browser."""
    with service("--log-level", "warning") as url:
        yield url


@contextmanager
def _serving(settings: Settings) -> Iterator[Server]:
    server = Server(create_app(settings), settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started, 30)
        yield server
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def serving() -> Iterator[Callable[..., Server]]:
    """`serving(store, **settings)`: a service in this process, on the port `server.servers[0]` has."""
    with ExitStack() as stack:
        yield lambda store, **settings: stack.enter_context(
            _serving(
                Settings(
                    store=store.root, port=0, intra_op_threads=1, drain_delay_seconds=0, drain_seconds=2, **settings
                )
            )
        )


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(NEVER_WAIT_LONGER_MS)
    yield context
    context.close()


class Opened:
    """A page, with what it said on the console and where it asked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note_request)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _note_request(self, request: Request) -> None:
        self.asked.append(request.url)


@pytest.fixture
def opened(context: BrowserContext) -> Iterator[Callable[..., Opened]]:
    """`opened(url, is_refused=False)`: a page that complains of nothing, or only of refusals."""
    with ExitStack() as stack:

        def go(url: str, is_refused: bool = False) -> Opened:
            opened = Opened(context.new_page())
            stack.callback(_check, opened, url, is_refused)
            opened.page.goto(url)
            return opened

        yield go


def _check(opened: Opened, url: str, is_refused: bool) -> None:
    own = (f"{url.split('#')[0].rstrip('/')}/", "blob:")
    elsewhere = [asked for asked in opened.asked if not asked.startswith(own)]
    assert elsewhere == []
    expected = "Failed to load resource" if is_refused else "\0"
    assert [said for said in opened.complaints if not said.startswith(expected)] == []
