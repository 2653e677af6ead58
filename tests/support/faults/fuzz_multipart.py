"""Coverage-guided fuzzing of forms: `python -m tests.support.faults.fuzz_multipart -max_total_time=120`."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["service", "python_multipart"]):
    from service.api.requests import ClassifyRequest
    from service.errors import ServiceError
    from service.web.bodies import parse_request

from tests.support.faults.coverage import foresee, fuzz


def one(data: bytes) -> None:
    """The first line says what is left out of `multipart/form-data; boundary=x`; the rest is the body."""
    parameters, _, body = data.partition(b"\n")
    for content_type in ("multipart/form-data; boundary=x", "multipart/form-data" + parameters.decode("latin-1")):
        try:
            parse_request(ClassifyRequest, body, content_type, 65_536)
        except ServiceError as error:
            foresee(error, error.code)


if __name__ == "__main__":
    fuzz(one)
