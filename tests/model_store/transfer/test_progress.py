"""Counts of moved bytes, with a bar on a terminal."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from model_store.transfer import TransferBar, TransferCount


def test_several_threads_count():
    count = TransferCount()
    count.expect(40_000)
    threads = [threading.Thread(target=lambda: [count.add(1) for _ in range(10_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (count.total_bytes, count.moved_bytes) == (40_000, 40_000)


def test_a_bar_shows_bytes_on_a_terminal_and_nothing_elsewhere():
    outputs = {}
    for is_terminal in (True, False):
        output = io.StringIO()
        bar = TransferBar(Console(file=output, force_terminal=is_terminal, width=100))
        with bar.bar:
            bar.expect(2_000_000)
            bar.add(1_500_000)
            bar.bar.refresh()
        outputs[is_terminal] = output.getvalue()

    assert "1.5/2.0 MB" in outputs[True]
    assert outputs[False].strip() == ""


def test_a_second_transfer_begins_at_zero():
    bar = TransferBar(Console(file=io.StringIO()))
    bar.expect(10)
    bar.add(10)

    bar.expect(5)

    assert (bar.total_bytes, bar.moved_bytes) == (5, 0)
