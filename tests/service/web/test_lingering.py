"""A transport is closed in two steps if the client may still be sending."""

from __future__ import annotations

import pytest

from service.web.lingering import Lingering


class Noting:
    """A transport that keeps what it was told."""

    def __init__(self, is_closing: bool = False) -> None:
        self.told: list[str] = []
        self._is_closing = is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def __getattr__(self, name: str) -> object:
        return lambda: self.told.append(name)


@pytest.mark.parametrize(
    ("may_still_send", "is_closing", "told"),
    [(True, False, ["write_eof", "resume_reading"]), (False, False, ["close"]), (True, True, ["close"])],
)
def test_the_servers_half_is_closed_first_if_the_client_may_still_send(may_still_send, is_closing, told):
    below = Noting(is_closing)
    transport = Lingering(below, lambda: may_still_send)
    assert transport.is_closing() == is_closing
    transport.close()
    assert below.told == told


def test_the_second_close_closes_the_transport():
    below = Noting()
    transport = Lingering(below, lambda: True)
    transport.close()
    assert transport.is_closing()
    transport.close()
    assert below.told == ["write_eof", "resume_reading", "close"]
    transport.abort()
    assert below.told[-1] == "abort"
