from __future__ import annotations

import pytest

from model_store import CorruptError, NotFoundError
from service.models.refusal import RefusedError, is_final, reason_of, refusing


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (RefusedError("head", ""), "head", True),
        (RefusedError("load", ""), "load", False),
        (CorruptError("", "sha256"), "sha256", False),
        (NotFoundError(""), "missing", False),
    ],
)
def test_a_refusal_is_final_only_if_it_depends_on_the_version_alone(error, reason, final):
    assert (reason_of(error), is_final(error)) == (reason, final)


def test_an_exception_of_a_library_becomes_a_refusal_with_its_cause():
    with pytest.raises(RefusedError, match="KeyError: 'weight'") as caught, refusing("head"):
        {}["weight"]
    assert caught.value.reason == "head"


@pytest.mark.parametrize("error", [CorruptError("", "size"), RefusedError("signature", "")])
def test_errors_of_the_store_and_refusals_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, refusing("head"):
        raise error
    assert caught.value is error
