"""The written graphs compute what the towers of `training.model.towers` compute, for any backbone and any split.

Covers training.export.graph_writer, training.export.graph_layers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.numpy import load, save
from transformers import CLIPConfig, SiglipConfig

from training.config import TaskConfig
from training.export.onnx_graphs import GraphFiles, export_graphs, export_single_file, export_tails
from training.model.backbone_files import ACTIVATIONS
from training.model.backbones import empty_backbone
from training.model.classifier import MissingModalityClassifier

Make = Callable[..., TaskConfig]
LENGTHS = (1, 2, 7, 11)
IMAGE = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "image_size": 20, "patch_size": 6}
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 50}
POSITIONS = {"max_position_embeddings": 11, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1}


def model_of(
    make_config: Make, family: str, activation: str = "gelu", layers: int = 3, split: tuple[int, int] = (1, 2)
) -> MissingModalityClassifier:
    """A random backbone, moved from its first weights so that norms, biases and embeddings count, and a head."""
    torch.manual_seed(0)
    both = {"hidden_act": activation, "num_hidden_layers": layers}
    image, text = IMAGE | both, TEXT | POSITIONS | both
    if family == "clip":
        config = CLIPConfig(vision_config=image, text_config=text, projection_dim=10)
    else:
        config = SiglipConfig(vision_config=image, text_config=text | {"projection_size": IMAGE["hidden_size"]})
    backbone = empty_backbone(config)
    with torch.no_grad():
        for value in backbone.parameters():
            value += 0.2 * torch.randn(value.shape)
    model = MissingModalityClassifier(backbone, make_config(method="head", mora={"first_layer": layers - 1}), 3).eval()
    model.split_at(backbone, *split)
    return model


def run(graph: bytes, weights: bytes | None = None, **inputs: torch.Tensor) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    values = {name: value.numpy() for name, value in inputs.items()} | (load(weights) if weights else {})
    return ort.InferenceSession(graph, options).run(None, values)[0]


def check_features(model: MissingModalityClassifier, files: GraphFiles) -> None:
    """Four pictures, and four texts of each length that end anywhere."""
    pixels = torch.randn(4, 3, IMAGE["image_size"], IMAGE["image_size"])
    hidden = torch.from_numpy(run(files["image_trunk"], pixel_values=pixels))
    with torch.no_grad():
        np.testing.assert_allclose(hidden, model.image_trunk(pixels), atol=1e-5)
        image = run(files["image_tail"], files.get("image_weights"), image_hidden=hidden)
        np.testing.assert_allclose(image, model.image_features(pixels), atol=1e-4, rtol=1e-5)
        for length in LENGTHS:
            ids, last = torch.randint(50, (4, length)), torch.randint(length, (4,))
            hidden = torch.from_numpy(run(files["text_trunk"], input_ids=ids))
            np.testing.assert_allclose(hidden, model.text_trunk(ids), atol=1e-5)
            text = run(files["text_tail"], files.get("text_weights"), text_hidden=hidden, last_token=last)
            np.testing.assert_allclose(text, model.text_features(ids, last), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_graphs_equal_the_towers_with_every_activation(make_config: Make, family: str, activation: str) -> None:
    model = model_of(make_config, family, activation)

    check_features(model, export_graphs(model))


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("split", [(0, 0), (0, 3), (2, 1), (3, 3)])
def test_graphs_equal_the_towers_wherever_they_are_split(
    make_config: Make, family: str, split: tuple[int, int]
) -> None:
    model = model_of(make_config, family, split=split)

    check_features(model, export_graphs(model))


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize(
    ("names", "of_image", "of_text"),
    [
        (("q_proj", "v_proj"), 4, 2),
        (("2.self_attn.k_proj",), 1, 1),
        (("out_proj", "fc1", "fc2"), 6, 3),
        (("none",), 0, 0),
    ],
)
@pytest.mark.slow
def test_adapted_weights_are_inputs_of_the_tails(
    make_config: Make, family: str, names: tuple[str, ...], of_image: int, of_text: int
) -> None:
    model = model_of(make_config, family)
    layers = [*model.backbone.vision_model.encoder.layers[1:], *model.backbone.text_model.encoder.layers[2:]]
    in_tails = {module for layer in layers for module in layer.modules()}
    chosen = frozenset(
        module for name, module in model.backbone.named_modules() if name.endswith(names) and module in in_tails
    )

    tails = export_tails(model, chosen)

    assert [len(load(tails.get(f"{tower}_weights", save({})))) for tower in ("image", "text")] == [of_image, of_text]
    check_features(model, export_graphs(model) | tails)
    with torch.no_grad():
        for module in chosen:
            module.weight += 1
    moved = export_tails(model, chosen)
    assert [name for name in tails if tails[name] != moved[name]] == [name for name in tails if "weights" in name]
    check_features(model, export_graphs(model) | moved)


@pytest.mark.parametrize(("family", "layers"), [("clip", 1), ("clip", 4), ("siglip", 2)])
def test_the_single_file_equals_the_model(make_config: Make, family: str, layers: int) -> None:
    model = model_of(make_config, family, layers=layers, split=(0, 0))
    inputs = {"pixel_values": torch.randn(2, 3, 20, 20), "input_ids": torch.randint(50, (2, 7))}
    last = torch.tensor([6, 2])

    logits = run(export_single_file(model), **inputs, last_token=last)

    with torch.no_grad():
        expected = model.head(
            torch.cat(
                [model.image_features(inputs["pixel_values"]), model.text_features(inputs["input_ids"], last)], -1
            )
        )
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_equal_weights_give_equal_bytes_and_others_do_not(make_config: Make, family: str) -> None:
    first, again = (model_of(make_config, family) for _ in range(2))
    files = export_graphs(first)

    assert export_graphs(again) == files
    with torch.no_grad():
        again.backbone.vision_model.encoder.layers[0].mlp.fc1.bias[0] += 1
    assert [name for name, data in export_graphs(again).items() if data != files[name]] == ["image_trunk"]


@pytest.mark.parametrize("name", ["image_trunk", "image_tail", "text_trunk", "text_tail"])
def test_batch_and_length_are_the_dynamic_dimensions(make_config: Make, name: str) -> None:
    model = onnx.load_model_from_string(export_graphs(model_of(make_config, "clip"))[name])

    onnx.checker.check_model(model, full_check=True)
    dynamic = {
        port.name: [dim.dim_param for dim in port.type.tensor_type.shape.dim if dim.dim_param]
        for port in (*model.graph.input, *model.graph.output)
    }
    texts = {"input_ids", "text_hidden"}
    assert dynamic == {port: ["batch", "length"] if port in texts else ["batch"] for port in dynamic}
