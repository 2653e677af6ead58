"""Every mapping of a YAML text has each key once; merged keys may be replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import load_config
from training.errors import ConfigError
from training.yaml_text import RepeatedKeyError, parse_yaml


@pytest.mark.parametrize(
    "text",
    [
        "labels: [a, b]\nlabels: [c, d]",
        "data: {train: a, train: b}",
        "data:\n  train: a\n  image: x\n  'train': b",
        "- {a: 1}\n- [{b: 1, b: 1}]",
        "base: &base {a: 1}\nuse:\n  <<: *base\n  b: 1\n  b: 2",
    ],
)
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(RepeatedKeyError, match="occurs more than once; remove all but one"):
        parse_yaml(text)


def test_a_key_may_replace_a_merged_one() -> None:
    text = "first: &first {a: 1, b: 2}\nsecond: &second {<<: *first, b: 3}\nthird: {<<: *second, a: 4}"

    assert parse_yaml(text)["third"] == {"a": 4, "b": 3}


def test_the_error_for_a_repeated_key_names_its_line_or_flag(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("task: x\nlabels: [a, b]\ndata: {train: t.csv}\nlabels: [c, d]\n")
    with pytest.raises(ConfigError, match=r"line 4, column 1: the key 'labels' occurs more than once; remove"):
        load_config(path)

    path.write_text("task: x\n")
    with pytest.raises(ConfigError, match=r"^flag --data: the key 'train' occurs more than once; remove"):
        load_config(path, ["--data", "{train: t.csv, train: u.csv}"])
