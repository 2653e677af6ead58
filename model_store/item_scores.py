"""The scores of a version on each test item, by which two versions are compared without the items themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model_store.manifest import Pattern

Score = Annotated[float, Field(ge=0, le=1)]


class ItemScores(BaseModel):
    """How right each answer to the test items is, by presence pattern.

    Single-label: 1 for the right label, else 0. Multi-label: F1 of the selected labels of the item. Retrieval: 1 if the
    query's target is the nearest of all targets, else 0. Equal items count once. Their order depends on the items
    alone, so the scores of two versions with equal `items` belong to the same items in turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["accuracy", "f1", "recall_at_1"]
    items: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256 over pictures, texts and labels of all items
    majority_label: str | None  # the most frequent label of the training split; of a retrieval task none
    majority: tuple[Score, ...]  # of always answering this label; of a retrieval task zeros
    patterns: dict[Pattern, tuple[Score | None, ...]]  # None: the item lacks a modality of the pattern

    @model_validator(mode="after")
    def _is_complete(self) -> ItemScores:
        if set(self.patterns) != set(Pattern):
            raise ValueError("patterns must be both, image and text")
        if any(len(scores) != len(self.majority) for scores in self.patterns.values()):
            raise ValueError("each pattern needs one score for each item")
        return self
