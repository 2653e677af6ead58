"""What training changed, on cases with a known answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from training.config import MoRAConfig, TaskConfig
from training.data.missing import Lacks
from training.learning.encoded_split import EncodedSplit
from training.learning.weight_changes import changed_spectra, effective_rank, gram_spectra, modality_gap
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier
from training.model.mora import MoRAAdapter

Make = Callable[..., TaskConfig]
IMAGE, TEXT = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("spectrum", "rank"), [([2.0, 2.0, 2.0], 3.0), ([5.0, 0.0], 1.0), ([0.0, 0.0], 0.0), ([3.0, 1.0], 1.7548)]
)
def test_the_effective_rank_counts_equal_values(spectrum: list[float], rank: float) -> None:
    assert effective_rank(torch.tensor(spectrum)) == pytest.approx(rank, abs=1e-4)


def test_only_changed_matrices_of_layers_are_listed_with_the_spectrum_of_their_change(tiny_backbone) -> None:
    before, after = (load_backbone(str(tiny_backbone)) for _ in range(2))
    attention = after.text_model.encoder.layers[1].self_attn
    w0 = attention.q_proj.weight.detach().clone()
    with torch.no_grad():
        attention.q_proj.weight += 0.5 * torch.outer(torch.ones(len(w0)), torch.ones(len(w0)))
        attention.k_proj.bias += 1
        after.text_model.embeddings.token_embedding.weight += 1

    (row,) = changed_spectra(before, after)

    assert (row["tower"], row["layer"], row["module"]) == ("text", 1, "q_proj")
    assert row["change"] == pytest.approx([0.5 * len(w0)] + [0.0] * (len(w0) - 1), abs=1e-5)
    assert row["effective_rank"]["change"] == pytest.approx(1, abs=1e-3)
    assert row["before"] == pytest.approx(np.linalg.svd(w0.numpy(), compute_uv=False).tolist(), abs=1e-5)
    assert row["after"] == pytest.approx(
        np.linalg.svd(attention.q_proj.weight.detach().numpy(), compute_uv=False).tolist(), abs=1e-5
    )
    assert row["relative_change"] == pytest.approx(0.5 * len(w0) / float(w0.norm()), rel=1e-4)


@pytest.mark.parametrize("without", [None, "shared", "gram"])
@pytest.mark.parametrize("kind", ["official", "identity"])
def test_the_eigenvalues_of_the_other_towers_gram_matrix(
    tiny_backbone, kind: Literal["official", "identity"], without
) -> None:
    backbone = load_backbone(str(tiny_backbone))
    layers = [backbone.vision_model.encoder.layers[1]], [backbone.text_model.encoder.layers[1]]
    adapter = MoRAAdapter(*layers, MoRAConfig(parametrization=kind, rank=3, without=without))

    rows = gram_spectra(adapter, {"image": 1, "text": 1})

    if without is not None:
        assert rows == []
        return
    assert {(row["tower"], row["layer"]) for row in rows} == {("image", 1), ("text", 1)}
    for row, factor in zip(rows, (adapter.shared[0].text, adapter.shared[0].image), strict=True):
        values = np.linalg.svd(factor.detach().numpy(), compute_uv=False) ** 2
        scale = 1 if kind == "official" else 3 / values.sum()
        assert row["eigenvalues"] == pytest.approx((scale * values).tolist(), rel=1e-4)


def encoded(image: list[list[float]], text: list[list[float]], natural: list[int]) -> EncodedSplit:
    absent: Tensor = torch.zeros(3)
    count = len(natural)
    return EncodedSplit(
        torch.tensor(image), torch.tensor(text), absent, absent, torch.zeros(count), np.array(natural, dtype=np.int64)
    )


def test_the_gap_is_that_of_the_items_with_both_modalities_at_any_length_of_the_features() -> None:
    far = encoded([IMAGE, [9.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [TEXT, TEXT, IMAGE], [Lacks.NOTHING] * 2 + [Lacks.TEXT])

    gap = modality_gap(far)

    assert gap == pytest.approx({"items": 2, "distance": 2**0.5, "angle": 90, "own_angle": 90, "other_angle": 90})


def test_an_item_is_nearer_to_its_own_text_than_to_others() -> None:
    gap = modality_gap(encoded([IMAGE, TEXT], [IMAGE, TEXT], [Lacks.NOTHING] * 2))

    assert gap == pytest.approx({"items": 2, "distance": 0, "angle": 0, "own_angle": 0, "other_angle": 90}, abs=1e-5)


def test_there_is_no_gap_without_two_complete_items() -> None:
    assert modality_gap(encoded([IMAGE, IMAGE], [TEXT, TEXT], [Lacks.NOTHING, Lacks.IMAGE])) is None


def test_an_adapter_that_is_not_trained_changes_no_weight(make_config: Make) -> None:
    config = make_config()
    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3)
    model.adapter.merge()

    for row in changed_spectra(load_backbone(config.backbone), model.backbone):  # rounding of column norms only
        assert row["relative_change"] < 1e-6
