"""The number of values in JSON, before it is parsed: each value takes many times the memory of its text."""

from __future__ import annotations

_SEPARATORS = (b",", b":", b"[", b"{")  # each value and name but the first follows one
_PIECE_BYTES = 65_536


def has_more_separators(text: bytes, limit: int) -> bool:
    """Whether more than `limit` commas, colons and opening brackets stand outside of strings, or too many strings.

    It reads no further than necessary. Behind the first mistake in the text it may count wrongly, but there parsing
    ends too.
    """
    if len(text) <= limit:
        return False
    separators = quotes = 0
    escape = b""
    for start in range(0, len(text), _PIECE_BYTES):
        piece = escape + text[start : start + _PIECE_BYTES]
        escape = b""
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"")
            if piece.endswith(b"\\"):
                piece, escape = piece[:-1], b"\\"  # of the first byte of the next piece
            piece = piece.replace(b'\\"', b"")
        parts = piece.split(b'"')
        outside = b'"'.join(parts[quotes % 2 :: 2])
        separators += sum(map(outside.count, _SEPARATORS))
        quotes += len(parts) - 1
        if separators > limit or quotes > 2 * (limit + 1):
            return True
    return False
