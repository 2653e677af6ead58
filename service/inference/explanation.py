"""Why an answer is what it is: what each modality adds to each logit, and the answer without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from model_store import Pattern, Problem
from service.models.decision import LabelScore, label_scores
from service.models.head import Contributions, Vector, pattern_of
from service.models.loaded_model import Model


class LabelContributions(BaseModel):
    """Where one label's logit comes from: `base + image + text = logit`."""

    label: str
    logit: float = Field(description="Before calibration.")
    base: float = Field(description="The logit of an item that has neither modality.")
    image: float = Field(description="What this image adds in place of an absent one; exactly 0 when it is absent.")
    text: float = Field(description="What this text adds in place of an absent one; exactly 0 when it is absent.")


class Explanation(BaseModel):
    """Exact, since a logit is a sum over the modalities."""

    carried_by: Literal["image", "text"] = Field(
        description="The modality that added most to the best label; in a single-label task, most above what it added "
        "to the mean of all labels, since what it adds to all of them alike changes no score."
    )
    labels: list[LabelContributions] = Field(description="The labels of the answer, in its order.")
    without_image: list[LabelScore] | None = Field(
        description="The answer without the image; null when there is none, or nothing else."
    )
    without_text: list[LabelScore] | None = Field(
        description="The answer without the text; null when there is none, or nothing else."
    )


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
