"""The answers of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from model_store import Backbone, Calibration, Pattern, Precision, Problem, Provenance
from service.api.problems import ProblemDetails

Modality = Literal["used", "truncated", "absent"]


class Modalities(BaseModel):
    """How each modality was used; `truncated` is a text longer than the model's maximum."""

    image: Modality
    text: Modality


class Latency(BaseModel):
    """Milliseconds by stage, exactly 0 for a stage that did not run. The two encoders run in parallel."""

    decode: float
    tokenize: float
    queue: float
    image_encoder: float
    text_encoder: float
    head: float
    total: float


class LabelScore(BaseModel):
    """One label of an answer."""

    label: str
    score: float = Field(ge=0, le=1)
    selected: bool = Field(description="The best label (single-label), or one that reaches its threshold (multi-label)")


class LabelSet(BaseModel):
    """Labels among which the true one is with a promised probability."""

    labels: list[str] = Field(description="Best first. In a single-label task at least one.")
    coverage: float = Field(
        description="Single-label: the probability that the true label is in the set, among items with these "
        "modalities. Multi-label: the mean share of an item's true labels that are in its set."
    )
    review: bool = Field(description="Whether a person should look at the item: the set has not exactly one label.")


class Answer(BaseModel):
    """One task's answer to one item."""

    task: str
    version: int
    labels: list[LabelScore] = Field(min_length=1)
    modalities: Modalities
    label_set: LabelSet | None = Field(default=None, description="Only if `coverage` was set.")


class LabelContributions(BaseModel):
    """The summands of one label's logit: `base + image + text = logit`."""

    label: str
    logit: float = Field(description="Before calibration.")
    base: float = Field(description="The logit of an item that has neither modality.")
    image: float = Field(description="Change of the logit by this image; exactly 0 when it is absent.")
    text: float = Field(description="Change of the logit by this text; exactly 0 when it is absent.")


class Explanation(BaseModel):
    """The part of each modality in an answer. It is exact, since a logit is a sum over the modalities."""

    carried_by: Literal["image", "text"] = Field(
        description="The modality with the largest part in the best label's logit. In a single-label task the mean of "
        "its parts over all labels is subtracted first, since an equal part in every label changes no score."
    )
    labels: list[LabelContributions] = Field(description="The labels of the answer, in its order.")
    without_image: list[LabelScore] | None = Field(
        description="The answer without the image; null if either is absent."
    )
    without_text: list[LabelScore] | None = Field(description="The answer without the text; null if either is absent.")


class Classification(Answer):
    """The answer to one item."""

    latency_ms: Latency
    request_id: str
    explanation: Explanation | None = Field(None, description="Only if `explain` was set.")


class Embedding(BaseModel):
    """The vector of one item in a retrieval task, or in any other task its features.

    The vector has length 1, so the dot product of two vectors is their cosine similarity. Features are not normalised,
    since the task's head is linear in them: for cosine similarities scale each to length 1. An absent modality has no
    features, and its tower does not run.
    """

    task: str
    version: int
    embedding: list[float] | None = Field(
        default=None, description="`embedding_size` numbers, see the task; only of a retrieval task."
    )
    image_features: list[float] | None = Field(
        default=None, description="`feature_size` numbers, see the task's backbone; not of a retrieval task."
    )
    text_features: list[float] | None = Field(
        default=None, description="`feature_size` numbers, see the task's backbone; not of a retrieval task."
    )
    modalities: Modalities
    latency_ms: Latency
    request_id: str


# Named, because generators of clients name a class by it.
BatchCell = TypeAliasType("BatchCell", Answer | ProblemDetails)


class BatchClassification(BaseModel):
    """A row for each input with a cell for each task: an answer, or the problem with this cell only."""

    results: list[list[BatchCell]]
    latency_ms: Latency = Field(description="The sum of each stage's times over the inputs, which run in parallel.")
    request_id: str


@dataclass(frozen=True)
class Refusal:
    """The reason why a task's live version does not answer. `version` is None if the store's `live` is unreadable."""

    version: int | None
    reason: str


class TaskSummary(BaseModel):
    """A loaded task."""

    task: str
    version: int
    problem: Problem
    labels: list[str] = Field(description="None of a retrieval task.")
    embedding_size: int | None = Field(default=None, description="Length of the vectors of a retrieval task.")
    backbone: Backbone
    precision: Precision = Field(description="The lower one of the two towers.")


class TaskList(BaseModel):
    """Every loaded task."""

    tasks: list[TaskSummary]


class TowerDetail(BaseModel):
    """What runs one modality's tower on this machine."""

    runtime: Literal["onnxruntime", "openvino"]
    precision: Precision


class TaskDetail(TaskSummary):
    """All details of the live version of a task."""

    towers: dict[Literal["image", "text"], TowerDetail]
    calibration: dict[Pattern, Calibration]
    highest_coverage: dict[Pattern, float] = Field(
        default={},
        description="The highest `coverage` that a request may ask for; no pattern if the version has no label sets.",
    )
    metrics: dict[str, dict[str, dict[str, float | None]]]
    training_mix: dict[Pattern, float]
    max_logit_error: dict[Pattern, float]
    provenance: Provenance
    has_report: bool = Field(description="Whether a training report exists, at `report`.")
    refused: Refusal | None = Field(
        description="The version that is live in the store but failed its checks, so that `version` answers."
    )


class TaskExample(BaseModel):
    """A golden example: an input whose stored answer a version must reproduce before it is served."""

    pattern: Pattern
    text: str | None
    has_image: bool = Field(description="Whether a picture exists, at `examples/{number}/image`, counted from 0.")
    best_label: str | None = Field(
        description="The label with the highest logit at the export of the version; null for a retrieval task."
    )


class TaskExamples(BaseModel):
    """The golden examples of the live version."""

    task: str
    version: int
    examples: list[TaskExample]


class TaskVersion(BaseModel):
    """A version in the store. `live` marks the version that answers by default."""

    version: int
    live: bool


class TaskVersions(BaseModel):
    """Every version of a task in the store, newest first."""

    task: str
    versions: list[TaskVersion]


class Health(BaseModel):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"
