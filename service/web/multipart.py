"""Strict parsing of multipart/form-data in memory. The caller limits the size of the body."""

from __future__ import annotations

from io import BytesIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import Code, ServiceError

_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_ASCII_AND_MORE = (b"iso-8859-1", b"windows-1252")  # Apache's HttpClient gives the former by default
_PLAIN_ENCODINGS = (b"binary", b"8bit", b"7bit")
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
        self._headers: dict[bytes, bytes] = {}
        self._data = BytesIO()

    def part_begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise _bad(f"A form may have {self._max_parts} parts.")
        self._headers = {}
        self._data = BytesIO()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        name, value = self._header_name.lower(), self._header_value
        self._header_name = self._header_value = b""
        if name in self._headers:
            raise _bad("A part has a header more than once.")
        self._headers[name] = value

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.write(memoryview(data)[start:end])

    def part_end(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("latin-1")
        if kind != b"form-data" or not name:
            raise _bad("A part has no name.")
        if name in self.parts:
            raise _bad("Two parts have the same name.")
        content = self._data.getvalue()
        _, type_options = parse_options_header(self._headers.get(b"content-type", b""))
        charset = type_options.get(b"charset", b"utf-8").lower()
        if charset not in _CHARSETS and not (charset in _ASCII_AND_MORE and content.isascii()):
            raise _bad("A part is in another charset; send it as UTF-8.")
        if self._headers.get(b"content-transfer-encoding", b"binary").strip().lower() not in _PLAIN_ENCODINGS:
            raise _bad("A part has a Content-Transfer-Encoding; send it as it is.")
        self.parts[name] = content

    def end(self) -> None:
        self.complete = True


def _bad(detail: str) -> ServiceError:
    return ServiceError(Code.BAD_MULTIPART, detail)
