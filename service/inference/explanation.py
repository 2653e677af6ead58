"""The explanation of an answer: each modality's part of each logit, and the answer without each modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from model_store import Pattern, Problem
from service.api.answers import Explanation, LabelContributions, LabelScore
from service.models.head import Contributions, Features
from service.models.loaded_model import Model


def explain(model: Model, features: Features, ranking: Sequence[LabelScore]) -> Explanation:
    """Explain an answer's labels, which are ranked best first. Raises ServiceError `model_nonfinite`."""
    manifest, parts = model.manifest, model.contributions(features)
    image, text = features
    index_of = {label: index for index, label in enumerate(manifest.labels)}
    indices = [index_of[label.label] for label in ranking]
    without_image = without_text = None
    if image is not None and text is not None:
        without_image = model.decide(Features(None, text)).ranked(manifest.labels, len(ranking))
        without_text = model.decide(Features(image, None)).ranked(manifest.labels, len(ranking))
    return Explanation(
        carried_by=_carrier(parts, indices[0], features.pattern, manifest.problem),
        labels=[_contributions(manifest.labels[index], parts, index) for index in indices],
        without_image=without_image,
        without_text=without_text,
    )


def _contributions(label: str, parts: Contributions, index: int) -> LabelContributions:
    base, image, text = (float(part[index]) for part in parts)
    return LabelContributions(label=label, logit=base + image + text, base=base, image=image, text=text)


def _carrier(parts: Contributions, best: int, pattern: Pattern, problem: Problem) -> Literal["image", "text"]:
    if pattern is not Pattern.BOTH:
        return "image" if pattern is Pattern.IMAGE else "text"
    lead = parts.image - parts.text
    reference = float(np.mean(lead)) if problem is Problem.SINGLE_LABEL else 0.0
    return "image" if lead[best] > reference else "text"
