"""The split ONNX graphs answer as the plain merged PyTorch model does (DESIGN: the four laws).

Covers training.export.onnx_model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from io import BytesIO

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import safetensors.numpy
import torch
from PIL import Image
from typer.testing import CliRunner

import training.export.bundle
from model_store import Calibration, Pattern, Precision
from tests.support.sampling import each
from training.cli import app
from training.config import TaskConfig
from training.data.examples import Example
from training.data.splits import TaskData, load_data
from training.errors import DivergedError, ExportError
from training.export.bundle import Bundle, export_task
from training.export.onnx_graphs import GraphFiles, export_graphs, export_single_file, export_tails
from training.export.quantization import converted
from training.learning.runs import TrainedTask, build
from training.model.classifier import MissingModalityClassifier

Make = Callable[..., TaskConfig]
MIX = {"both": 0.4, "image": 0.3, "text": 0.3}
BATCHES = range(1, 18)
LENGTHS = range(2, 78)
METRICS = {"validation": {}, "test": {}}
REPORT = b"<html></html>"


def trained_task(config: TaskConfig, seed: int = 1) -> tuple[TrainedTask, TaskData]:
    """A task whose trained parameters were moved at random, as if trained."""
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.05 * torch.randn(value.shape, generator=generator)
    calibration = {pattern: Calibration(temperature=1.5, thresholds=thresholds(config, data)) for pattern in Pattern}
    return TrainedTask(config, data.labels, data.fingerprint, MIX, calibration, model.eval(), preprocessor), data


def thresholds(config: TaskConfig, data: TaskData) -> tuple[float, ...] | None:
    return (0.3,) * len(data.labels) if config.problem == "multi_label" else None


@dataclasses.dataclass(frozen=True)
class Exported:
    trained: TrainedTask
    data: TaskData
    bundle: Bundle
    files: GraphFiles
    sessions: dict[str, ort.InferenceSession]


@pytest.fixture(scope="module", params=["official", "identity"])
def exported(request: pytest.FixtureRequest, tiny_backbone, parquet) -> Exported:
    missing = {"ratio": 0.5}
    config = TaskConfig.model_validate(
        {
            "task": "colors",
            "problem": "single_label",
            "backbone": str(tiny_backbone),
            "data": parquet,
            "missing": {"test": missing},
            "mora": {"parametrization": request.param},
        }
    )
    trained, data = trained_task(config)
    bundle = export_task(trained, METRICS, data, REPORT)
    graphs = bundle.draft.graphs[Precision.FP32]
    files = {name: bundle.blobs[blob.sha256] for name, blob in graphs.blobs().items() if not name.endswith("weights")}
    return Exported(trained, data, bundle, files, {name: session(graph) for name, graph in files.items()})


def weights(exported: Exported, tower: str) -> dict[str, np.ndarray]:
    """The inputs of a tail that are weights."""
    blob = exported.bundle.draft.graphs[Precision.FP32].blobs()[f"{tower}_weights"]
    return safetensors.numpy.load(exported.bundle.blobs[blob.sha256])


def session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # for graphs this small, other threads only cost
    return ort.InferenceSession(graph, options)


def logits_of(trained: TrainedTask, items: list[Example]) -> torch.Tensor:
    batch = trained.collator()(items)
    return trained.model(**batch)["logits"]


def image_features(exported: Exported, pixels: torch.Tensor) -> np.ndarray:
    hidden = exported.sessions["image_trunk"].run(None, {"pixel_values": pixels.numpy()})[0]
    return exported.sessions["image_tail"].run(None, {"image_hidden": hidden, **weights(exported, "image")})[0]


def text_features(exported: Exported, ids: torch.Tensor, last: list[int]) -> np.ndarray:
    hidden = exported.sessions["text_trunk"].run(None, {"input_ids": ids.numpy()})[0]
    inputs = {"text_hidden": hidden, "last_token": np.array(last), **weights(exported, "text")}
    return exported.sessions["text_tail"].run(None, inputs)[0]


def text_ids(length: int) -> torch.Tensor:
    """(1, L): a text of letters between start and end token."""
    ids = torch.randint(2, 100, (1, length), generator=torch.Generator().manual_seed(length))
    ids[:, 0], ids[:, -1] = 0, 1
    return ids


@pytest.mark.parametrize("batch", BATCHES)
def test_image_features_equal_the_whole_models(exported: Exported, batch: int) -> None:
    pixels = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))

    with torch.no_grad():
        expected = exported.trained.model.backbone.get_image_features(pixel_values=pixels).pooler_output

    np.testing.assert_allclose(image_features(exported, pixels), expected.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def whole_text_features(exported: Exported) -> dict[int, np.ndarray]:
    """By length: transformers' own features of `text_ids(length)`, alone and without padding."""
    whole = exported.trained.model.backbone.get_text_features
    with torch.no_grad():
        return {length: whole(input_ids=text_ids(length)).pooler_output[0].numpy() for length in LENGTHS}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.slow
def test_text_features_equal_the_whole_models_in_any_batch_and_with_any_padding(
    exported: Exported, whole_text_features: dict[int, np.ndarray], batch: int
) -> None:
    """Laws 3 and 4: a batch of mixed lengths, each as long as its longest text, each text pooled where it ends."""
    rng = np.random.default_rng(batch)
    for longest in LENGTHS:
        lengths = [longest, *rng.integers(2, longest, batch - 1, endpoint=True).tolist()]
        ids = torch.as_tensor(rng.integers(0, 100, (batch, longest)))
        for row, length in enumerate(lengths):
            ids[row, :length] = text_ids(length)[0]

        features = text_features(exported, ids, [length - 1 for length in lengths])

        np.testing.assert_allclose(features, [whole_text_features[length] for length in lengths], atol=1e-5)


@pytest.mark.parametrize(("tail", "mlp_width", "tokens"), [("image_tail", 96, 17), ("text_tail", 64, 7)])
def test_the_last_layer_runs_for_the_pooled_token_alone(
    exported: Exported, tail: str, mlp_width: int, tokens: int
) -> None:
    """Law 4: of the two layers in a tail, the first one's MLP sees every token and the last one's a single one."""
    model = onnx.load_model_from_string(exported.files[tail])
    width = 48 if tail == "image_tail" else 32
    wide = {node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")}
    for name in wide:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    inputs = {"image_hidden" if tail == "image_tail" else "text_hidden": np.zeros((3, tokens, width), np.float32)}
    if tail == "text_tail":
        inputs["last_token"] = np.array([6, 2, 0])
    inputs |= weights(exported, tail.removesuffix("_tail"))

    shapes = [value.shape for value in session(model.SerializeToString()).run(None, inputs)]

    assert sorted(int(np.prod(shape[:-1])) for shape in shapes if shape[-1] == mlp_width) == [3, 3 * tokens]


def test_absent_features_are_those_of_a_white_picture_and_an_empty_text(exported: Exported) -> None:
    """Law 1: the service uses these features instead of running the tower."""
    absent = safetensors.numpy.load(exported.bundle.blobs[exported.bundle.draft.absent_features.sha256])
    backbone, preprocessor = exported.trained.model.backbone, exported.trained.preprocessor
    white = BytesIO()
    Image.new("RGB", (50, 70), "white").save(white, "PNG")

    with torch.no_grad():
        image = backbone.get_image_features(pixel_values=preprocessor.image(white.getvalue())[None]).pooler_output[0]
        text = backbone.get_text_features(input_ids=preprocessor.texts([""]).input_ids).pooler_output[0]

    np.testing.assert_allclose(absent["image"], image.numpy(), atol=1e-5)
    np.testing.assert_allclose(absent["text"], text.numpy(), atol=1e-5)


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_published_parts_add_up_to_pytorchs_logits(exported: Exported, pattern: Pattern) -> None:
    """Law 1: with the constants in place of a missing input, W_image f_image + W_text f_text + b is the model."""
    draft, blobs, trained = exported.bundle.draft, exported.bundle.blobs, exported.trained
    head = safetensors.numpy.load(blobs[draft.head.sha256])
    absent = safetensors.numpy.load(blobs[draft.absent_features.sha256])
    item = next(item for item in exported.data.test.items if item.image is not None and item.text is not None)
    image = item.image if pattern is not Pattern.TEXT else None
    text = item.text if pattern is not Pattern.IMAGE else None
    pixels, tokens = trained.preprocessor.image(image)[None], trained.preprocessor.texts([text])

    f_image = absent["image"] if image is None else image_features(exported, pixels)[0]
    f_text = (
        absent["text"] if text is None else text_features(exported, tokens.input_ids, tokens.last_token.tolist())[0]
    )
    weight, size = head[f"{pattern}.weight"], draft.backbone.feature_size
    logits = weight[:, :size] @ f_image + weight[:, size:] @ f_text + head[f"{pattern}.bias"]

    with torch.no_grad():
        expected = logits_of(trained, [dataclasses.replace(item, image=image, text=text)])[0]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


def test_the_manifest_has_the_measured_errors(exported: Exported) -> None:
    draft = exported.bundle.draft

    errors = draft.graphs[Precision.FP32].max_logit_error
    assert set(errors) == set(Pattern)
    assert 0 < max(errors.values()) <= 1e-4
    assert {example.pattern for example in draft.golden} == set(Pattern)
    assert {blob.sha256 for blob in draft.blobs()} <= exported.bundle.blobs.keys()
    assert draft.provenance.dataset_fingerprint == exported.data.fingerprint


def test_graphs_are_self_contained_and_hold_no_paths(exported: Exported) -> None:
    for data in exported.files.values():
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert b"/site-packages/" not in data
        assert b".py" not in data


def test_the_trunk_is_the_same_file_for_every_task(make_config: Make) -> None:
    """Law 2: the layers below the first adapted one depend on the backbone alone. int8: test_known_trunks.py."""
    graphs = []
    for seed, fields in enumerate([{}, {"problem": "multi_label", "mora": {"rank": 2, "target_modules": ["k_proj"]}}]):
        trained, _ = trained_task(make_config(**fields), seed)
        trained.model.adapter.merge()
        graphs.append(export_graphs(trained.model))

    for precision in (Precision.FP32, Precision.BF16, Precision.FP16):
        first, second = graphs if precision is Precision.FP32 else [converted(files, precision, {}) for files in graphs]
        assert first["image_trunk"] == second["image_trunk"], precision
        assert first["text_trunk"] == second["text_trunk"], precision
        assert first["image_tail"] != second["image_tail"], precision
        assert first["text_tail"] != second["text_tail"], precision


@pytest.mark.parametrize("method", each(["mora", "lora", "dora", "bitfit"], tried=["mora", "bitfit"]))
@pytest.mark.slow
def test_tasks_share_tails_that_differ_in_adapted_projections_only(make_config: Make, method: str) -> None:
    """Law 2 again: only what a task adapts is its own. bitfit adapts biases, which are constants of the tails."""
    graphs = []
    for seed in (0, 1):
        trained, data = trained_task(make_config(method=method, export={"precisions": ["int8"]}), seed)
        bundle = export_task(trained, METRICS, data, REPORT)
        graphs.append(bundle.draft.graphs)
        assert {blob.sha256 for blob in bundle.draft.blobs()} == set(bundle.blobs)

    first, second = (each[Precision.FP32].blobs() for each in graphs)
    assert ("image_weights" in first, "text_weights" in first) == (method != "bitfit", method != "bitfit")
    for tower in ("image", "text"):
        assert (first[f"{tower}_tail"] == second[f"{tower}_tail"]) is (method != "bitfit")
        if method != "bitfit":
            assert first[f"{tower}_weights"] != second[f"{tower}_weights"]
            assert first[f"{tower}_weights"].size < first[f"{tower}_tail"].size / 2


def test_graphs_that_disagree_are_refused(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, data = trained_task(make_config())

    def wrong(model: torch.nn.Module, adapted: frozenset[torch.nn.Linear]) -> GraphFiles:
        files = export_tails(model, adapted)
        with torch.no_grad():  # the model moves on after the export
            model.backbone.visual_projection.weight.mul_(1.01)
        return files

    monkeypatch.setattr(training.export.bundle, "export_tails", wrong)
    with pytest.raises(ExportError, match="nothing is published"):
        export_task(trained, METRICS, data, REPORT)


def nan_in_the_head(model: MissingModalityClassifier) -> None:
    model.head.bias[0] = torch.nan


def nan_in_the_text_tower(model: MissingModalityClassifier) -> None:
    model.backbone.text_projection.weight[0, 0] = torch.nan


def huge_logits(model: MissingModalityClassifier) -> None:
    model.head.weight.mul_(1e9)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (nan_in_the_head, r"the logits of both are not finite, so training diverged"),
        (nan_in_the_text_tower, r"the logits of \w+ are not finite, so training diverged"),
        (huge_logits, r"the logits of both reach \d\.\de\+\d\d, so training diverged"),
    ],
)
def test_a_model_that_diverged_is_refused_as_such(
    make_config: Make, spoil: Callable[[MissingModalityClassifier], None], says: str
) -> None:
    trained, data = trained_task(make_config())
    with torch.no_grad():
        spoil(trained.model)

    with pytest.raises(DivergedError, match=says + r".* lower train\.learning_rate \(it is 0\.01\)"):
        export_task(trained, METRICS, data, REPORT)


def test_a_split_without_images_still_exports_every_pattern(make_config: Make) -> None:
    trained, data = trained_task(make_config())
    texts_only = dataclasses.replace(
        data.validation, items=[dataclasses.replace(i, image=None) for i in data.validation.items if i.text]
    )

    bundle = export_task(trained, METRICS, dataclasses.replace(data, validation=texts_only), REPORT)

    assert {example.pattern for example in bundle.draft.golden} == set(Pattern)


def test_the_single_file_equals_pytorch(exported: Exported) -> None:
    whole = session(export_single_file(exported.trained.model))
    items = [item for item in exported.data.test.items if item.image is not None and item.text is not None][:3]
    items = [items[0], dataclasses.replace(items[1], text=None), dataclasses.replace(items[2], image=None)]
    preprocessor = exported.trained.preprocessor
    tokens = preprocessor.texts([item.text for item in items])

    inputs = {
        "pixel_values": np.stack([preprocessor.image(item.image).numpy() for item in items]),
        "input_ids": tokens.input_ids.numpy(),
        "last_token": tokens.last_token.numpy(),
    }
    logits = whole.run(None, inputs)[0]

    with torch.no_grad():
        expected = logits_of(exported.trained, items)
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.slow
def test_other_methods_are_exported_alike(make_config: Make, method: str) -> None:
    trained, data = trained_task(make_config(method=method))

    draft = export_task(trained, METRICS, data, REPORT).draft

    assert max(draft.graphs[Precision.FP32].max_logit_error.values()) < 1e-4
    assert draft.backbone.image_first_tail_layer == (0 if method == "full" else 2)


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
@pytest.mark.slow
def test_tails_whose_every_projection_is_adapted_are_shared_and_exported_at_each_precision(
    make_config: Make, backbone: str, request: pytest.FixtureRequest
) -> None:
    """Decision 17 with the weights of the MLP: those are inputs of the tails too."""
    modules = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    export = {"precisions": ["bf16", "int8", "fp16"], "accuracy_budget": 100}
    config = make_config(
        backbone=str(request.getfixturevalue(backbone)), mora={"target_modules": modules}, export=export
    )
    graphs = []
    for seed in (0, 1):
        trained, data = trained_task(config, seed)
        bundle = export_task(trained, METRICS, data, REPORT)
        graphs.append(bundle.draft.graphs)
        assert max(graphs[-1][Precision.FP32].max_logit_error.values()) < 1e-4
        assert {Precision.INT8, Precision.FP16} <= graphs[-1].keys()

    first, second = (each[Precision.FP32] for each in graphs)
    assert (first.image_tail, first.text_tail) == (second.image_tail, second.text_tail)
    assert first.image_weights != second.image_weights
    weights = safetensors.numpy.load(bundle.blobs[second.text_weights.sha256])
    shapes = {value.shape for value in weights.values()}
    assert len(weights) == 6 * len(trained.model.text_tail.layers)
    assert len(shapes) == 3  # square, wide, high


def test_siglip_is_exported_with_its_padding(make_config: Make, tiny_siglip) -> None:
    trained, data = trained_task(make_config(backbone=str(tiny_siglip), export={"accuracy_budget": 100}))

    draft = export_task(trained, METRICS, data, REPORT).draft

    assert max(draft.graphs[Precision.FP32].max_logit_error.values()) < 1e-4
    assert 1e-4 < max(draft.graphs[Precision.INT8].max_logit_error.values()) < 0.1
    assert draft.backbone.family == "siglip"
    assert draft.text.padding is not None


def test_calibration_and_report_are_published(exported: Exported) -> None:
    draft = exported.bundle.draft

    assert {pattern: calibration.temperature for pattern, calibration in draft.calibration.items()} == dict.fromkeys(
        Pattern, 1.5
    )
    assert draft.report is not None
    assert exported.bundle.blobs[draft.report.sha256] == REPORT


def test_without_examples_golden_inputs_are_made_up(make_config: Make) -> None:
    trained, data = trained_task(make_config(publish={"examples": False}))

    bundle = export_task(trained, METRICS, data, None)

    draft = bundle.draft
    assert {example.pattern for example in draft.golden} == set(Pattern)
    assert {example.text for example in draft.golden} == {"a picture", None}
    pictures = {example.image for example in draft.golden if example.image}
    assert [Image.open(BytesIO(bundle.blobs[blob.sha256])).size for blob in pictures] == [(256, 256)]
    assert (draft.shows_examples, draft.report) == (False, None)


def test_a_folder_that_is_not_a_run_is_not_exported(tmp_path) -> None:
    result = CliRunner().invoke(app, ["export", str(tmp_path), "--output", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert "holds no run; name the DIR of" in result.stderr
