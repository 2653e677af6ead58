"""Closing a connection in two steps if the client may still be sending."""

from __future__ import annotations

import pytest

from service.web.lingering import Lingering


class RecordingTransport:
    """A transport that records the calls of its methods."""

    def __init__(self, is_closing: bool = False) -> None:
        self.calls: list[str] = []
        self._is_closing = is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def __getattr__(self, name: str) -> object:
        return lambda: self.calls.append(name)


@pytest.mark.parametrize(
    ("may_still_send", "is_closing", "calls"),
    [(True, False, ["write_eof", "resume_reading"]), (False, False, ["close"]), (True, True, ["close"])],
)
def test_the_servers_half_is_closed_first_if_the_client_may_still_send(may_still_send, is_closing, calls):
    wrapped = RecordingTransport(is_closing)
    transport = Lingering(wrapped, lambda: may_still_send)
    assert transport.is_closing() == is_closing
    transport.close()
    assert wrapped.calls == calls


def test_the_second_close_closes_the_transport():
    wrapped = RecordingTransport()
    transport = Lingering(wrapped, lambda: True)
    transport.close()
    assert transport.is_closing()
    transport.close()
    assert wrapped.calls == ["write_eof", "resume_reading", "close"]
    transport.abort()
    assert wrapped.calls[-1] == "abort"
