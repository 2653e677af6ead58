"""The adapter's algebra, against METHOD's equations in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.config import MoRAConfig, TaskConfig
from training.errors import BackboneError
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier
from training.model.mora import IdentityMoRAWeight, MoRAWeight, SharedFactors

PARAMETRIZATIONS = ["official", "identity"]
ALL_MODULES = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def randomize(module: nn.Module, seed: int = 1) -> None:
    """Move every trained parameter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if value.requires_grad:
                value += 0.1 * torch.randn(value.shape, generator=generator)


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(batch, 3, 32, 32, generator=generator)
    ids = torch.randint(2, 100, (batch, 9), generator=generator)
    ids[:, 0], ids[:, -1] = 0, 1
    return pixels, ids


def batch(pixels: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Complete items, then the row of the absent inputs, whose content has no effect here."""
    rows = torch.arange(len(pixels))
    return {
        "image_row": rows,
        "text_row": rows,
        "pixel_values": torch.cat([pixels, pixels[:1]]),
        "input_ids": torch.cat([ids, ids[:1]]),
        "last_token": torch.full((len(ids) + 1,), ids.shape[1] - 1),
    }


def logits_of(model: nn.Module, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return model(**batch(pixels, ids))["logits"]


def loss_of(model: nn.Module, pixels: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model(**batch(pixels, ids), labels=labels)["loss"]


def by_hand(w0: np.ndarray, own: np.ndarray, other: np.ndarray, weight: MoRAWeight) -> np.ndarray:
    """METHOD, "What MoRA is", in float64 NumPy. The side of a rectangular weight that is not `own`'s has `inner`."""
    s_out, s_in = (
        own if size == len(own) else weight.inner.detach().double().numpy() for size in w0.shape
    )  # (out, r), (in, r)
    p, q = (value.detach().double().numpy() for value in (weight.p, weight.q))
    m_s, m_p = (v.detach().double().numpy() for v in (weight.shared_magnitude, weight.specific_magnitude))
    gram = other.T @ other
    if isinstance(weight, IdentityMoRAWeight):
        gram = float(weight.gate.detach()) * gram * len(gram) / np.trace(gram)
    shared = w0 + weight.scale * s_out @ gram @ s_in.T
    specific = w0 + weight.scale * (p @ q).T
    both = m_s * shared / np.linalg.norm(shared, axis=0) + m_p * specific / np.linalg.norm(specific, axis=0)
    return both / 2 if isinstance(weight, IdentityMoRAWeight) else both


@given(
    text_width=st.integers(2, 12),
    image_width=st.integers(2, 12),
    rank=st.integers(1, 4),
    scale=st.sampled_from([0.001, 0.01, 0.1]),
    tower=st.sampled_from(["image", "text"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_official_weight_follows_the_equations(
    text_width: int, image_width: int, rank: int, scale: float, tower: str, seed: int
) -> None:
    torch.manual_seed(seed)
    factors = SharedFactors(text_width, image_width, rank)
    width = image_width if tower == "image" else text_width
    w0 = torch.randn(width, width)
    own, other = (factors.image, factors.text) if tower == "image" else (factors.text, factors.image)
    weight = MoRAWeight(w0, own, other, MoRAConfig(rank=rank, scale=scale, parametrization="official"))
    randomize(weight, seed)

    expected = by_hand(w0.double().numpy(), own.detach().double().numpy(), other.detach().double().numpy(), weight)

    np.testing.assert_allclose(weight(w0).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@given(
    width=st.integers(2, 9),
    inner=st.integers(10, 20),
    other_width=st.integers(2, 12),
    rank=st.integers(1, 4),
    scale=st.sampled_from([0.01, 0.1, 1.0]),
    kind=st.sampled_from([MoRAWeight, IdentityMoRAWeight]),
    outputs_are_inner=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_a_rectangular_weight_follows_the_equations_in_float64(
    width: int,
    inner: int,
    other_width: int,
    rank: int,
    scale: float,
    kind: type[MoRAWeight],
    outputs_are_inner: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    factors = SharedFactors(other_width, width, rank).double()
    w0 = torch.randn(*((inner, width) if outputs_are_inner else (width, inner)), dtype=torch.float64)
    weight = kind(w0, factors.image, factors.text, MoRAConfig(rank=rank, scale=scale)).double()
    randomize(weight, seed)

    expected = by_hand(w0.numpy(), factors.image.detach().numpy(), factors.text.detach().numpy(), weight)

    np.testing.assert_allclose(weight(w0).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert weight.inner.shape == (inner, rank)
    assert weight.shared_magnitude.shape == weight.specific_magnitude.shape == (1, w0.shape[1])


def test_official_starts_as_the_authors_code_does() -> None:
    torch.manual_seed(0)
    factors = SharedFactors(512, 768, 4)
    w0 = torch.randn(768, 768) * 0.02

    weight = MoRAWeight(w0, factors.image, factors.text, MoRAConfig())

    assert abs(float(factors.text.detach().var()) - 1 / 4) < 0.05  # N(0, 1/r)
    assert abs(float(weight.p.detach().var()) - 1 / 4) < 0.05
    assert not weight.q.any()
    torch.testing.assert_close(weight.shared_magnitude, w0.pow(2).sum(0, keepdim=True).sqrt())
    torch.testing.assert_close(weight.specific_magnitude, weight.shared_magnitude)


@pytest.mark.parametrize("shape", [(10, 10), (30, 10), (10, 30)])
def test_identity_starts_at_w0_and_every_part_can_learn(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    w0 = torch.randn(shape)
    factors = SharedFactors(6, 10, 4)
    weight = IdentityMoRAWeight(w0, factors.image, factors.text, MoRAConfig())

    torch.testing.assert_close(weight(w0), w0, rtol=1e-6, atol=1e-6)

    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    for _ in range(2):  # what a zero factor blocks in the first step moves in the second
        optimizer.zero_grad()
        (weight(w0) * torch.arange(float(w0.numel())).view(shape)).sum().backward()
        optimizer.step()
    for name, value in weight.named_parameters():
        assert value.grad is not None, name
        assert value.grad.any(), name


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ALL_MODULES, ["fc2"]])
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_merged_equals_unmerged(
    make_config: Callable[..., TaskConfig], parametrization: str, modules: list[str]
) -> None:
    config = make_config(mora={"parametrization": parametrization, "rank": 3, "target_modules": modules})
    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3).eval()
    randomize(model)
    pixels, ids = inputs()
    before = logits_of(model, pixels, ids)

    model.adapter.merge()

    torch.testing.assert_close(logits_of(model, pixels, ids), before, rtol=0, atol=1e-6)
    assert not any("parametrizations" in name for name, _ in model.backbone.named_parameters())
    model.train()  # no dropout is left on the merged projections
    torch.testing.assert_close(logits_of(model, pixels, ids), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ALL_MODULES])
def test_identity_features_equal_the_backbones_at_step_0(
    make_config: Callable[..., TaskConfig], modules: list[str]
) -> None:
    config = make_config(mora={"parametrization": "identity", "target_modules": modules})
    plain = load_backbone(config.backbone).eval()
    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3).eval()
    pixels, ids = inputs()

    image = plain.visual_projection(plain.vision_model(pixel_values=pixels).pooler_output)
    text = plain.text_projection(plain.text_model(input_ids=ids).pooler_output)

    assert (model.image_features(pixels) - image).abs().max() < 1e-5
    assert (model.text_features(ids, torch.full((len(ids),), ids.shape[1] - 1)) - text).abs().max() < 1e-5


def test_official_does_not_start_at_the_backbone(make_config: Callable[..., TaskConfig]) -> None:
    config = make_config(mora={"parametrization": "official"})
    plain = load_backbone(config.backbone).eval()
    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3).eval()
    pixels, _ = inputs()

    image = plain.visual_projection(plain.vision_model(pixel_values=pixels).pooler_output)

    assert (model.image_features(pixels) - image).abs().max() > 1e-2


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_only_adapter_and_head_are_trained(make_config: Callable[..., TaskConfig], parametrization: str) -> None:
    config = make_config(mora={"parametrization": parametrization})
    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3)
    frozen = {name: value.clone() for name, value in model.backbone.named_parameters() if not value.requires_grad}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    pixels, ids = inputs()

    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, pixels, ids, torch.tensor([0, 1, 2])).backward()
        optimizer.step()

    assert all(name.startswith(("adapter.", "head.")) for name in model.state_dict())
    for name, value in model.backbone.named_parameters():
        if name in frozen:
            torch.testing.assert_close(value, frozen[name], rtol=0, atol=0)


def test_towers_are_paired_from_the_last_layer_backwards(make_config: Callable[..., TaskConfig]) -> None:
    config = make_config(mora={"first_layer": 1})

    model = MissingModalityClassifier(load_backbone(config.backbone), config, 3)

    assert (model.image_split, model.text_split) == (2, 1)  # of 4 and 3 layers


@pytest.mark.parametrize(
    ("mora", "says"),
    [
        ({"target_modules": ["qkv"]}, "q_proj"),
        ({"target_modules": ["fc1", "fc3"]}, "has no fc3"),
        ({"first_layer": 3}, "first_layer"),
    ],
)
def test_a_layer_that_cannot_be_adapted_is_named(make_config: Callable[..., TaskConfig], mora: dict, says: str) -> None:
    config = make_config(mora=mora)

    with pytest.raises(BackboneError, match=says):
        MissingModalityClassifier(load_backbone(config.backbone), config, 3)


def test_a_state_of_another_shape_is_refused(make_config: Callable[..., TaskConfig], tmp_path: Path) -> None:
    small, large = make_config(mora={"rank": 2}), make_config(mora={"rank": 4})
    state = MissingModalityClassifier(load_backbone(small.backbone), small, 3).state_dict()

    with pytest.raises(BackboneError, match="does not fit"):
        MissingModalityClassifier(load_backbone(large.backbone), large, 3).load_state_dict(state)
