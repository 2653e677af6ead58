"""Why an answer is what it is: what each modality adds to each logit, and the answer without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from model_store import Pattern, Problem
from service.api.answers import Explanation, LabelContributions, LabelScore
from service.api.item import pattern_of
from service.models.decision import label_scores
from service.models.head import Contributions, Vector
from service.models.loaded_model import Model


def explain(model: Model, image: Vector | None, text: Vector | None, labels: Sequence[LabelScore]) -> Explanation:
    """Explain an answer whose labels are these, best first, from the features (P,) it was made of.

    Raises ServiceError `model_nonfinite`.
    """
    manifest, parts = model.manifest, model.head.contributions(image, text)
    places = {label: place for place, label in enumerate(manifest.labels)}
    shown = [places[label.label] for label in labels]
    without_image = without_text = None
    if image is not None and text is not None:
        without_image = label_scores(manifest, Pattern.TEXT, model.logits(None, text), len(shown))
        without_text = label_scores(manifest, Pattern.IMAGE, model.logits(image, None), len(shown))
    return Explanation(
        carried_by=_carrier(parts, shown[0], pattern_of(image is not None, text is not None), manifest.problem),
        labels=[_label(manifest.labels[place], parts, place) for place in shown],
        without_image=without_image,
        without_text=without_text,
    )


def _label(label: str, parts: Contributions, place: int) -> LabelContributions:
    base, image, text = (float(part[place]) for part in parts)
    return LabelContributions(label=label, logit=base + image + text, base=base, image=image, text=text)


def _carrier(parts: Contributions, best: int, pattern: Pattern, problem: Problem) -> Literal["image", "text"]:
    if pattern is not Pattern.BOTH:
        return "image" if pattern is Pattern.IMAGE else "text"
    lead = parts.image - parts.text
    reference = float(np.mean(lead)) if problem is Problem.SINGLE_LABEL else 0.0
    return "image" if lead[best] > reference else "text"
