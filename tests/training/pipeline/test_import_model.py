"""`mora-train import`: the service answers as the imported model in plain PyTorch, and trunks stay shared.

Covers training.model.authors_checkpoint, training.model.import_plan, training.model.import_source.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import yaml
from onnxruntime import RunOptions
from PIL import Image
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPForImageClassification, CLIPModel, CLIPTextModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from typer.testing import CliRunner

from model_store import Pattern, Precision, Store, blob_of
from service.api.item import Item
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.conftest import COLORS, picture
from tests.support.sampling import each
from training.cli import app
from training.config import TaskConfig, load_config
from training.errors import SourceError
from training.export.onnx_graphs import export_graphs
from training.learning.runs import build, load_trained
from training.model.authors_checkpoint import merge_authors
from training.model.backbones import load_backbone, load_checkpoint
from training.model.import_plan import plan_import
from training.model.import_source import read_source

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
Make = Callable[..., TaskConfig]
FEATURES, LABELS = 24, ["green", "blue", "red"]  # not in the order of the alphabet
CODE_RAN = "code of the pickle ran"


def moved(model: nn.Module, part: str, seed: int = 3, by: float = 0.1) -> None:
    """Move every parameter whose name has `part`, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if part in name:
                value += by * torch.randn(value.shape, generator=generator)


def linear_head(seed: int = 5) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(2 * FEATURES, len(LABELS))


class Classifier(nn.Module):
    """A CLIP inside a module of one's own, with a head beside it."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.scores = nn.Module()
        self.scores.linear = linear_head()


def plain(backbone: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(backbone).eval()


@dataclass
class Made:
    """A source on disk, and the model that it was made from, in plain PyTorch."""

    path: Path
    clip: CLIPModel
    head: nn.Linear | None
    options: list[str] = field(default_factory=list)


def lora(folder: Path, backbone: Path) -> Made:
    """On the last layer of each tower, of a whole CLIPModel; the image projection is trained too. No head."""
    names = ["vision_model.encoder.layers.1.self_attn.q_proj", "text_model.encoder.layers.1.mlp.fc1"]
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=names, modules_to_save=["visual_projection"])
    adapted = peft.get_peft_model(plain(backbone), config)
    moved(adapted, "lora_B")
    moved(adapted, "modules_to_save")
    adapted.save_pretrained(folder / "lora")
    return Made(folder / "lora", adapted.eval(), None)  # not merged: peft adds what it computes at every layer


def dora(folder: Path, backbone: Path) -> Made:
    """On every layer of the image tower alone, of a CLIP inside another module, with its head."""
    config = peft.LoraConfig(
        r=2, use_dora=True, target_modules=r"clip\.vision_model.*\.(q_proj|v_proj)", modules_to_save=["linear"]
    )
    adapted = peft.get_peft_model(Classifier(plain(backbone)), config)
    for part in ("lora_B", "lora_magnitude", "modules_to_save"):
        moved(adapted, part)
    adapted.save_pretrained(folder / "dora")
    inner = adapted.base_model.model.eval()
    return Made(folder / "dora", inner.clip, inner.scores.linear, ["--labels", json.dumps(LABELS)])


def text_alone(folder: Path, backbone: Path) -> Made:
    """On the last layer of a CLIPTextModel, which has no image tower. No head."""
    clip = plain(backbone)
    tower = CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict())
    adapted = peft.get_peft_model(tower, peft.LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1]))
    moved(adapted, "lora_B")
    adapted.save_pretrained(folder / "text_alone")
    adapted.merge_and_unload()
    clip.text_model.load_state_dict(tower.state_dict())
    return Made(folder / "text_alone", clip, None)


def tuned(folder: Path, backbone: Path) -> Made:
    """Every weight moved, and a head in a file of its own."""
    clip, head = plain(backbone), linear_head()
    moved(clip, "", by=0.02)
    clip.save_pretrained(folder / "tuned")
    save_file({name: value.detach() for name, value in head.named_parameters()}, folder / "head.safetensors")
    options = ["--head", str(folder / "head.safetensors"), "--labels", json.dumps(LABELS)]
    return Made(folder / "tuned", clip, head, options)


def authors(folder: Path, backbone: Path) -> Made:
    """Tensors under the names of the authors' code, merged here in NumPy by METHOD's equations."""
    clip, head, state = plain(backbone), linear_head(), {}
    rng, alpha, rank = np.random.default_rng(0), 0.1, 2

    def column(weight: np.ndarray) -> np.ndarray:
        return np.sqrt((weight**2).sum(axis=0, keepdims=True))

    layer = 1
    a, b = rng.normal(size=(32, rank)), rng.normal(size=(48, rank))
    for tower, own, other in (("text", a, b), ("vision", b, a)):
        for name in ("q_proj", "v_proj"):
            module = f"{tower}_model.encoder.layers.{layer}.self_attn.{name}"
            weight = clip.get_parameter(f"{module}.weight")
            w0 = weight.detach().double().numpy()
            width = len(w0)
            parts = {
                "shared_magnitude": column(w0) * rng.uniform(0.5, 1, (1, width)),
                "specific_magnitude": column(w0) * rng.uniform(0.5, 1, (1, width)),
                "modality_A": rng.normal(size=(width, rank)),
                "modality_B": rng.normal(size=(rank, width)),
            }
            state |= {f"model.{module}.{part}": torch.tensor(value).float() for part, value in parts.items()}
            shared = w0 + alpha * own @ (other.T @ other) @ own.T
            specific = w0 + alpha * (parts["modality_A"] @ parts["modality_B"]).T
            merged = parts["shared_magnitude"] * shared / column(shared)
            merged += parts["specific_magnitude"] * specific / column(specific)
            weight.data = torch.tensor(merged).float()
    first = f"model.text_model.encoder.layers.{layer}.self_attn.v_proj.shared_params"
    state |= {f"{first}.shared_A": torch.tensor(a).float(), f"{first}.shared_B": torch.tensor(b).float()}
    state |= {f"cls_head.{name}": value.detach() for name, value in head.named_parameters()}
    ranks = dict.fromkeys(("shared_rank", "vision_rank", "text_rank"), rank)
    state["_metadata"] = {"backbone_name": "clip", "num_classes": 3, "alpha": alpha, "merged_layers": [], **ranks}
    torch.save(state, folder / "best_model.pt")
    return Made(folder / "best_model.pt", clip, head, ["--labels", json.dumps(LABELS)])


SOURCES = {made.__name__: made for made in (lora, dora, text_alone, tuned, authors)}


@dataclass(frozen=True)
class Served:
    """A source that was imported and published by the command, and the store it is in."""

    made: Made
    run: Path
    store: Store
    output: str


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP with two layers in each tower, so that graphs are exported quickly."""
    folder = tmp_path_factory.mktemp("small") / "clip"
    shutil.copytree(tiny_backbone, folder)
    config = CLIPModel.from_pretrained(tiny_backbone).config
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 2
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config_file(backbone: Path, parquet: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "task.yaml"
    config = {
        "task": "colors",
        "problem": "single_label",
        "backbone": str(backbone),
        "data": parquet,
        "train": {"epochs": 1, "batch_size": 8},
        "mora": {"first_layer": 1},
        "export": {"precisions": []},
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module", params=["lora", "text_alone", "tuned", "authors"])
def served(
    request: pytest.FixtureRequest, config_file: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    folder = tmp_path_factory.mktemp(request.param)
    made = SOURCES[request.param](folder, backbone)
    run, store = folder / "run", folder / "store"
    command = ["import", str(config_file), str(made.path), "--output", str(run), "--publish", str(store)]

    result = CliRunner().invoke(app, [*command, *made.options])

    assert result.exit_code == 0, result.output
    return Served(made, run, Store(store), result.output)


def plain_logits(clip: nn.Module, head: nn.Linear, backbone: Path, image: bytes | None, text: str | None) -> Tensor:
    """The answer of transformers' own code; a missing image is a white picture, a missing text is empty."""
    opened = Image.open(BytesIO(image)) if image is not None else Image.new("RGB", (40, 30), "white")
    pixels = CLIPImageProcessorPil.from_pretrained(backbone)(opened, return_tensors="pt")["pixel_values"]
    ids = AutoTokenizer.from_pretrained(backbone)([text or ""], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        features = [
            clip.get_image_features(pixel_values=pixels).pooler_output,
            clip.get_text_features(input_ids=ids).pooler_output,
        ]
        return head(torch.cat(features, dim=-1))[0]


@pytest.mark.slow
def test_the_service_answers_as_the_imported_model_does(served: Served, backbone: Path, png) -> None:
    clip, head = served.made.clip, served.made.head or load_trained(served.run).model.head
    settings = Settings(store=served.store.root, intra_op_threads=1)
    catalog = Catalog(served.store, Loader(served.store, settings), Metrics(), 1)
    catalog.refresh()
    model, image, text = catalog.find("colors"), png(1), "a red picture"
    items = {Pattern.BOTH: (image, text), Pattern.IMAGE: (image, None), Pattern.TEXT: (None, text)}
    answers = {pattern: model.golden_logits(Item(*item), RunOptions()) for pattern, item in items.items()}

    def differences() -> list[float]:
        """The largest difference between logits of the service and of PyTorch, for each pattern."""
        expected = {pattern: plain_logits(clip, head, backbone, *item).numpy() for pattern, item in items.items()}
        return [float(np.abs(answers[pattern] - expected[pattern]).max()) for pattern in items]

    assert max(differences()) < 1e-4
    assert model.manifest.labels == (tuple(LABELS) if served.made.head else tuple(sorted(COLORS)))
    assert model.manifest.backbone.name == backbone.name  # without the folders of this machine
    moved(clip, "vision_model.post_layernorm.weight", by=0.05)  # one tensor altered: the comparison tells
    assert min(differences()) > 1e-4


@pytest.mark.slow
def test_an_unchanged_trunk_stays_shared(served: Served, config_file: Path) -> None:
    """Law 2: a source that does not change the trunk's layers has the same trunk file as an ordinary fit."""
    manifest = served.store.manifest("colors", 1)
    ordinary, _ = build(load_config(config_file), 3)
    imported = load_trained(served.run).model
    untouched = served.made.path.name != "tuned"

    splits = manifest.backbone.image_first_tail_layer, manifest.backbone.text_first_tail_layer
    assert splits == ((1, 1) if untouched else (0, 0))
    for tower in ("image_trunk", "text_trunk"):
        ours, theirs = (getattr(model, tower).state_dict() for model in (imported, ordinary))
        same = ours.keys() == theirs.keys() and all(value.equal(theirs[name]) for name, value in ours.items())
        assert same == untouched
    if served.made.path.name == "lora":
        assert blob_of(export_graphs(ordinary)["image_trunk"]) == manifest.graphs[Precision.FP32].image_trunk


def test_each_tower_is_split_at_the_first_layer_that_differs(make_config: Make, backbone: Path, tmp_path: Path) -> None:
    made = dora(tmp_path, backbone)
    last = make_config(labels=LABELS, backbone=str(backbone), mora={"first_layer": 1})

    import_plan = plan_import(last, made.path)

    assert (import_plan.imported.first_image_layer, import_plan.imported.first_text_layer) == (0, 1)
    assert sorted(import_plan.towers) == [
        f"vision_model.encoder.layers.{layer}.self_attn.{name}.weight"
        for layer in (0, 1)
        for name in ("q_proj", "v_proj")
    ]
    same = plan_import(last, backbone)
    assert (same.imported.first_image_layer, same.imported.first_text_layer) == (1, 1)  # as `fit` would: none differs
    assert same.towers == {}
    clip = plain(backbone)
    moved(clip, "text_model.embeddings.position_embedding")
    moved(clip, "visual_projection")
    clip.save_pretrained(tmp_path / "tuned")
    embedded = plan_import(last, tmp_path / "tuned").imported
    assert (embedded.first_image_layer, embedded.first_text_layer) == (1, 0)  # what is below all layers differs


def test_an_adapter_inside_another_module_comes_with_its_head(backbone: Path, tmp_path: Path, png) -> None:
    made = dora(tmp_path, backbone)

    source = read_source(made.path, str(backbone))

    head = linear_head()
    head.load_state_dict({name.removeprefix("head."): value for name, value in source.head.items()})
    expected = plain_logits(made.clip, made.head, backbone, png(1), "a red picture")
    imported = plain_logits(source.towers.eval(), head, backbone, png(1), "a red picture")
    torch.testing.assert_close(imported, expected, atol=1e-5, rtol=0)
    base = plain_logits(plain(backbone), made.head, backbone, png(1), "a red picture")
    assert float((base - expected).abs().max()) > 1e-3


@pytest.mark.slow
def test_an_imported_run_is_finished_evaluated_and_described_like_any_other(
    served: Served, config_file: Path, tmp_path: Path
) -> None:
    before = json.loads((served.run / "metrics.json").read_text())
    again = ["import", str(config_file), str(served.made.path), "--output", str(served.run), *served.made.options]

    finished = CliRunner().invoke(app, again)
    evaluated = CliRunner().invoke(app, ["evaluate", str(served.run)])
    other = CliRunner().invoke(app, [*again, "--train.seed", "9"])
    itself = CliRunner().invoke(app, ["import", str(config_file), str(served.run), "--output", str(tmp_path / "b")])

    assert (finished.exit_code, evaluated.exit_code, other.exit_code, itself.exit_code) == (0, 0, 1, 1)
    assert "is finished" in finished.output
    after = json.loads((served.run / "metrics.json").read_text())
    assert all(scores == pytest.approx(before["test"][name], abs=1e-5) for name, scores in after["test"].items())
    assert (before["seconds"]["train"] == 0) == (served.made.head is not None)
    assert "holds a run with other config" in other.stderr
    assert "is a run of mora-train already" in itself.stderr
    described = served.store.manifest("colors", 1).provenance.config
    assert described["method"] == "head"
    assert described["imported"]["head"] == ("taken" if served.made.head else "fitted")
    assert sorted(path.name for path in served.run.iterdir() if path.is_dir()) == ["missing_tables"]


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.mark, CODE_RAN)


@pytest.mark.parametrize("kind", each(["lora", "tuned", "authors"], tried=["lora", "tuned"]))
@pytest.mark.slow
def test_an_import_sets_validation_items_apart_for_label_sets(
    backbone: Path, config_file: Path, divisible: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """Of 120; with its own head and with a fitted one."""
    made = SOURCES[kind](tmp_path, backbone)
    config = yaml.safe_load(config_file.read_text()) | {"data": divisible}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))
    command = ["import", str(tmp_path / "task.yaml"), str(made.path), "--output", str(tmp_path / "run")]

    result = CliRunner().invoke(app, [*command, *made.options])

    assert result.exit_code == 0, result.output
    sets = load_trained(tmp_path / "run").label_sets
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(sets.by_pattern) == set(metrics["coverage"]) == {"both", "image", "text"}
    assert metrics["validation"]["overall"]["items"] == 60


def test_a_pickle_with_code_is_refused_and_not_run(backbone: Path, tmp_path: Path) -> None:
    path, mark = tmp_path / "best_model.pt", tmp_path / "mark"
    torch.save({"cls_head.weight": Malicious(mark)}, path)

    with pytest.raises(SourceError, match="holds more than tensors and plain values"):
        read_source(path, str(backbone))

    assert not mark.exists()
    torch.load(path, weights_only=False)  # it is one that would have run
    assert mark.read_text() == CODE_RAN


def test_a_file_that_is_not_a_checkpoint_is_refused(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    for content in (b"", b"hello", picture(1).tobytes()):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"best_model\.pt"):
            read_source(path, str(backbone))


@pytest.mark.parametrize("kept_bytes", [7, 60, -4])
def test_a_safetensors_file_that_is_cut_short_is_refused(backbone: Path, tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(save({"a.strange.name": torch.zeros(50)})[:kept_bytes])

    with pytest.raises(SourceError, match=r"broken\.safetensors cannot be read \(.*\); copy the whole file again"):
        read_source(path, str(backbone))


def as_of_the_mlp(state: dict[str, Tensor]) -> None:
    """Rename the tensors of one projection to those of the text tower's fc1, with fitting shapes."""
    old, new = "model.text_model.encoder.layers.1.self_attn.q_proj.", "model.text_model.encoder.layers.1.mlp.fc1."
    for name in [name for name in state if name.startswith(old)]:
        state[name.replace(old, new)] = state.pop(name)
    state[f"{new}modality_B"] = torch.zeros(2, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_of_the_mlp, "fc1 .the authors' code adapts square weights only"),
        (lambda state: state.pop("_metadata"), "no _metadata with alpha"),
        (lambda state: state.pop("cls_head.bias"), "lacks cls_head"),
        (lambda state: state.update({"clip.strange": torch.zeros(1)}), "holds clip.strange, which the authors'"),
        (lambda state: state.pop(next(name for name in state if name.endswith("modality_B"))), "lacks modality_B of "),
        (lambda state: state.pop(next(name for name in state if name.endswith("shared_B"))), "lacks shared_B of "),
        (lambda state: state.update({"cls_head.weight": torch.zeros(3, 7)}), r"\(C, 48\) and \(C,\)"),
        (lambda state: state.update({"cls_head.bias": torch.full((3,), torch.nan)}), "not finite"),
    ],
)
def test_an_incomplete_authors_file_is_refused(backbone: Path, tmp_path: Path, change, message: str) -> None:
    path = authors(tmp_path, backbone).path
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)

    with pytest.raises(SourceError, match=message):
        read_source(path, str(backbone))


def test_the_shared_factors_are_read_under_either_name(backbone: Path, tmp_path: Path) -> None:
    path = authors(tmp_path, backbone).path
    first, second = load_backbone(str(backbone)), load_backbone(str(backbone))
    merge_authors(path, first)
    state = torch.load(path, weights_only=True)
    for name in [name for name in state if ".shared_params." in name]:
        state[f"shared_params_dict.layer_1.{name.rpartition('.')[2]}"] = state.pop(name)
    torch.save(state, path)

    merge_authors(path, second)

    assert all(value.equal(second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("kind", SOURCES)
def test_the_wrong_backbone_is_refused(backbone: Path, tiny_siglip: Path, tmp_path: Path, kind: str) -> None:
    made = SOURCES[kind](tmp_path, backbone)

    with pytest.raises(
        SourceError, match=r"not fit the backbone|is a clip model, and the backbone|give the backbone that"
    ):
        read_source(made.path, str(tiny_siglip))


def test_a_checkpoint_of_another_size_is_refused(backbone: Path, tmp_path: Path) -> None:
    config = plain(backbone).config
    config.vision_config.num_hidden_layers = 1
    CLIPModel(config).save_pretrained(tmp_path / "other")

    with pytest.raises(SourceError, match="vision_config num_hidden_layers 1 in place of 2"):
        read_source(tmp_path / "other", str(backbone))


def test_a_checkpoint_with_missing_or_unknown_weights_is_refused(backbone: Path, tmp_path: Path) -> None:
    folder = tuned(tmp_path, backbone).path
    weights = load_file(folder / "model.safetensors")

    def saying(changed: dict[str, Tensor]) -> str:
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(SourceError) as raised:
            read_source(folder, str(backbone))
        return str(raised.value)

    without = {name: value for name, value in weights.items() if name != "text_projection.weight"}
    assert "lacks the weights text_projection.weight" in saying(without)
    assert "holds extra.weight, which a CLIPModel does not have" in saying({**weights, "extra.weight": torch.ones(1)})
    infinite = {**weights, "visual_projection.weight": torch.full((24, 48), torch.inf)}
    save_file(infinite, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"copy config\.json and model\.safetensors"):
        read_source(folder, str(backbone))


def test_a_checkpoint_with_other_image_preprocessing_is_refused(backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(backbone, folder)
    same = read_source(folder, str(backbone))
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3
    ).save_pretrained(folder)

    assert same.notes == ()
    with pytest.raises(SourceError, match=f"prepares images otherwise than .*add --backbone {folder}"):
        read_source(folder, str(backbone))


def test_an_image_classifier_is_refused_with_an_alternative(backbone: Path, tmp_path: Path) -> None:
    CLIPForImageClassification(plain(backbone).config).save_pretrained(tmp_path / "images")

    with pytest.raises(SourceError, match=r"no text tower.*Instead, put the weights"):
        read_source(tmp_path / "images", str(backbone))


def test_an_adapter_of_another_kind_is_refused(backbone: Path, tmp_path: Path) -> None:
    adapted = peft.get_peft_model(plain(backbone), peft.LoHaConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "loha")

    with pytest.raises(SourceError, match=r"of type LOHA.*merge_and_unload"):
        read_source(tmp_path / "loha", str(backbone))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(min(state)), "lacks .*lora_A"),
        (
            lambda state: state.update(
                {"base_model.model.other.0.weight": torch.ones(1), "base_model.model.b": torch.ones(1)}
            ),
            "holds .*which belong to neither tower",
        ),
        (
            lambda state: state.update(
                {"base_model.model.vision_model.encoder.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(2, 48)}
            ),
            "which the backbone does not have",
        ),
        (lambda state: state.clear(), "not the layers of one CLIP"),
    ],
)
def test_an_incomplete_adapter_is_refused(backbone: Path, tmp_path: Path, change, message: str) -> None:
    folder = lora(tmp_path, backbone).path
    state = dict(sorted(load_file(folder / "adapter_model.safetensors").items()))
    change(state)
    save_file(state, folder / "adapter_model.safetensors")

    with pytest.raises(SourceError, match=message):
        read_source(folder, str(backbone))


def test_a_head_needs_its_labels(make_config: Make, backbone: Path, tmp_path: Path) -> None:
    path = authors(tmp_path, backbone).path

    with pytest.raises(SourceError, match="the configuration does not name their labels"):
        plan_import(make_config(backbone=str(backbone)), path)
    with pytest.raises(SourceError, match="3 rows, and the configuration lists 4 labels"):
        plan_import(make_config(backbone=str(backbone), labels=[*LABELS, "white"]), path)


def test_a_head_file_with_other_tensors_is_refused(make_config: Make, backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(3, 5)}, path)
    with pytest.raises(SourceError, match="holds weight; a head is"):
        plan_import(make_config(backbone=str(backbone)), backbone, path)
    save_file({"weight": torch.ones(3, 5), "bias": torch.ones(3)}, path)
    with pytest.raises(SourceError, match=r"\(C, 48\)"):
        plan_import(make_config(backbone=str(backbone)), backbone, path)


def test_a_source_of_no_known_kind_is_refused(config_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["import", str(config_file), str(tmp_path / "x"), "--output", str(tmp_path / "run")]
    )

    assert result.exit_code == 1
    assert "the path does not exist. A source is" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_siglip_adapter(tiny_siglip: Path, tmp_path: Path) -> None:
    def image_features(model: nn.Module) -> Tensor:
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return model.eval().get_image_features(pixel_values=pixels).pooler_output

    adapted = peft.get_peft_model(load_checkpoint(tiny_siglip), peft.LoraConfig(r=2, target_modules=["q_proj", "fc1"]))
    moved(adapted, "lora_B")
    adapted.save_pretrained(tmp_path / "lora")

    towers = read_source(tmp_path / "lora", str(tiny_siglip)).towers

    torch.testing.assert_close(image_features(towers), image_features(adapted), atol=1e-5, rtol=0)
    unmoved = image_features(load_backbone(str(tiny_siglip)))
    assert float((unmoved - image_features(adapted)).abs().max()) > 1e-3


def test_an_adapter_that_merging_would_change_is_refused(tiny_siglip: Path, tmp_path: Path) -> None:
    """SigLIP's pooling reads the weight of its out_proj directly, without the layer that peft put around it."""
    adapted = peft.get_peft_model(load_checkpoint(tiny_siglip), peft.LoraConfig(r=2, target_modules=["out_proj"]))
    moved(adapted, "lora_B")
    adapted.save_pretrained(tmp_path / "lora")

    with pytest.raises(SourceError, match="cannot be merged: merging moves a feature by"):
        read_source(tmp_path / "lora", str(tiny_siglip))
