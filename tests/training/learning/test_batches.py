"""Batches: rows of inputs, the absent input in the last row, labels as tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model_store import Problem
from training.config import TaskConfig
from training.data.examples import Example
from training.data.missing import Lacks
from training.data.splits import load_data
from training.errors import DataError
from training.learning.batches import Collator, MaskedExamples, PairCollator, RawInputs, content_number
from training.model.backbones import load_backbone_config
from training.model.preprocessing import Preprocessor

Make = Callable[..., TaskConfig]
LABELS = ("blue", "green", "red")


@pytest.fixture
def preprocessor(make_config: Make) -> Preprocessor:
    backbone = make_config().backbone
    return Preprocessor(backbone, load_backbone_config(backbone))


def test_each_present_input_has_a_row_and_absent_ones_share_the_last(
    preprocessor: Preprocessor, png: Callable[..., bytes]
) -> None:
    items = [
        Example(1, png(1), "a red picture", ("red",)),
        Example(2, None, "a blue picture", ("blue",)),
        Example(3, png(2), None, ("red",)),
    ]

    batch = Collator(RawInputs(preprocessor), LABELS, Problem.SINGLE_LABEL)(items)

    assert batch["image_row"].tolist() == [0, 2, 1]
    assert batch["text_row"].tolist() == [0, 1, 2]
    assert batch["labels"].tolist() == [2, 0, 2]
    assert batch["pixel_values"].shape[0] == batch["input_ids"].shape[0] == batch["last_token"].shape[0] == 3
    assert batch["pixel_values"][1].equal(preprocessor.image(items[2].image))
    assert batch["pixel_values"][2].equal(preprocessor.image(None))
    assert next(iter(batch)) == "labels"  # the Trainer reads the batch size from the first tensor


def test_several_labels_are_zeros_and_ones(preprocessor: Preprocessor) -> None:
    items = [Example(1, None, "x", ("red", "blue")), Example(2, None, "y", ())]

    targets = Collator(RawInputs(preprocessor), LABELS, Problem.MULTI_LABEL).targets(items)

    assert targets.equal(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))


def test_queries_come_before_their_targets(retrieval_config: Make, preprocessor: Preprocessor) -> None:
    pairs = load_data(retrieval_config()).train.items[:4]

    batch = PairCollator(RawInputs(preprocessor), (), Problem.RETRIEVAL)(pairs)

    assert batch["image_row"].tolist() == [0, 6, 1, 2, 3, 4, 5, 6]
    assert batch["text_row"].tolist() == [0, 1, 7, 2, 3, 4, 5, 6]
    assert batch["pixel_values"][1].equal(preprocessor.image(pairs[2].image))
    assert batch["pixel_values"][3].equal(preprocessor.image(pairs[0].target.image))
    assert batch["labels"].tolist() == [content_number(pair) for pair in pairs]
    assert pairs[0].target == dataclasses.replace(pairs[1].target, row=1)
    assert batch["labels"][0] == batch["labels"][1] != batch["labels"][2], "rows 0 and 1 have the same target"
    assert content_number(pairs[2]) == content_number(pairs[2].target)


def test_the_missing_table_takes_one_modality_away(make_config: Make) -> None:
    split = load_data(make_config()).train
    whole = next(number for number, item in enumerate(split.items) if item.image and item.text)
    table = np.zeros(len(split.items), dtype=np.int8)

    seen = []
    for lacks in (Lacks.NOTHING, Lacks.TEXT, Lacks.IMAGE):
        table[whole] = lacks
        seen.append(MaskedExamples(split, table)[whole])

    item = split.items[whole]
    assert seen == [item, dataclasses.replace(item, text=None), dataclasses.replace(item, image=None)]
    assert len(MaskedExamples(split, table)) == len(split.items)


def test_a_picture_that_cannot_be_decoded_is_named_by_its_row(preprocessor: Preprocessor) -> None:
    collator = Collator(RawInputs(preprocessor), LABELS, Problem.SINGLE_LABEL)

    with pytest.raises(DataError, match="row 7: "):
        collator([Example(7, b"no picture", None, ("red",))])
