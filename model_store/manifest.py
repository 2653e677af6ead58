"""The manifest: the description of one published version of a task. A service reads nothing else about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, PositiveInt, model_validator

from model_store.label_sets import LabelSets

TASK_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
TaskName = Annotated[str, Field(pattern=TASK_NAME)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=1_000)]
Pixels = Annotated[int, Field(ge=1, le=4_096)]  # of an edge
Mean = Annotated[float, Field(ge=0, le=1)]  # of pixels in 0..1
Deviation = Annotated[float, Field(ge=1e-3, le=1e3)]
TextLength = Annotated[int, Field(ge=2, le=8_192)]  # tokens
LogitError = Annotated[float, Field(ge=0, le=10)]  # with a larger one, golden examples would accept any answer
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Pattern(StrEnum):
    """Presence pattern: which modalities an item has."""

    BOTH = "both"
    IMAGE = "image"
    TEXT = "text"


class Problem(StrEnum):
    """The kind of task: an item has exactly one label, or any number of labels, or it is to be found by a query."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    RETRIEVAL = "retrieval"


class Precision(StrEnum):
    """Numeric precision of a set of graphs. bf16 are the fp32 graphs, computed in bf16."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    FP16 = "fp16"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blob(_Frozen):
    """An immutable file of the store, named by its digest."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: PositiveInt  # bytes


class Backbone(_Frozen):
    """The frozen two-tower model of a task, and the layer at which each tower is split into trunk and tail."""

    name: str
    family: Literal["clip", "siglip"]
    image_width: Width
    text_width: Width
    feature_size: Width  # P: both towers project to it
    image_layers: Layers
    text_layers: Layers
    image_first_tail_layer: Count
    text_first_tail_layer: Count

    @model_validator(mode="after")
    def _is_split_within_its_layers(self) -> Backbone:
        if self.image_first_tail_layer > self.image_layers or self.text_first_tail_layer > self.text_layers:
            raise ValueError("the first layer of a tail is beyond the layers of its tower")
        return self


class ImagePreprocessing(_Frozen):
    """The steps from a picture to `pixel_values`: RGB over white, resize, centre crop, scale to 0..1, normalise."""

    shortest_edge: Pixels | None = None  # resize to this length and keep the aspect ratio
    exact_size: tuple[Pixels, Pixels] | None = None  # or (height, width), whatever the aspect ratio
    crop: tuple[Pixels, Pixels] | None = None  # (height, width)
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]

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
    """Tokens that are added after the end of a text, for a text tower that is not causal and was pretrained so."""

    length: TextLength  # of every padded text
    token: Annotated[int, Field(ge=0, lt=2**31)]


class TextPreprocessing(_Frozen):
    """The steps from a text to `input_ids`: a `tokenizers` JSON file, truncation at `max_length`, optional padding."""

    tokenizer: Blob
    max_length: TextLength  # start and end tokens included
    padding: Padding | None = None  # None for a causal tower: padding would not change its output

    @model_validator(mode="after")
    def _is_padded_to_its_length(self) -> TextPreprocessing:
        if self.padding is not None and self.padding.length != self.max_length:
            raise ValueError("padding.length must be max_length")
        return self


class PrecisionEffect(_Frozen):
    """The effect of a precision on the answers to items of one presence pattern, compared with fp32.

    `expected_loss` is the expected loss of accuracy (multi-label: of the items' F1) in points, and
    `expected_loss_interval` its 95 % interval.
    """

    items: PositiveInt
    changed_answers: Count  # items whose label, or set of labels, is another one
    mean_logit_error: Annotated[FiniteFloat, Field(ge=0)]
    expected_loss: Annotated[float, Field(ge=0, le=100)]
    expected_loss_interval: tuple[FiniteFloat, FiniteFloat]


class Graphs(_Frozen):
    """The four ONNX graphs of one precision, and their errors as measured at export.

    The weights that a task adapts may be inputs of its tails, after the others. Tasks on one backbone then have the
    same tails. `image_weights` and `text_weights` are safetensors with the values of these inputs by name.

    `max_logit_error` is the largest difference of a logit. fp32 is compared with PyTorch, other precisions with fp32.
    `metric_change` is the change of the accuracy (multi-label: of the mean F1 of an item's labels) from fp32 to this
    precision. It is in points: -0.5 means that the accuracy fell from 80.0 % to 79.5 %. Versions of schema 1 have the
    change of the metric that selected the best epoch.
    """

    image_trunk: Blob
    image_tail: Blob
    text_trunk: Blob
    text_tail: Blob
    image_weights: Blob | None = None
    text_weights: Blob | None = None
    max_logit_error: dict[Pattern, LogitError]
    metric_change: dict[Pattern, FiniteFloat] = {}
    effects: dict[Pattern, PrecisionEffect] = {}  # of the patterns that items of the data can have
    fixed_scales: bool = False  # of int8; without, an answer depends on the other inputs of its batch

    def blobs(self) -> dict[str, Blob]:
        """The graphs and the weights by name: `image_trunk`, `image_tail`, `text_trunk`, `text_tail` and others."""
        return {name: value for name, value in self if isinstance(value, Blob)}

    def largest_error(self) -> float | None:
        """The maximum of `max_logit_error` over the presence patterns, or None if none was measured."""
        return max(self.max_logit_error.values(), default=None)


class Calibration(_Frozen):
    """The scores of one presence pattern are the softmax or sigmoid of `logits / temperature`.

    A multi-label task has one threshold for each label. A single-label task has no thresholds.
    """

    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    thresholds: tuple[Share, ...] | None = None  # a label is selected from this score on


class GoldenExample(_Frozen):
    """One input with PyTorch's logits. A service answers with the version only if it reproduces them.

    The logits of a retrieval task are the unit vector of the item.
    """

    pattern: Pattern
    image: Blob | None = None  # an encoded picture
    text: str | None = None
    logits: tuple[FiniteFloat, ...]


class Provenance(_Frozen):
    """The code, data and settings from which this version was made, so that it can be made again."""

    code_version: str
    created_at: datetime
    seed: int
    dataset_fingerprint: str
    config: dict[str, JsonValue]
    packages: dict[str, str]


class ManifestDraft(_Frozen):
    """A manifest without a version number, which the store assigns.

    Schema 2 adds `test_scores`, `label_sets` and `embedding_size`, the problem `retrieval`, and to `Graphs` `effects`,
    `fixed_scales`, `image_weights` and `text_weights`. A release that knows only schema 1 refuses it.

    A retrieval task has no labels. Its head gives the vector `W_image f_image + W_text f_text + b` of `embedding_size`
    numbers, which is scaled to length 1. The features of an absent modality are zeros.
    """

    schema_version: Literal[1, 2] = 2
    task: TaskName
    problem: Problem
    labels: tuple[str, ...]  # of a retrieval task none
    embedding_size: Width | None = None  # D, of a retrieval task only
    backbone: Backbone
    image: ImagePreprocessing
    text: TextPreprocessing
    graphs: dict[Precision, Graphs]
    absent_features: Blob  # safetensors: `image` (P,) and `text` (P,), a tower's features of a missing input
    head: Blob  # safetensors: `<pattern>.weight` (C, 2P: image then text) and `<pattern>.bias` (C,); D in place of C
    calibration: dict[Pattern, Calibration]
    label_sets: LabelSets | None = None  # None: the version answers no `coverage`
    golden: Annotated[tuple[GoldenExample, ...], Field(min_length=3, max_length=100)]
    golden_tolerance: Annotated[float, Field(gt=0, le=1)] = 1e-3
    metrics: dict[str, dict[str, dict[str, FiniteFloat | None]]] = {}  # split -> "overall" or pattern -> metric
    intervals: dict[str, dict[str, dict[str, tuple[FiniteFloat, FiniteFloat]]]] = {}  # of 95 %, as `metrics`
    training_mix: dict[Pattern, Share]  # share of the training items
    report: Blob | None = None  # HTML: how the version was trained, and its scores
    test_scores: Blob | None = None  # JSON, `ItemScores`: how right each answer to the test items is
    provenance: Provenance

    @model_validator(mode="after")
    def _is_complete(self) -> ManifestDraft:
        patterns, classes, is_retrieval = set(Pattern), len(self.labels), self.problem is Problem.RETRIEVAL
        if len(set(self.labels)) != classes:
            raise ValueError("labels repeat")
        if is_retrieval != (classes == 0) or is_retrieval != (self.embedding_size is not None):
            raise ValueError("a retrieval task has an embedding_size and no labels, any other task labels alone")
        if is_retrieval and self.label_sets is not None:
            raise ValueError("a retrieval task has no label_sets")
        if Precision.FP32 not in self.graphs:
            raise ValueError("graphs need the precision fp32")
        bf16 = self.graphs.get(Precision.BF16)
        if bf16 is not None and bf16.blobs() != self.graphs[Precision.FP32].blobs():
            raise ValueError("bf16 has graphs of its own, but it is a way to compute the fp32 graphs")
        if set(self.calibration) != patterns or {example.pattern for example in self.golden} != patterns:
            raise ValueError("calibration and golden examples must cover both, image and text")
        for calibration in self.calibration.values():
            expected = classes if self.problem is Problem.MULTI_LABEL else None
            if (calibration.thresholds and len(calibration.thresholds)) != expected:
                raise ValueError("a multi-label task needs one threshold for each label, any other task none")
        if self.label_sets is not None:
            unknown = self.label_sets.by_pattern.keys() - patterns
            if unknown or any(len(labels) != classes for labels in self.label_sets.by_class.values()):
                raise ValueError("label_sets need quantiles by presence pattern, and by class for each label")
        if any(len(example.logits) != self.head_size for example in self.golden):
            raise ValueError("a golden example needs one logit for each label, or as many as embedding_size")
        return self

    @property
    def head_size(self) -> int:
        """The length of the head's output: the number of labels, or the embedding size of a retrieval task."""
        return len(self.labels) if self.embedding_size is None else self.embedding_size

    @property
    def shows_examples(self) -> bool:
        """Whether the golden examples may be shown: they are items of the data unless `publish.examples` was false."""
        publish = self.provenance.config.get("publish")
        return not isinstance(publish, dict) or publish.get("examples") is not False

    def tolerance(self, precision: Precision) -> float:
        """The largest accepted difference between the logits of a golden example and PyTorch's.

        For int8 it is at least twice the largest error measured at export, because the kernels of other processors
        round differently. For fp16 it is at least four times that error: the export measures it on a CPU, which
        multiplies in fp32, and on a GPU it was up to three times as large (benchmarks/results/gpu.md).
        """
        if precision is Precision.FP32:
            return self.golden_tolerance
        factor = 4 if precision is Precision.FP16 else 2
        return max(self.golden_tolerance, factor * (self.graphs[precision].largest_error() or 0.0))

    def files(self) -> dict[str, Blob]:
        """Every blob of this version by file name, such as `fp32/image_trunk.onnx`. A blob may have several names."""
        files = {
            "tokenizer.json": self.text.tokenizer,
            "absent_features.safetensors": self.absent_features,
            "head.safetensors": self.head,
        }
        for precision, graphs in self.graphs.items():
            if precision is Precision.BF16:  # computed from the files of fp32
                continue
            for name, blob in graphs.blobs().items():
                files[f"{precision}/{name}.{'safetensors' if name.endswith('weights') else 'onnx'}"] = blob
        for number, example in enumerate(self.golden):
            if example.image is not None:
                files[f"golden/{number}"] = example.image
        if self.report is not None:
            files["report.html"] = self.report
        if self.test_scores is not None:
            files["test_scores.json"] = self.test_scores
        return files

    def blobs(self) -> list[Blob]:
        """Every blob of this version, without duplicates."""
        return list(dict.fromkeys(self.files().values()))


class Manifest(ManifestDraft):
    """A published version."""

    version: PositiveInt
