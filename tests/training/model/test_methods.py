"""Every method of the comparison: its trained parameters, its start at the backbone, and its exact merge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.training.model.test_mora import batch, inputs, randomize
from training.config import TaskConfig
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier

Make = Callable[..., TaskConfig]
METHODS = ["mora", "lora", "dora", "bitfit", "full", "head"]
TARGETS = [["q_proj", "v_proj"], ["out_proj", "fc1", "fc2"]]


def made(config: TaskConfig) -> MissingModalityClassifier:
    torch.manual_seed(0)
    return MissingModalityClassifier(load_backbone(config.backbone), config, 3)


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_merged_equals_unmerged(make_config: Make, method: str, targets: list[str], backbone: str, request) -> None:
    folder, mora = str(request.getfixturevalue(backbone)), {"target_modules": targets}
    model = made(make_config(method=method, backbone=folder, mora=mora)).eval()
    randomize(model)
    pixels, ids = inputs()
    ids = ids.clamp(max=17)
    before = model(**batch(pixels, ids))["logits"]

    model.adapter.merge()

    assert not any("lora" in name or "parametrizations" in name for name, _ in model.backbone.named_modules())
    torch.testing.assert_close(model(**batch(pixels, ids))["logits"], before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_merging_names_the_projections_that_hold_what_was_trained(
    make_config: Make, method: str, targets: list[str]
) -> None:
    config = make_config(method=method, mora={"target_modules": targets})
    model = made(config)
    randomize(model)
    with torch.no_grad():
        before = {name: value.clone() for name, value in load_backbone(config.backbone).named_parameters()}

    merged = model.adapter.merge()

    after = model.backbone.named_parameters()
    changed = {name for name, value in after if not torch.equal(value, before[name])}
    names = {f"{name}.weight" for name, module in model.backbone.named_modules() if module in merged}
    assert names == (changed if method in ("mora", "lora", "dora") else set())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "mora"])
def test_a_baseline_starts_at_the_backbone(make_config: Make, method: str) -> None:
    config = make_config(method=method)
    model, plain = made(config).eval(), load_backbone(config.backbone).eval()
    pixels, _ = inputs()

    features = model.image_features(pixels)

    torch.testing.assert_close(features, plain.get_image_features(pixel_values=pixels).pooler_output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_trained_parameter_gets_a_gradient(make_config: Make, method: str, targets: list[str]) -> None:
    mora = {"parametrization": "identity", "dropout": 0.0, "target_modules": targets}
    model = made(make_config(method=method, mora=mora))
    randomize(model)  # away from the zeros that block the first step
    pixels, ids = inputs()

    model(**batch(pixels, ids), labels=torch.tensor([0, 1, 2]))["loss"].backward()

    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []


def test_only_the_adapted_layers_are_touched(make_config: Make) -> None:
    trained = {method: set(made(make_config(method=method)).state_dict()) for method in METHODS}

    assert trained["head"] == {"head.weight", "head.bias"}
    assert all(name.endswith("bias") or name == "head.weight" for name in trained["bitfit"])
    assert any("image_trunk.embeddings" in name for name in trained["full"])
    for method in ("lora", "dora", "bitfit"):
        assert not any("trunk" in name for name in trained[method]), method


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("parametrization", ["official", "identity"])
def test_an_ablation_trains_the_remaining_terms(make_config: Make, parametrization: str, targets: list[str]) -> None:
    def names(without: str | None) -> set[str]:
        mora = {"parametrization": parametrization, "without": without, "target_modules": targets}
        return {name.rpartition(".")[2] for name in made(make_config(mora=mora)).state_dict()}

    assert not names("shared") & {"image", "text", "inner", "shared_magnitude", "gate"}
    assert not names("specific") & {"p", "q", "specific_magnitude"}
    assert names("gram") == names(None)


def test_without_gram_the_towers_are_independent(make_config: Make) -> None:
    model = made(make_config(mora={"without": "gram"})).eval()
    pixels, _ = inputs()
    before = model.image_features(pixels)

    with torch.no_grad():
        for factors in model.adapter.shared:
            factors.text.mul_(3)

    torch.testing.assert_close(model.image_features(pixels), before, rtol=0, atol=0)
