"""Trained tasks on disk: saved, loaded here and by PEFT, and read in the form of earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, SiglipModel
from typer.testing import CliRunner

from model_store import Calibration, Pattern
from training.cli import app
from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import BackboneError, RunError
from training.learning.runs import TrainedTask, build, load_trained, save_trained
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def moved_task(config: TaskConfig) -> TrainedTask:
    """A task whose trained parameters were moved at random, as if trained."""
    model, preprocessor = build(config, 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.1 * torch.randn(value.shape, generator=generator)
    calibration = {pattern: Calibration(temperature=1.5) for pattern in Pattern}
    return TrainedTask(config, ("blue", "green", "red"), "abc", {"both": 1.0}, calibration, model.eval(), preprocessor)


@torch.no_grad()
def features(model: torch.nn.Module) -> list[Tensor]:
    """Both towers' features (2, P) of a transformers model."""
    generator = torch.Generator().manual_seed(0)
    pixels, ids = torch.randn(2, 3, 32, 32, generator=generator), torch.randint(2, 9, (2, 16), generator=generator)
    return [
        model.get_image_features(pixel_values=pixels).pooler_output,
        model.get_text_features(input_ids=ids).pooler_output,
    ]


@pytest.mark.parametrize("method", ["mora", "lora", "dora", "bitfit", "head"])
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["k_proj", "fc1", "fc2"]])
@pytest.mark.slow
def test_a_loaded_run_has_the_trained_weights(
    make_config: Make, tmp_path: Path, method: str, modules: list[str]
) -> None:
    trained = moved_task(make_config(method=method, mora={"target_modules": modules}))

    save_trained(tmp_path, trained)
    loaded = load_trained(tmp_path)

    before, after = trained.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.equal(after[name].cpu()), name
    assert (loaded.config, loaded.labels, loaded.calibration) == (trained.config, trained.labels, trained.calibration)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize(("backbone", "model_class"), [("tiny_backbone", CLIPModel), ("tiny_siglip", SiglipModel)])
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["fc1", "fc2"]])
@pytest.mark.slow
def test_peft_loads_an_adapter_with_the_same_features(
    make_config: Make,
    tmp_path: Path,
    method: str,
    modules: list[str],
    backbone: str,
    model_class: type[CLIPModel | SiglipModel],
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue(backbone)
    trained = moved_task(make_config(method=method, backbone=str(folder), mora={"target_modules": modules}))
    save_trained(tmp_path, trained)
    plain = model_class.from_pretrained(folder).eval()
    unadapted = features(plain)

    adapted = peft.PeftModel.from_pretrained(plain, str(tmp_path)).eval()

    for ours, theirs, before in zip(features(trained.model.backbone), features(adapted), unadapted, strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)
        assert float((theirs - before).abs().max()) > 1e-3
    assert load_file(tmp_path / "head.safetensors")["weight"].equal(trained.model.head.weight)


def as_written_before(run: Path) -> None:
    """Give the files of a run the names and the content that earlier versions gave them."""
    save_file({name: value.cpu() for name, value in load_trained(run).model.state_dict().items()}, run / "adapter.st")
    for name in ("adapter_model.safetensors", "head.safetensors", "adapter.safetensors"):
        (run / name).unlink(missing_ok=True)
    (run / "adapter.st").rename(run / "adapter.safetensors")
    (run / "task.json").replace(run / "adapter_config.json")


@pytest.mark.parametrize("method", ["mora", "lora"])
@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_evaluated_published_and_not_trained_again(
    make_config: Make, tmp_path: Path, method: str
) -> None:
    train = {"epochs": 1, "batch_size": 8}
    config = make_config(method=method, train=train, export={"precisions": []})
    run, task = tmp_path / "run", tmp_path / "task.yaml"
    fit(config, load_data(config), run, lambda _: None)
    metrics = (run / "metrics.json").read_text()
    as_written_before(run)
    task.write_text(config.model_dump_json())

    published = CliRunner().invoke(app, ["publish", str(run), "--store", str(tmp_path / "store")])
    evaluated = CliRunner().invoke(app, ["evaluate", str(run)])
    again = CliRunner().invoke(app, ["fit", str(task), "--output", str(run)])
    imported = CliRunner().invoke(app, ["import", str(task), str(run), "--output", str(tmp_path / "imported")])

    assert [result.exit_code for result in (published, evaluated, again)] == [0, 0, 0], published.output
    assert "colors version 1 is live" in published.output
    assert (run / "metrics.json").read_text() == metrics
    assert "nothing to train" in again.output
    assert "is a run of mora-train already" in imported.stderr


def test_a_damaged_run_is_named(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")

    with pytest.raises(RunError, match="train it again"):
        load_trained(tmp_path)


def test_an_adapter_of_another_rank_is_refused(make_config: Make, tmp_path: Path) -> None:
    save_trained(tmp_path, moved_task(make_config(method="lora")))
    other, _ = build(make_config(method="lora", mora={"rank": 2}), 3)

    with pytest.raises(BackboneError, match="does not fit this backbone"):
        other.adapter.load(tmp_path)
