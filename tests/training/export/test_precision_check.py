"""A precision is published if it costs no presence pattern more than the budget; otherwise the reason is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import onnx
import pytest
import torch

import training.export.bundle
import training.export.precision_check
from model_store import Calibration, ManifestDraft, Pattern, Precision, Problem
from training.config import ExportConfig, TaskConfig
from training.data.examples import Example
from training.data.splits import Split, TaskData, load_data
from training.export.bundle import Bundle, export_task
from training.export.onnx_graphs import GraphFiles, canonical_bytes, export_graphs
from training.export.onnx_model import OnnxModel
from training.export.precision_check import PrecisionCheck, PrecisionChecker
from training.export.quantization import converted
from training.learning.runs import TrainedTask, build

ANY_LOSS = 100.0
ABSENT = {"image": torch.full((24,), 0.3), "text": torch.full((24,), -0.2)}


@dataclasses.dataclass(frozen=True)
class Task:
    """A merged task and its graphs, exported once for the tests of this file."""

    trained: TrainedTask
    data: TaskData
    files: GraphFiles

    def with_budget(self, points: float, precisions: tuple[str, ...] = ("int8",), **fields: object) -> TrainedTask:
        export = ExportConfig(precisions=precisions, accuracy_budget=points)
        config = self.trained.config.model_copy(update={"export": export, **fields})
        return dataclasses.replace(self.trained, config=config)

    def check(self, trained: TrainedTask, examples: Split | None = None) -> PrecisionCheck:
        examples = examples or self.data.validation
        return PrecisionChecker(trained, self.files, ABSENT, examples, []).check(Precision.INT8)

    def model(self, files: GraphFiles | None = None) -> OnnxModel:
        return OnnxModel(files or self.files, ABSENT, self.trained)


@pytest.fixture(scope="module")
def task(tiny_backbone, parquet) -> Task:
    config = TaskConfig(task="colors", problem="single_label", backbone=str(tiny_backbone), data=parquet)
    data = load_data(config)
    torch.manual_seed(1)
    model, preprocessor = build(config, len(data.labels))
    model.adapter.merge()
    mix = {"both": 0.4, "image": 0.3, "text": 0.3}
    calibration = dict.fromkeys(Pattern, Calibration())
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, calibration, model.eval(), preprocessor)
    return Task(trained, data, export_graphs(model))


@pytest.fixture
def exported(task: Task, monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainedTask, Split], Bundle]:
    monkeypatch.setattr(training.export.bundle, "export_graphs", lambda model: task.files)
    return lambda trained, examples: export_task(trained, {"validation": {}, "test": {}}, examples, b"<html></html>")


def labelled_as_answered(task: Task) -> Split:
    """Validation items with both modalities, labelled with the model's answers, so that every answer is right."""
    complete = [item for item in task.data.validation.items if item.image is not None and item.text is not None]
    answers = [task.trained.labels[int(task.model().logits(item).argmax())] for item in complete]
    items = [dataclasses.replace(item, labels=(label,)) for item, label in zip(complete, answers, strict=True)]
    return dataclasses.replace(task.data.validation, items=items)


def ending_in(kind: str, data: bytes) -> bytes:
    """The graph with one more operator behind its output."""
    model = onnx.load_model_from_string(data)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node(kind, ["before"], [output]))
    return canonical_bytes(model)


def far_off(fp32: GraphFiles, _: Precision) -> GraphFiles:
    return fp32 | {name: ending_in("Neg", data) for name, data in fp32.items() if "tail" in name}


def overflowing(fp32: GraphFiles, _: Precision) -> GraphFiles:
    return fp32 | {"image_tail": ending_in("Log", fp32["image_tail"])}  # of negative numbers too


def failing(fp32: GraphFiles, _: Precision) -> GraphFiles:
    raise RuntimeError("no such kernel\nand a long tale")


def test_an_accepted_precision_is_published_with_its_cost(task: Task, exported) -> None:
    trained = task.with_budget(ANY_LOSS, ("int8", "fp16"))

    bundle = exported(trained, task.data.validation)

    draft = ManifestDraft.model_validate_json(bundle.draft.model_dump_json())
    assert list(draft.graphs) == [Precision.FP32, Precision.INT8, Precision.FP16]
    assert draft.graphs[Precision.FP32].metric_change == {}
    for check in bundle.precision_checks:
        graphs = draft.graphs[check.precision]
        assert graphs.metric_change == check.change
        assert set(graphs.metric_change) == set(graphs.max_logit_error) == set(Pattern)
        assert max(graphs.max_logit_error.values()) > max(draft.graphs[Precision.FP32].max_logit_error.values())
        assert str(check).startswith(f"{check.precision} accepted (accuracy both ")
    assert {blob.sha256 for blob in draft.blobs()} <= bundle.blobs.keys()


def test_a_precision_that_costs_more_than_the_budget_is_not_published(
    task: Task, exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", far_off)

    bundle = exported(task.with_budget(0), labelled_as_answered(task))

    (check,) = bundle.precision_checks
    assert check.change[Pattern.BOTH] < 0
    assert "not published, it costs more than export.accuracy_budget, 0 points (accuracy both -" in str(check)
    assert list(bundle.draft.graphs) == [Precision.FP32]
    assert {blob.sha256 for blob in bundle.draft.blobs()} == set(bundle.blobs)


@pytest.mark.parametrize("budget", [0, ANY_LOSS])
def test_the_budget_decides(task: Task, monkeypatch: pytest.MonkeyPatch, budget: float) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", far_off)

    check = task.check(task.with_budget(budget), labelled_as_answered(task))

    assert (check.problem is None) == (check.files is not None) == (budget == ANY_LOSS)


@pytest.mark.parametrize(
    ("conversion", "says"),
    [
        (failing, "its graphs cannot be made or run here: RuntimeError: no such kernel"),
        (overflowing, "its logits are not finite"),
    ],
)
def test_a_precision_that_cannot_be_used_has_a_reason(
    task: Task, monkeypatch: pytest.MonkeyPatch, conversion: Callable, says: str
) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", conversion)

    check = task.check(task.with_budget(ANY_LOSS))

    assert (check.problem, check.files) == (says, None)
    assert str(check) == f"int8 not published, {says}" or conversion is overflowing


def test_a_precision_without_items_of_a_pattern_is_not_published(task: Task) -> None:
    texts_only = [dataclasses.replace(item, image=None) for item in task.data.validation.items if item.text]

    check = task.check(task.with_budget(ANY_LOSS), dataclasses.replace(task.data.validation, items=texts_only))

    assert check.problem == "no validation item shows its effect on both and image"


def test_a_multi_label_task_is_judged_by_its_f1(task: Task) -> None:
    check = task.check(task.with_budget(ANY_LOSS, problem=Problem.MULTI_LABEL))

    assert check.metric == "macro_f1"
    assert set(check.change) == set(Pattern)


def test_only_fp32_is_exported_if_no_precision_is_configured(task: Task, exported) -> None:
    bundle = exported(task.with_budget(ANY_LOSS, ()), task.data.validation)

    assert bundle.precision_checks == ()
    assert list(bundle.draft.graphs) == [Precision.FP32]


def test_a_split_is_encoded_as_each_item_alone(task: Task) -> None:
    """Texts of one length run together, repeated inputs run once, and absent inputs have constant features."""
    model, given = task.model(), task.data.validation.items
    items = [*given, *given[:3], Example(99, None, "a much longer text, of its own", ())]

    encoded = model.encode(Split("test", "here", items), torch.zeros(len(items)), "test", 4)

    with torch.no_grad():
        together = task.trained.model.head(torch.cat([encoded.image, encoded.text], dim=-1))
    alone = torch.stack([model.logits(item) for item in items])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_error_is_that_of_the_int8_graphs_own_logits(task: Task) -> None:
    texts = [dataclasses.replace(item, image=None) for item in task.data.validation.items if item.text]
    lower = task.model(converted(task.files, Precision.INT8))
    differences = [float((lower.logits(item) - task.model().logits(item)).abs().max()) for item in texts]

    error = task.check(task.with_budget(ANY_LOSS)).max_logit_error[Pattern.TEXT]

    assert error == pytest.approx(max(differences), abs=1e-6)  # each was run alone, as it is served
