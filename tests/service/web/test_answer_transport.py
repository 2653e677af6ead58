"""Writes of an answer, joined, and closing a connection in two steps if the client may still be sending."""

from __future__ import annotations

import asyncio

import pytest

from service.web.answer_transport import AnswerTransport


class RecordingTransport:
    """A transport that records the calls of its methods."""

    def __init__(self, is_closing: bool = False) -> None:
        self.calls: list[str | bytes] = []
        self._is_closing = is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def abort(self) -> None:
        self.calls.append("abort")
        self._is_closing = True

    def __getattr__(self, name: str) -> object:
        return lambda: self.calls.append(name)


@pytest.mark.parametrize(
    ("may_still_send", "is_closing", "calls"),
    [(True, False, ["write_eof", "resume_reading"]), (False, False, ["close"]), (True, True, ["close"])],
)
def test_the_servers_half_is_closed_first_if_the_client_may_still_send(may_still_send, is_closing, calls):
    wrapped = RecordingTransport(is_closing)
    transport = AnswerTransport(wrapped, lambda: may_still_send)
    assert transport.is_closing() == is_closing
    transport.close()
    assert wrapped.calls == calls


def test_the_second_close_closes_the_transport():
    wrapped = RecordingTransport()
    transport = AnswerTransport(wrapped, lambda: True)
    transport.close()
    assert transport.is_closing()
    transport.close()
    assert wrapped.calls == ["write_eof", "resume_reading", "close"]
    transport.abort()
    assert wrapped.calls[-1] == "abort"


def written(steps, may_still_send=False) -> list[str | bytes]:
    """The calls that reach the wrapped transport when `steps` run in one turn of an event loop."""

    async def run() -> list[str | bytes]:
        wrapped = RecordingTransport()
        steps(AnswerTransport(wrapped, lambda: may_still_send))
        await asyncio.sleep(0)
        return wrapped.calls

    return asyncio.run(run())


def head_and_body(transport) -> None:
    transport.write(b"head ")
    transport.write(b"body")


def answer_and_close(transport) -> None:
    head_and_body(transport)
    transport.close()


def answer_and_abort(transport) -> None:
    head_and_body(transport)
    transport.abort()


@pytest.mark.parametrize(
    ("steps", "may_still_send", "calls"),
    [
        (head_and_body, False, [b"head body"]),
        (answer_and_close, False, [b"head body", "close"]),
        (answer_and_close, True, [b"head body", "write_eof", "resume_reading"]),
        (answer_and_abort, False, ["abort"]),
    ],
)
def test_head_and_body_are_one_write_before_the_connection_ends(steps, may_still_send, calls):
    assert written(steps, may_still_send) == calls


def test_writes_of_later_turns_are_written_apart():
    async def run() -> list[str | bytes]:
        wrapped = RecordingTransport()
        transport = AnswerTransport(wrapped, lambda: False)
        for part in (b"1", b"2"):
            transport.write(part)
            await asyncio.sleep(0)
        return wrapped.calls

    assert asyncio.run(run()) == [b"1", b"2"]
