"""Coverage-guided fuzzing of JSON bodies: `python -m tests.support.faults.fuzz_json -max_total_time=120`."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["service", "json"]):
    from service.api.requests import ClassifyRequest
    from service.errors import ServiceError
    from service.web.bodies import parse_batch, parse_request

from tests.support.faults.coverage import foresee, fuzz


def one(body: bytes) -> None:
    """One body, as a request for one item and for several."""
    for parse in (
        lambda: parse_request(ClassifyRequest, body, "application/json", 65_536),
        lambda: parse_batch(body, 65_536, 256),
    ):
        try:
            parse()
        except ServiceError as error:
            foresee(error, error.code)


if __name__ == "__main__":
    fuzz(one)
