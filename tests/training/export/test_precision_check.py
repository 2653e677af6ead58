"""A precision is published if it costs no presence pattern more than the budget; otherwise the reason is printed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import onnx
import pytest
import torch

import training.export.bundle
import training.export.precision_check
from model_store import Calibration, ManifestDraft, Pattern, Precision, Problem, openvino
from training.config import ExportConfig, TaskConfig
from training.data.examples import Example
from training.data.splits import Split, TaskData, load_data
from training.export.bundle import Bundle, export_task
from training.export.graph_bytes import canonical_bytes
from training.export.onnx_graphs import GraphFiles, export_graphs
from training.export.onnx_model import OnnxModel
from training.export.precision_check import PrecisionCheck, PrecisionChecker
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

    def check(self, trained: TrainedTask, data: TaskData | None = None) -> PrecisionCheck:
        return PrecisionChecker(trained, self.files, ABSENT, data or self.data, []).check(Precision.INT8)

    def answers_to(self, items: Sequence[Example], pattern: Pattern) -> int:
        """The number of items that allow the pattern."""
        return sum(
            (item.image is not None or pattern is Pattern.TEXT) and (item.text is not None or pattern is Pattern.IMAGE)
            for item in items
        )

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
def exported(task: Task, monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainedTask], Bundle]:
    monkeypatch.setattr(training.export.bundle, "export_graphs", lambda model: task.files)
    return lambda trained: export_task(trained, {"validation": {}, "test": {}}, task.data, b"<html></html>")


def changed(data: TaskData, change: Callable[[Example], Example | None]) -> TaskData:
    """The data with each item changed, or left out."""
    items = {
        name: [each for item in split.items if (each := change(item)) is not None]
        for name, split in data.splits().items()
    }
    splits = {name: dataclasses.replace(split, items=items[name]) for name, split in data.splits().items()}
    return dataclasses.replace(data, **splits)


def without_image(item: Example) -> Example | None:
    return None if item.text is None else dataclasses.replace(item, image=None)


def without_text(item: Example) -> Example | None:
    return None if item.image is None else dataclasses.replace(item, text=None)


def never_both(item: Example) -> Example | None:
    return (without_text if item.row % 2 else without_image)(item)


def ending_in(kind: str, data: bytes) -> bytes:
    """The graph with one more operator behind its output."""
    model = onnx.load_model_from_string(data)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node(kind, ["before"], [output]))
    return canonical_bytes(model)


def far_off(fp32: GraphFiles, *_: object) -> GraphFiles:
    return fp32 | {name: ending_in("Neg", data) for name, data in fp32.items() if "tail" in name}


def overflowing(fp32: GraphFiles, *_: object) -> GraphFiles:
    return fp32 | {"image_tail": ending_in("Log", fp32["image_tail"])}  # of negative numbers too


def failing(fp32: GraphFiles, *_: object) -> GraphFiles:
    raise RuntimeError("no such kernel\nand a long tale")


@pytest.mark.slow
def test_an_accepted_precision_is_published_with_its_cost(task: Task, exported) -> None:
    bundle = exported(task.with_budget(ANY_LOSS, ("int8", "fp16")))

    draft = ManifestDraft.model_validate_json(bundle.draft.model_dump_json())
    assert list(draft.graphs) == [Precision.FP32, Precision.INT8, Precision.FP16]
    fp32 = draft.graphs[Precision.FP32]
    assert fp32.metric_change == fp32.effects == {}
    for check in bundle.precision_checks:
        graphs = draft.graphs[check.precision]
        assert (graphs.metric_change, graphs.effects) == (check.change, check.effects)
        assert set(graphs.metric_change) == set(graphs.effects) == set(graphs.max_logit_error) == set(Pattern)
        assert max(graphs.max_logit_error.values()) > max(fp32.max_logit_error.values())
        first, *lines = str(check).splitlines()
        assert first == f"{check.precision} accepted"
        assert re.fullmatch(
            r"  both: \d+ of \d+ answers changed, accuracy [+-]\d+\.\d\d points, expected loss \d+\.\d\d points "
            r"\(95 % interval \d+\.\d\d to \d+\.\d\d\), logit error \S+ on average and \S+ at most",
            lines[0],
        )
    assert {blob.sha256 for blob in draft.blobs()} <= bundle.blobs.keys()


def test_a_precision_that_costs_more_than_the_budget_is_not_published(
    task: Task, exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", far_off)

    bundle = exported(task.with_budget(0.5))

    (check,) = bundle.precision_checks
    assert check.effects[Pattern.BOTH].expected_loss > 0.5
    assert "int8 not published, its loss with both" in str(check)
    assert "may be above export.accuracy_budget, 0.5 points\n  both: " in str(check)
    assert list(bundle.draft.graphs) == [Precision.FP32]
    assert {blob.sha256 for blob in bundle.draft.blobs()} == set(bundle.blobs)


@pytest.mark.parametrize("budget", [0, 0.5, ANY_LOSS])
def test_the_budget_decides(task: Task, monkeypatch: pytest.MonkeyPatch, budget: float) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", far_off)

    check = task.check(task.with_budget(budget))

    assert (check.problem is None) == (check.files is not None) == (budget == ANY_LOSS)


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_items_of_all_splits_are_compared(task: Task, pattern: Pattern) -> None:
    items = [item for split in task.data.splits().values() for item in split.items]

    check = task.check(task.with_budget(ANY_LOSS))

    assert check.effects[pattern].items == task.answers_to(items, pattern) > len(task.data.validation.items)


def test_of_a_large_data_set_items_that_were_not_trained_on_come_first(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [*task.data.validation.items, *task.data.test.items]
    monkeypatch.setattr(training.export.precision_check, "_MOST_ITEMS", len(held_out) + 3)

    effects = task.check(task.with_budget(ANY_LOSS)).effects

    counts = {pattern: task.answers_to(held_out, pattern) for pattern in Pattern}
    assert all(0 <= effects[pattern].items - counts[pattern] <= 3 for pattern in Pattern)


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


@pytest.mark.parametrize(
    ("change", "skipped"),
    [
        (without_image, [Pattern.BOTH, Pattern.IMAGE]),
        (without_text, [Pattern.BOTH, Pattern.TEXT]),
        (never_both, [Pattern.BOTH]),
    ],
)
def test_patterns_that_the_data_does_not_have_are_skipped_with_a_note(
    task: Task, change: Callable[[Example], Example | None], skipped: list[Pattern]
) -> None:
    check = task.check(task.with_budget(ANY_LOSS), changed(task.data, change))

    assert check.problem is None
    assert list(check.effects) == list(check.change) == [pattern for pattern in Pattern if pattern not in skipped]
    note = f"  {' and '.join(skipped)}: not checked, because the data has no such items or only one"
    assert str(check).splitlines()[-1] == note


@pytest.mark.parametrize("change", [without_image, without_text, never_both])
def test_a_precision_is_refused_by_the_patterns_that_the_data_has(
    task: Task, monkeypatch: pytest.MonkeyPatch, change: Callable[[Example], Example | None]
) -> None:
    monkeypatch.setattr(training.export.precision_check, "converted", far_off)

    check = task.check(task.with_budget(0.5), changed(task.data, change))

    assert check.problem is not None
    assert check.problem.startswith(f"its loss with {next(iter(check.effects))}")


def test_a_precision_that_no_item_shows_is_not_published(task: Task) -> None:
    one = changed(task.data, lambda item: item if item is task.data.test.items[0] else None)

    assert task.check(task.with_budget(ANY_LOSS), one).problem == "the data has too few items to show its effect"


def test_a_multi_label_task_is_checked_by_the_f1_of_its_items(task: Task) -> None:
    calibration = dict.fromkeys(Pattern, Calibration(thresholds=(0.5, 0.4, 0.3)))
    trained = dataclasses.replace(task.with_budget(ANY_LOSS, problem=Problem.MULTI_LABEL), calibration=calibration)

    check = task.check(trained)

    assert set(check.change) == set(check.effects) == set(Pattern)
    assert "answers changed, F1 " in str(check)


def test_only_fp32_is_exported_if_no_precision_is_configured(task: Task, exported) -> None:
    bundle = exported(task.with_budget(ANY_LOSS, ()))

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


@pytest.mark.slow
def test_the_error_is_that_of_the_int8_graphs_own_logits(task: Task) -> None:
    items = [item for split in task.data.splits().values() for item in split.items]
    texts = [dataclasses.replace(item, image=None) for item in items if item.text]
    check = task.check(task.with_budget(ANY_LOSS))
    lower = task.model(check.files)
    differences = [float((lower.logits(item) - task.model().logits(item)).abs().max()) for item in texts]

    # Each runs alone here, and in batches there: fixed scales give the same answer.
    assert check.max_logit_error[Pattern.TEXT] == pytest.approx(max(differences), abs=1e-5)


@pytest.mark.parametrize(
    ("installed", "amx", "reason"),
    [(False, False, "the extra openvino is not"), (False, True, "the extra openvino is not"), (True, False, "no AMX")],
)
def test_bf16_that_cannot_be_measured_is_published_with_a_stated_error(task, monkeypatch, installed, amx, reason):
    monkeypatch.setattr("model_store.openvino.is_installed", lambda: installed)
    monkeypatch.setattr("model_store.openvino.has_openvino", lambda: installed)
    monkeypatch.setattr("model_store.openvino.has_amx", lambda: amx)
    golden = [(Pattern.TEXT, task.data.validation.items[0], torch.tensor([-40.0, 2.0, 3.0]))]
    checker = PrecisionChecker(task.with_budget(0.0), task.files, ABSENT, task.data, golden)

    check = checker.check(Precision.BF16)

    assert (check.files, check.problem, check.effects) == (task.files, None, {})
    assert check.max_logit_error == dict.fromkeys(Pattern, pytest.approx(0.4))
    assert str(check).startswith("bf16 not measured, because ")
    assert reason in str(check)


@pytest.mark.skipif(not openvino.is_fast(), reason="needs AMX and the extra openvino")
def test_bf16_is_measured_on_the_fp32_graphs(task, monkeypatch):
    monkeypatch.setattr("model_store.openvino.has_openvino", lambda: True)
    checker = PrecisionChecker(task.with_budget(ANY_LOSS), task.files, ABSENT, task.data, [])

    check = checker.check(Precision.BF16)

    assert (check.files, check.problem, check.unmeasured) == (task.files, None, None)
    assert 0 < max(check.max_logit_error.values()) < 0.1


def stranger(fp32: GraphFiles, trunk: Callable[[bytes], bytes]) -> GraphFiles:
    """int8 trunks of another task, whose export was given other pictures and texts."""
    return {name: trunk(fp32[name]) for name in ("image_trunk", "text_trunk")}


@pytest.mark.parametrize(
    ("budget", "trunk", "is_shared"),
    [
        (ANY_LOSS, lambda data: ending_in("Identity", data), True),
        (0.5, lambda data: ending_in("Neg", data), False),
        (ANY_LOSS, lambda data: ending_in("Log", data), False),
        (ANY_LOSS, lambda _: b"no graph", False),
    ],
    ids=["accepted", "too costly", "not finite", "unreadable"],
)
@pytest.mark.slow
def test_known_trunks_are_shared_if_the_answers_allow_it(task: Task, budget, trunk, is_shared) -> None:
    known = stranger(task.files, trunk)
    trained = task.with_budget(budget)
    checker = PrecisionChecker(trained, task.files, ABSENT, task.data, [], known_trunks=known)

    check = checker.check(Precision.INT8)

    files = check.files or {}
    assert (known.items() <= files.items()) == is_shared
    if not is_shared:
        assert check == task.check(trained)  # with trunks of its own
