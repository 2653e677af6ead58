"""The data of a report agrees with the logits of the test split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern
from model_store.label_sets import LabelSets, quantiles
from training.config import TaskConfig
from training.data.missing import draw_tables
from training.data.splits import load_data
from training.learning.batches import Collator, RawInputs
from training.learning.encoded_split import encode
from training.learning.runs import TrainedTask, build
from training.report.report_data import report_data

Make = Callable[..., TaskConfig]


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_mistakes_are_wrong_and_the_most_confident_come_first(make_config: Make, problem: str) -> None:
    config = make_config(problem=problem)
    data = load_data(config)
    torch.manual_seed(0)
    model, preprocessor = build(config, len(data.labels))
    calibration = {pattern: Calibration(temperature=2.0) for pattern in Pattern}
    trained = TrainedTask(config, data.labels, data.fingerprint, {}, calibration, model.eval(), preprocessor)
    encoded = encode(model, data.test, Collator(RawInputs(preprocessor), data.labels, config.problem))
    table = draw_tables(config, data)["test"]

    report = report_data(trained, data, encoded, table, {}, [])

    answers = encoded.logits(model.head, table).argmax(dim=-1)
    assert report.mistakes
    assert all(mistake.predicted not in mistake.true for mistake in report.mistakes)
    scores = [mistake.score for mistake in report.mistakes]
    assert scores == sorted(scores, reverse=True)
    assert all((mistake.image is None) is (mistake.pattern is Pattern.TEXT) for mistake in report.mistakes)
    assert [ratio for ratio, _ in report.robustness["text"]] == pytest.approx([step / 10 for step in range(11)])
    if problem == "multi_label":
        assert report.confusion is None
    else:
        right = int((answers == encoded.targets).sum())
        assert (report.confusion.sum(), report.confusion.trace()) == (12, right)
        assert len(report.mistakes) == 12 - right


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.parametrize("items", [0, 3, 40])
def test_label_sets_have_scores_at_each_coverage_that_is_supported(make_config: Make, problem: str, items: int) -> None:
    config = make_config(problem=problem)
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    calibration = dict.fromkeys(Pattern, Calibration())
    sets = LabelSets(by_pattern={"text": quantiles(np.linspace(0, 1, items))}) if items else None
    trained = TrainedTask(config, data.labels, data.fingerprint, {}, calibration, model.eval(), preprocessor, sets)
    encoded = encode(model, data.test, Collator(RawInputs(preprocessor), data.labels, config.problem))

    report = report_data(trained, data, encoded, draw_tables(config, data)["test"], {}, [])

    coverages = [coverage for coverage, _ in report.set_scores.get(Pattern.TEXT, [])]
    assert coverages == {0: [], 3: [0.5, 0.55, 0.6, 0.65, 0.7, 0.75]}.get(
        items, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    )
    assert not any(report.set_scores.get(pattern) for pattern in (Pattern.BOTH, Pattern.IMAGE))
    sizes = [scores.size for _, scores in report.set_scores.get(Pattern.TEXT, [])]
    assert sizes == sorted(sizes)
