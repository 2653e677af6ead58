from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import Settings, check_names, usable_cores


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_setting_comes_from_the_environment_and_a_flag_wins(monkeypatch):
    monkeypatch.setenv("MORA_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_threads_follow_the_cores_this_process_may_use():
    assert Settings().intra_op_threads == Settings().preparation_workers == usable_cores()


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("MORA_PROT", "MORA_PORT"),
        ("MORA_MAX_IMAGE_PIXEL", "MAX_IMAGE_PIXELS"),
        ("MORA_API_KEY", "MORA_API_KEYS_FILE"),  # a client's; a service that took it for its own would be open
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_closest(name, closest):
    with pytest.raises(ValueError, match=closest):
        check_names(["PATH", "MORA_HOST", name])


def test_known_names_pass():
    check_names(["PATH", "MORAL", *(f"MORA_{name.upper()}" for name in Settings.model_fields)])


@pytest.mark.parametrize("change", [{"port": 70_000}, {"poll_seconds": 0}, {"queue_size": -1}, {"precision": "fp8"}])
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValidationError):
        Settings(**change)
