"""What the service answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from model_store import Backbone, Calibration, Pattern, Precision, Problem, Provenance
from service.api.problems import ProblemDetails

Modality = Literal["used", "truncated", "absent"]


class Modalities(BaseModel):
    """What became of each modality; `truncated` is a text longer than the model takes."""

    image: Modality
    text: Modality


class Latency(BaseModel):
    """Milliseconds a stage took, exactly 0 for one that did not run; the two encoders run side by side."""

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


class Answer(BaseModel):
    """What one task says of one item."""

    task: str
    version: int
    labels: list[LabelScore]
    modalities: Modalities


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


class Classification(Answer):
    """The answer to one item."""

    latency_ms: Latency
    request_id: str
    explanation: Explanation | None = Field(None, description="There when `explain` asked for it.")


class Embedding(BaseModel):
    """One item as a task's towers see it; a modality that is absent has no features and costs nothing.

    Not normalised: the task's head is linear in them. For cosines, as in composed retrieval, scale each to length 1.
    """

    task: str
    version: int
    image_features: list[float] | None = Field(description="As many as the backbone's feature_size.")
    text_features: list[float] | None = Field(description="As many as the backbone's feature_size.")
    modalities: Modalities
    latency_ms: Latency
    request_id: str


class BatchClassification(BaseModel):
    """One row for each input, in it one cell for each task: an answer, or the problem with this cell alone."""

    results: list[list[Answer | ProblemDetails]]
    latency_ms: Latency = Field(description="Each stage's time summed over the inputs, many of which run at once.")
    request_id: str


@dataclass(frozen=True)
class Refusal:
    """The version that the store's `live` names and that does not answer, None where `live` cannot be read; and why."""

    version: int | None
    reason: str


class TaskSummary(BaseModel):
    """A task that is loaded."""

    task: str
    version: int
    problem: Problem
    labels: list[str]
    backbone: Backbone
    precision: Precision


class TaskList(BaseModel):
    """Every task that is loaded."""

    tasks: list[TaskSummary]


class TaskDetail(TaskSummary):
    """What is known about the live version of a task."""

    calibration: dict[Pattern, Calibration]
    metrics: dict[str, dict[str, dict[str, float | None]]]
    training_mix: dict[Pattern, float]
    max_logit_error: dict[Pattern, float]
    provenance: Provenance
    has_report: bool = Field(description="Whether there is a training report, at `report`.")
    refused: Refusal | None = Field(
        description="What is live in the store and failed its checks, so `version` answers."
    )


class TaskExample(BaseModel):
    """A golden example: an input whose answer a version must give again before it is served."""

    pattern: Pattern
    text: str | None
    has_image: bool = Field(description="Whether there is a picture, at `examples/{number}/image`, counted from 0.")
    best_label: str = Field(description="The label of the highest logit when the version was exported.")


class TaskExamples(BaseModel):
    """The golden examples of the version that answers."""

    task: str
    version: int
    examples: list[TaskExample]


class TaskVersion(BaseModel):
    """A version in the store; `live` is the one that answers."""

    version: int
    live: bool


class TaskVersions(BaseModel):
    """Every version of a task in the store, newest first."""

    task: str
    versions: list[TaskVersion]


class Health(BaseModel):
    """The service lives, or is ready."""

    status: Literal["ok"] = "ok"
