"""Decisions about connections that need no network."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest

from service.web.connections import Connection, connection_limit


@pytest.mark.parametrize(("files", "limit"), [(1024, 896), (256, 128), (100, 1), (resource.RLIM_INFINITY, 1000)])
def test_some_open_files_are_reserved_for_other_uses(monkeypatch, files, limit):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connection_limit(1000) == limit


@pytest.mark.parametrize(("has_begun", "stays"), [(False, False), (True, True)])
def test_an_answer_that_has_not_begun_announces_the_end_of_its_connection(has_begun, stays):
    """Without the announcement the client would lose its next request."""
    connection = Connection.__new__(Connection)
    connection.cycle = SimpleNamespace(response_complete=False, response_started=has_begun, keep_alive=True)
    connection.end_after_this_request()
    assert connection.cycle.keep_alive == stays
