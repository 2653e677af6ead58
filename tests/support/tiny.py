"""A store of tiny tasks on one backbone, made by hand, with a NumPy oracle of what they must answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from model_store import (
    Backbone,
    Blob,
    Calibration,
    GoldenExample,
    Graphs,
    ImagePreprocessing,
    Manifest,
    ManifestDraft,
    Padding,
    Pattern,
    Precision,
    Problem,
    Provenance,
    Store,
    TextPreprocessing,
    blob_of,
    publish,
)
from model_store.label_sets import ExpectedSets, LabelSets, quantiles

SIZE, WIDTH, FEATURES, MAX_TOKENS = 16, 6, 8, 10
WORDS = ["<unk>", "a", "red", "green", "apple", "square", "of", "picture"]
VOCABULARY = [*WORDS, "<s>", "</s>"]
START, END = VOCABULARY.index("<s>"), VOCABULARY.index("</s>")
LABELS = {"fruit": ("apple", "pear", "plum"), "tags": ("red", "round", "sweet", "cheap")}
EMBEDDING_SIZE = 5  # of the retrieval task `search`
THRESHOLDS = (0.35, 0.5, 0.45, 0.9)


def encode_png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PIXELS = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)  # as large as the tower takes
PICTURE = encode_png(PIXELS)

# By presence pattern: whether it has an image, and its text.
ITEMS = {"both": (True, "a red apple"), "image": (True, None), "text": (False, "green square")}


def body(picture: bytes, pattern: str, task: str, **more: object) -> dict:
    """A request for one item of a pattern."""
    has_image, text = ITEMS[pattern]
    image = {"image": base64.b64encode(picture).decode()} if has_image else {}
    return {"task": task, **image, **({"text": text} if text else {}), **more}


@dataclass(frozen=True)
class TinyTask:
    """A task with random weights: trunks by `backbone_seed`, everything else by `seed`.

    If `adapted`, the weights of its tails are inputs of them.
    """

    name: str = "fruit"
    seed: int = 1
    backbone_seed: int = 0
    padding: Padding | None = None
    adapted: bool = False

    @property
    def problem(self) -> Problem:
        return {"tags": Problem.MULTI_LABEL, "search": Problem.RETRIEVAL}.get(self.name, Problem.SINGLE_LABEL)

    @property
    def labels(self) -> tuple[str, ...]:
        return () if self.problem is Problem.RETRIEVAL else LABELS.get(self.name, LABELS["fruit"])

    def calibration(self, pattern: Pattern) -> Calibration:
        thresholds = THRESHOLDS if self.problem is Problem.MULTI_LABEL else None
        return Calibration(temperature={"both": 1.5, "image": 0.5, "text": 2.0}[pattern], thresholds=thresholds)

    def weights(self) -> dict[str, np.ndarray]:
        trunk, own = np.random.default_rng(self.backbone_seed), np.random.default_rng(self.seed)
        size = len(self.labels) or EMBEDDING_SIZE
        draw = {
            "image_trunk": trunk.normal(size=(SIZE * SIZE, WIDTH)) / SIZE,
            "text_trunk": trunk.normal(size=(len(VOCABULARY), WIDTH)),
            "image_tail": own.normal(size=(WIDTH, FEATURES)),
            "text_tail": own.normal(size=(WIDTH, FEATURES)),
            "absent_image": own.normal(size=FEATURES),
            "absent_text": own.normal(size=FEATURES),
        }
        for pattern in Pattern:
            draw[f"{pattern}.weight"] = own.normal(size=(size, 2 * FEATURES))
            draw[f"{pattern}.bias"] = own.normal(size=size)
        if self.problem is Problem.RETRIEVAL:
            draw |= {name: np.zeros(FEATURES) for name in ("absent_image", "absent_text")}
        return {name: array.astype(np.float32) for name, array in draw.items()}

    def features(self, pixels: np.ndarray | None, text: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Image and text features of a 16 x 16 picture and words of the vocabulary, or what stands in for them."""
        weights = self.weights()
        image, words = weights["absent_image"], weights["absent_text"]
        if pixels is not None:
            channels = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1).reshape(3, -1)
            image = np.tanh(channels @ weights["image_trunk"]).mean(0) @ weights["image_tail"]
        if text is not None:
            ids = [START, *(VOCABULARY.index(word) for word in text.split()), END]
            if self.padding is not None:
                ids += [self.padding.token] * (self.padding.length - len(ids))
            words = np.tanh(weights["text_trunk"][ids].cumsum(0))[-1] @ weights["text_tail"]
        return image, words

    def logits(self, pixels: np.ndarray | None, text: str | None) -> np.ndarray:
        """What the task must answer; of the retrieval task, a unit vector."""
        weights = self.weights()
        pattern = Pattern.TEXT if pixels is None else Pattern.IMAGE if text is None else Pattern.BOTH
        features = np.concatenate(self.features(pixels, text))
        logits = weights[f"{pattern}.weight"] @ features + weights[f"{pattern}.bias"]
        return logits / np.linalg.norm(logits) if self.problem is Problem.RETRIEVAL else logits

    def scores(self, pixels: np.ndarray | None, text: str | None) -> dict[str, float]:
        pattern = Pattern.TEXT if pixels is None else Pattern.IMAGE if text is None else Pattern.BOTH
        scaled = self.logits(pixels, text) / self.calibration(pattern).temperature
        if self.problem is Problem.MULTI_LABEL:
            values = 1 / (1 + np.exp(-scaled))
        else:
            values = np.exp(scaled) / np.exp(scaled).sum()
        return dict(zip(self.labels, values.tolist(), strict=True))

    def graphs(self) -> dict[str, bytes]:
        """The graphs and, if adapted, the weights of the tails, by their names in a manifest."""
        weights = self.weights()
        own = {name: {"weight": weights[f"{name}_tail"]} for name in ("image", "text")}
        more = {"weight": (TensorProto.FLOAT, [WIDTH, FEATURES])} if self.adapted else {}
        files = {f"{name}_weights": save(arrays) for name, arrays in own.items()} if self.adapted else {}
        constants = {name: {} if self.adapted else arrays for name, arrays in own.items()}
        hidden = {"image": ["B", 3, WIDTH], "text": ["B", "L", WIDTH]}
        pixels, ids = (TensorProto.FLOAT, ["B", 3, SIZE, SIZE]), (TensorProto.INT64, ["B", "L"])
        return files | {
            "image_trunk": graph(
                {"pixel_values": pixels},
                {"image_hidden": (TensorProto.FLOAT, hidden["image"])},
                [("Reshape", ["pixel_values", "shape"], {}), ("MatMul", [0, "weight"], {}), ("Tanh", [1], {})],
                {"shape": np.array([0, 3, SIZE * SIZE]), "weight": weights["image_trunk"]},
            ),
            "image_tail": graph(
                {"image_hidden": (TensorProto.FLOAT, hidden["image"]), **more},
                {"image_features": (TensorProto.FLOAT, ["B", FEATURES])},
                [("ReduceMean", ["image_hidden", "axis"], {"keepdims": 0}), ("MatMul", [0, "weight"], {})],
                {"axis": np.array([1]), **constants["image"]},
            ),
            "text_trunk": graph(
                {"input_ids": ids},
                {"text_hidden": (TensorProto.FLOAT, hidden["text"])},
                [("Gather", ["weight", "input_ids"], {}), ("CumSum", [0, "axis"], {}), ("Tanh", [1], {})],
                {"axis": np.array(1), "weight": weights["text_trunk"]},
            ),
            "text_tail": graph(
                {
                    "text_hidden": (TensorProto.FLOAT, hidden["text"]),
                    "last_token": (TensorProto.INT64, ["B"]),
                    **more,
                },
                {"text_features": (TensorProto.FLOAT, ["B", FEATURES])},
                [
                    ("Unsqueeze", ["last_token", "axis"], {}),
                    ("GatherND", ["text_hidden", 0], {"batch_dims": 1}),
                    ("MatMul", [1, "weight"], {}),
                ],
                {"axis": np.array([1]), **constants["text"]},
            ),
        }


def graph(
    inputs: dict[str, tuple[int, list]], outputs: dict[str, tuple[int, list]], steps: list, constants: dict
) -> bytes:
    """An ONNX model of `steps`, a chain in which an integer input is the number of an earlier step."""
    nodes = []
    for number, (kind, names, attributes) in enumerate(steps):
        output = next(iter(outputs)) if number == len(steps) - 1 else f"step{number}"
        names = [f"step{name}" if isinstance(name, int) else name for name in names]
        nodes.append(helper.make_node(kind, names, [output], **attributes))
    proto = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tokenizer_json() -> bytes:
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", END), ("<s>", START), add_prefix_space=False)
    return tokenizer.to_str().encode()


@dataclass(frozen=True)
class TinyDraft:
    """What a publisher of a tiny task holds; `replacing` damages it."""

    manifest: ManifestDraft
    blobs: dict[str, bytes]

    def replacing(self, **changes: object) -> TinyDraft:
        return replace(self, manifest=self.manifest.model_copy(update=changes))

    def replacing_graph(self, name: str, data: bytes) -> TinyDraft:
        graphs = self.manifest.graphs[Precision.FP32].model_copy(update={name: blob_of(data)})
        changed = self.replacing(graphs={Precision.FP32: graphs})
        return replace(changed, blobs={**self.blobs, blob_of(data).sha256: data})


def make_draft(task: TinyTask) -> TinyDraft:
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> Blob:
        name = blob_of(data)
        blobs[name.sha256] = data
        return name

    weights = task.weights()
    pixels = np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    text = "a red apple"

    def golden(pixels: np.ndarray | None, text: str | None) -> tuple[float, ...]:
        return tuple(float(logit) for logit in task.logits(pixels, text))

    manifest = ManifestDraft(
        task=task.name,
        problem=task.problem,
        labels=task.labels,
        embedding_size=EMBEDDING_SIZE if task.problem is Problem.RETRIEVAL else None,
        backbone=Backbone(
            name="tiny/clip",
            family="clip" if task.padding is None else "siglip",
            image_width=WIDTH,
            text_width=WIDTH,
            feature_size=FEATURES,
            image_layers=2,
            text_layers=2,
            image_first_tail_layer=1,
            text_first_tail_layer=1,
        ),
        image=ImagePreprocessing(
            shortest_edge=SIZE, crop=(SIZE, SIZE), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
        ),
        text=TextPreprocessing(tokenizer=blob(tokenizer_json()), max_length=MAX_TOKENS, padding=task.padding),
        graphs={
            Precision.FP32: Graphs(
                **{name: blob(data) for name, data in task.graphs().items()},
                max_logit_error=dict.fromkeys(Pattern, 1e-6),
            )
        },
        absent_features=blob(save({"image": weights["absent_image"], "text": weights["absent_text"]})),
        head=blob(save({name: weights[name] for name in weights if name.endswith((".weight", ".bias"))})),
        calibration={pattern: task.calibration(pattern) for pattern in Pattern},
        golden=(
            GoldenExample(pattern="both", image=blob(encode_png(pixels)), text=text, logits=golden(pixels, text)),
            GoldenExample(pattern="image", image=blob(encode_png(pixels)), logits=golden(pixels, None)),
            GoldenExample(pattern="text", text=text, logits=golden(None, text)),
        ),
        metrics={"test": {"overall": {"accuracy": 0.75, "ece": None}}},
        training_mix={Pattern.BOTH: 0.5, Pattern.IMAGE: 0.25, Pattern.TEXT: 0.25},
        provenance=Provenance(
            code_version="0.1.0",
            created_at=datetime(2026, 1, 2, tzinfo=UTC),
            seed=task.seed,
            dataset_fingerprint="a1b2",
            config={"train": {"epochs": 1}},
            packages={},
        ),
    )
    return TinyDraft(manifest, blobs)


def label_sets(**fields: Any) -> LabelSets:
    """Sets of 99 calibration items per pattern, whose true labels had evenly spread scores: coverages up to 0.99."""
    spread = quantiles(np.linspace(0.01, 0.99, 99))
    expected = dict.fromkeys(Pattern, ExpectedSets(size=1.5, review=0.25))
    return LabelSets(**{"by_pattern": dict.fromkeys(Pattern, spread), "expected": expected, **fields})


@dataclass(frozen=True)
class Shelf:
    """A store that tests publish tiny tasks to."""

    store: Store

    def draft(self, name: str = "fruit", seed: int = 1, **fields: Any) -> TinyDraft:
        return make_draft(TinyTask(name, seed, **fields))

    def publish(self, name: str = "fruit", seed: int = 1) -> Manifest:
        return self.publish_draft(self.draft(name, seed))

    def publish_with_label_sets(self, name: str = "fruit", **fields: Any) -> Manifest:
        return self.publish_draft(self.draft(name).replacing(label_sets=label_sets(**fields)))

    def publish_draft(self, draft: TinyDraft) -> Manifest:
        return publish(self.store, draft.manifest, draft.blobs)
