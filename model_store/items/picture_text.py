"""A picture that is written as text: base64, or a data: URI (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import re

from model_store.items.contents import TEXT, describe_content
from model_store.items.pictures import PictureError, media_type_of

_PLAIN_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
_URI = re.compile(r"\s*data:([^,]{0,1000}),", re.IGNORECASE)
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_LONE_SPACE = re.compile(r"\S +\S")
_PIECE = 65_536  # characters; the words of a whole text could take many times its memory
_SHOWN = 4096  # characters that tell what a text is
_URL_SAFE = str.maketrans("-_", "+/")


class PictureTextError(ValueError):
    """A text that holds no picture. The message names the cause and the cure, and never repeats the text."""


def picture_from_text(text: str) -> bytes:
    """The bytes of base64 or of a data: URI. Raises PictureTextError.

    Plain base64 may hold anything; decoding says what is wrong with it. Other spellings (base64url, without padding,
    with white space, percent-encoded, a URI of another media type) are accepted only if their content identifies itself
    as a file. Without this condition, most paths would be base64url.
    """
    prefix = _PLAIN_URI.match(text)
    try:
        return base64.b64decode(text[prefix.end() :] if prefix else text, validate=True)
    except ValueError:
        data = _read_leniently(text)
    kind = describe_content(text[:_SHOWN].encode(errors="replace") if data is None else data)
    if data is not None and (kind not in (None, TEXT) or _is_picture(data)):
        return data
    kind = None if data is None and kind is TEXT else kind
    raise PictureTextError(
        f"Send base64 (A-Z, a-z, 0-9, +, /) or a data: URI of a picture{f', not of {kind}' if kind else ''}; "
        "base64url (-, _) is read too, a path or a URL is not."
    )


def _read_leniently(text: str) -> bytes | None:
    """The bytes of base64 in any spelling, or of a data: URI in any form; None if it is neither."""
    if uri := _URI.match(text):
        text = text[uri.end() :]
        if "base64" not in [parameter.strip().lower() for parameter in uri[1].split(";")]:
            return _percent_decoded(text)
    text = _percent_decoded(text).decode(errors="replace") if "%" in text else text
    digits = "".join("".join(text[start : start + _PIECE].split()) for start in range(0, len(text), _PIECE))
    if not digits.isascii():
        return None
    digits = digits.translate(_URL_SAFE).rstrip("=")
    try:
        data = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None
    if "+" not in digits and _LONE_SPACE.search(text) and _is_picture(data):
        raise PictureTextError("The base64 has spaces in place of +, as from a form; write + as %2B, or send JSON.")
    return data


def _percent_decoded(text: str) -> bytes:
    """The bytes of a percent-encoded text; the text itself if any percent sign is not followed by two digits.

    Quoted-printable is the same with another sign, and its decoder takes no more memory than the text. urllib takes
    over a hundred bytes for each percent sign.
    """
    data = text.encode(errors="replace")
    if b"%" not in data or _BAD_PERCENT.search(data):
        return data
    return binascii.a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))


def _is_picture(data: bytes) -> bool:
    try:
        media_type_of(data)
    except PictureError:
        return False
    return True
