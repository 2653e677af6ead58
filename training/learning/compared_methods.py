"""The methods that `mora-train compare` compares: yardsticks, and changes of the task's configuration."""

from __future__ import annotations

from pydantic import JsonValue

OURS = "ours"  # the method of the unchanged configuration
YARDSTICKS: dict[str, float | None] = {
    "majority": None,
    "tfidf": 30.0,
    "hog": 30.0,
}  # methods without a backbone: the first C, the inverse strength of the regularisation, that the search tries

_PLAIN: dict[str, JsonValue] = {
    "mora.without": None,
    "train.probe": False,
    "train.patience": None,
    "train.adapter_rate": 1.0,
    "mora.dropout": 0.1,
    "train.modality_dropout": 0.0,
    "train.distillation": 0.0,
}
_OFFICIAL: dict[str, JsonValue] = {**_PLAIN, "method": "mora", "mora.parametrization": "official"}
METHODS: dict[str, dict[str, JsonValue]] = {
    "head": {**_PLAIN, "method": "head"},
    "bitfit": {**_PLAIN, "method": "bitfit"},
    "lora": {**_PLAIN, "method": "lora"},
    "dora": {**_PLAIN, "method": "dora"},
    "full": {**_PLAIN, "method": "full"},
    "mora-official": _OFFICIAL,
    "mora-identity": {**_PLAIN, "method": "mora", "mora.parametrization": "identity"},
    "mora-without-shared": {**_OFFICIAL, "mora.without": "shared"},
    "mora-without-specific": {**_OFFICIAL, "mora.without": "specific"},
    "mora-without-gram": {**_OFFICIAL, "mora.without": "gram"},
    "ours-head": {"method": "head"},
    OURS: {},
    "ours-auto": {"mora.auto": True},
}
NAMES = (*YARDSTICKS, *METHODS)  # in the order of the tables
ALL = tuple(name for name in NAMES if name != "ours-auto")  # which trains up to four times for each run
