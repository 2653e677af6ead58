"""The manifest: everything a service needs to know about one published version of a task."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, PositiveFloat, PositiveInt, model_validator

TaskName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Pattern(StrEnum):
    """Presence pattern: which modalities an item has."""

    BOTH = "both"
    IMAGE = "image"
    TEXT = "text"


class Problem(StrEnum):
    """How labels relate: exactly one is true, or any number are."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"


class Precision(StrEnum):
    """Numeric precision of a set of graphs."""

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blob(_Frozen):
    """An immutable file of the store, named by its content."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: PositiveInt  # bytes


class Backbone(_Frozen):
    """The frozen two-tower model under a task, and where each tower is split into trunk and tail."""

    name: str
    family: Literal["clip", "siglip"]
    image_width: PositiveInt
    text_width: PositiveInt
    feature_size: PositiveInt  # P: both towers project to it
    image_layers: PositiveInt
    text_layers: PositiveInt
    image_first_tail_layer: Annotated[int, Field(ge=0)]
    text_first_tail_layer: Annotated[int, Field(ge=0)]


class ImagePreprocessing(_Frozen):
    """From a picture to `pixel_values`: RGB over white, resize, centre crop, scale to 0..1, normalise."""

    shortest_edge: PositiveInt | None = None  # keep the aspect ratio ...
    exact_size: tuple[PositiveInt, PositiveInt] | None = None  # ... or resize to (height, width) whatever it is
    crop: tuple[PositiveInt, PositiveInt] | None = None  # (height, width)
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]

    @model_validator(mode="after")
    def _has_one_size(self) -> ImagePreprocessing:
        if (self.shortest_edge is None) == (self.exact_size is None):
            raise ValueError("give exactly one of shortest_edge and exact_size")
        if self.exact_size is None and self.crop is None:
            raise ValueError("shortest_edge needs a crop, or images would differ in shape")
        return self

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of `pixel_values`."""
        size = self.crop or self.exact_size
        if size is None:
            raise ValueError("neither crop nor exact_size is set")
        return size


class Padding(_Frozen):
    """What a text tower that is not causal is given behind the end of a text, as it was pretrained."""

    length: PositiveInt  # tokens of every text
    token: Annotated[int, Field(ge=0)]


class TextPreprocessing(_Frozen):
    """From a text to `input_ids`: a `tokenizers` JSON file, cut at `max_length`, padded only where it matters."""

    tokenizer: Blob
    max_length: PositiveInt  # tokens, start and end tokens included
    padding: Padding | None = None  # None: a causal tower, for which padding changes nothing

    @model_validator(mode="after")
    def _is_padded_to_its_length(self) -> TextPreprocessing:
        if self.padding is not None and self.padding.length != self.max_length:
            raise ValueError("padding.length must be max_length")
        return self


class Graphs(_Frozen):
    """The four ONNX graphs of one precision, and what was measured of them at export, on the validation split.

    `max_logit_error` is how far a logit was from PyTorch's, or of another precision from fp32's. `metric_change` is in
    points of the score that the best epoch was chosen by (-0.5: an accuracy fell from 80.0 % to 79.5 %), against fp32.
    """

    image_trunk: Blob
    image_tail: Blob
    text_trunk: Blob
    text_tail: Blob
    max_logit_error: dict[Pattern, Annotated[FiniteFloat, Field(ge=0)]]
    metric_change: dict[Pattern, FiniteFloat] = {}


class Calibration(_Frozen):
    """Scores of one presence pattern: softmax or sigmoid of `logits / temperature`, and when a label is selected."""

    temperature: PositiveFloat = 1.0
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None  # one a label, multi-label only


class GoldenExample(_Frozen):
    """One input with the logits that PyTorch gave for it; a service must come near them before it answers."""

    pattern: Pattern
    image: Blob | None = None  # an encoded picture
    text: str | None = None
    logits: tuple[FiniteFloat, ...]


class Provenance(_Frozen):
    """What made this version, enough to make it again."""

    code_version: str
    created_at: datetime
    seed: int
    dataset_fingerprint: str
    config: dict[str, JsonValue]
    packages: dict[str, str]


class ManifestDraft(_Frozen):
    """A manifest before the store has given it a version number."""

    schema_version: Literal[1] = 1
    task: TaskName
    problem: Problem
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    backbone: Backbone
    image: ImagePreprocessing
    text: TextPreprocessing
    graphs: dict[Precision, Graphs]
    absent_features: Blob  # safetensors: `image` (P,) and `text` (P,), what a tower gives for a missing input
    head: Blob  # safetensors: `<pattern>.weight` (C, 2P: image then text) and `<pattern>.bias` (C,)
    calibration: dict[Pattern, Calibration]
    golden: Annotated[tuple[GoldenExample, ...], Field(min_length=3)]
    golden_tolerance: PositiveFloat = 1e-3
    metrics: dict[str, dict[str, dict[str, float | None]]] = {}  # split -> "overall" or pattern -> metric
    training_mix: dict[Pattern, Annotated[float, Field(ge=0, le=1)]]  # share of the training items
    report: Blob | None = None  # HTML: how this version was trained and how good it is
    provenance: Provenance

    @model_validator(mode="after")
    def _is_complete(self) -> ManifestDraft:
        patterns, classes = set(Pattern), len(self.labels)
        if len(set(self.labels)) != classes:
            raise ValueError("labels repeat")
        if Precision.FP32 not in self.graphs:
            raise ValueError("graphs need the precision fp32")
        if set(self.calibration) != patterns or {example.pattern for example in self.golden} != patterns:
            raise ValueError("calibration and golden examples must cover both, image and text")
        for calibration in self.calibration.values():
            expected = classes if self.problem is Problem.MULTI_LABEL else None
            if (calibration.thresholds and len(calibration.thresholds)) != expected:
                raise ValueError("a multi-label task needs one threshold a label, a single-label task none")
        if any(len(example.logits) != classes for example in self.golden):
            raise ValueError("a golden example needs one logit a label")
        return self

    def tolerance(self, precision: Precision) -> float:
        """How far a golden example's logits may be from PyTorch's at a precision.

        Below fp32 that follows what was measured: twice the largest error at export, since other processors multiply
        int8 and fp16 with other kernels, which round elsewhere.
        """
        if precision is Precision.FP32:
            return self.golden_tolerance
        return max(self.golden_tolerance, 2 * max(self.graphs[precision].max_logit_error.values(), default=0.0))

    def files(self) -> dict[str, Blob]:
        """Every blob this version needs by what it is, such as `fp32/image_trunk.onnx`; some have several uses."""
        found = {
            "tokenizer.json": self.text.tokenizer,
            "absent_features.safetensors": self.absent_features,
            "head.safetensors": self.head,
        }
        for precision, graphs in self.graphs.items():
            for graph in ("image_trunk", "image_tail", "text_trunk", "text_tail"):
                found[f"{precision}/{graph}.onnx"] = getattr(graphs, graph)
        for number, example in enumerate(self.golden):
            if example.image is not None:
                found[f"golden/{number}"] = example.image
        if self.report is not None:
            found["report.html"] = self.report
        return found

    def blobs(self) -> list[Blob]:
        """Every blob this version needs, each once."""
        return list(dict.fromkeys(self.files().values()))


class Manifest(ManifestDraft):
    """A published version."""

    version: PositiveInt
