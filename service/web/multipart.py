"""Strict parsing of multipart/form-data in memory. The caller limits the size of the body."""

from __future__ import annotations

from io import BytesIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import Code, ServiceError

_MAX_HEADER = 4096  # parsing time grows faster than the length


def parse_multipart(body: bytes, content_type: str, max_parts: int) -> dict[str, bytes]:
    """The content of each part by its name. Raises ServiceError `bad_multipart`."""
    if len(content_type) > _MAX_HEADER:
        raise _bad("The content type is too long.")
    _, options = parse_options_header(content_type)
    form = _Form(max_parts)
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": form.part_begin,
                "on_header_field": form.header_field,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_part_data": form.part_data,
                "on_part_end": form.part_end,
                "on_end": form.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _bad("The body does not follow multipart/form-data.") from error
    if not form.complete:
        raise _bad("The body ends before its last boundary, or the content type names no boundary.")
    return form.parts


class _Form:
    """Collects the parts in the callbacks of the parser."""

    def __init__(self, max_parts: int) -> None:
        self._max_parts = max_parts
        self.parts: dict[str, bytes] = {}
        self.complete = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._data = BytesIO()

    def part_begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise _bad(f"A form may have {self._max_parts} parts.")
        self._disposition = b""
        self._data = BytesIO()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.write(memoryview(data)[start:end])

    def part_end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        if kind != b"form-data" or not name:
            raise _bad("A part has no name.")
        if name in self.parts:
            raise _bad("Two parts have the same name.")
        self.parts[name] = self._data.getvalue()

    def end(self) -> None:
        self.complete = True


def _bad(detail: str) -> ServiceError:
    return ServiceError(Code.BAD_MULTIPART, detail)
