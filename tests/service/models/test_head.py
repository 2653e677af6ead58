from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from model_store import Calibration, Pattern, Problem
from service.models.head import Features, read_head, scores, selected

LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9).map(lambda x: np.array(x, np.float32))


@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_single_label_scores_are_a_distribution_in_the_logits_order(logits, temperature):
    values = scores(logits, Problem.SINGLE_LABEL, Calibration(temperature=temperature))
    assert values.sum() == pytest.approx(1)
    assert (values >= 0).all()
    assert values[logits.argmax()] == values.max()


@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_multi_label_scores_are_independent_sigmoids(logits, temperature):
    calibration = Calibration(temperature=temperature, thresholds=(0.5,) * len(logits))
    values = scores(logits, Problem.MULTI_LABEL, calibration)
    np.testing.assert_allclose(values, 0.5 * (1 + np.tanh(logits.astype(float) / temperature / 2)), atol=1e-9)


def test_a_score_that_equals_its_threshold_is_selected():
    chosen = selected(np.array([0.5, 0.25, 0.75]), Calibration(thresholds=(0.5, 0.5, 0.5)))
    assert chosen.tolist() == [True, False, True]


def test_of_equal_scores_one_label_is_selected_in_a_single_label_task():
    assert selected(np.array([0.4, 0.4, 0.2]), Calibration()).tolist() == [True, False, False]


def test_logits_are_the_patterns_linear_map_of_features_or_absent_features(shelf):
    draft = shelf.draft()
    tensors, absent = (
        load(draft.blobs[draft.manifest.head.sha256]),
        load(draft.blobs[draft.manifest.absent_features.sha256]),
    )
    head = read_head(draft.manifest, save(tensors), save(absent))
    image, text = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    for pattern, features, completed in [
        ("both", Features(image, text), (image, text)),
        ("image", Features(image, None), (image, absent["text"])),
        ("text", Features(None, text), (absent["image"], text)),
    ]:
        expected = tensors[f"{pattern}.weight"] @ np.concatenate(completed) + tensors[f"{pattern}.bias"]
        np.testing.assert_allclose(head.logits(features), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [f"{pattern}.{part}" for pattern in Pattern for part in ("weight", "bias")])
def test_a_head_with_a_missing_or_misshapen_tensor_is_an_error(shelf, name):
    draft = shelf.draft()
    tensors = load(draft.blobs[draft.manifest.head.sha256])
    absent = draft.blobs[draft.manifest.absent_features.sha256]
    for changed in ({name: tensors[name][:-1]}, {name: tensors[name].astype(np.float64)}):
        with pytest.raises(ValueError, match=name):
            read_head(draft.manifest, save({**tensors, **changed}), absent)
    with pytest.raises(KeyError):
        read_head(draft.manifest, save({key: value for key, value in tensors.items() if key != name}), absent)


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_answer_of_a_retrieval_task_is_a_unit_vector(shelf, oracle, pixels, pattern):
    draft = shelf.draft("search")
    head = read_head(
        draft.manifest, draft.blobs[draft.manifest.head.sha256], draft.blobs[draft.manifest.absent_features.sha256]
    )
    shown = pixels if pattern is not Pattern.TEXT else None, "a red apple" if pattern is not Pattern.IMAGE else None
    image, text = (features.astype(np.float32) for features in oracle("search").features(*shown))
    present = Features(None if shown[0] is None else image, None if shown[1] is None else text)

    vector = head.logits(present)

    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(vector, oracle("search").logits(*shown), atol=1e-5)


def test_a_vector_of_zeros_stays_finite(shelf):
    draft = shelf.draft("search")
    tensors = {name: np.zeros_like(value) for name, value in load(draft.blobs[draft.manifest.head.sha256]).items()}
    head = read_head(draft.manifest, save(tensors), draft.blobs[draft.manifest.absent_features.sha256])

    assert head.logits(Features(np.ones(8, np.float32), None)).tolist() == [0.0] * 5
