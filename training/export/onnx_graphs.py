"""ONNX files of the split towers or of the whole model. They are self-contained; equal weights give equal bytes.

The nodes mirror `training.model.towers`. They are written directly, because torch's exporter takes a hundred times as
long. The parity check compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from onnx import TensorProto
from safetensors.numpy import save
from torch import nn

from training.export.graph_layers import array, attention_pooling, encoder_layer, linear, norm
from training.export.graph_writer import GraphWriter, Port, Value
from training.model.classifier import MissingModalityClassifier
from training.model.towers import ImageTail, ImageTrunk, TextTail, TextTrunk, feature_size

# `image_trunk`, `image_tail`, `text_trunk` and `text_tail` as ONNX. Where weights are inputs of the tails, also
# `image_weights` and `text_weights`, these inputs as safetensors.
GraphFiles = dict[str, bytes]
WEIGHTS = {"image_tail": "image_weights", "text_tail": "text_weights"}
_INPUT_IDS = Port("input_ids", TensorProto.INT64, ["batch", "length"])
_LAST_TOKEN = Port("last_token", TensorProto.INT64, ["batch"])
_HIDES = np.finfo(np.float32).min  # added to the score of a token


def export_graphs(merged: MissingModalityClassifier) -> GraphFiles:
    """Export a model whose adapter has been merged."""
    pixels, (image, text) = _pixel_values(merged), _hidden(merged)
    image_trunk, text_trunk = GraphWriter(), GraphWriter()
    _image_trunk(image_trunk, merged.image_trunk, pixels.name)
    _text_trunk(text_trunk, merged.text_trunk, _INPUT_IDS.name)
    trunks = {"image_trunk": image_trunk.model([pixels], image), "text_trunk": text_trunk.model([_INPUT_IDS], text)}
    return trunks | export_tails(merged, ())


def export_tails(merged: MissingModalityClassifier, adapted: Collection[nn.Linear]) -> GraphFiles:
    """Export the tails alone.

    Args:
        adapted: projections whose weights are inputs of the tails. If a task's tails differ from those of another task
            in these weights only, both tasks have the same tails.
    """
    image, text = _hidden(merged)
    features: list[int | str] = ["batch", feature_size(merged.backbone)]
    image_tail, text_tail = GraphWriter(adapted), GraphWriter(adapted)
    _image_tail(image_tail, merged.image_tail, image.name)
    _text_tail(text_tail, merged.text_tail, text.name, _LAST_TOKEN.name)
    graphs = {
        "image_tail": image_tail.model([image], Port("image_features", TensorProto.FLOAT, features)),
        "text_tail": text_tail.model([text, _LAST_TOKEN], Port("text_features", TensorProto.FLOAT, features)),
    }
    weights = {WEIGHTS["image_tail"]: image_tail.weights, WEIGHTS["text_tail"]: text_tail.weights}
    return graphs | {name: save(arrays) for name, arrays in weights.items() if arrays}


def export_single_file(merged: MissingModalityClassifier) -> bytes:
    """Export both towers and the head as one file, which takes a white picture or an empty text for a missing input."""
    write, pixels = GraphWriter(), _pixel_values(merged)
    image = _image_tail(write, merged.image_tail, _image_trunk(write, merged.image_trunk, pixels.name))
    hidden = _text_trunk(write, merged.text_trunk, _INPUT_IDS.name)
    text = _text_tail(write, merged.text_tail, hidden, _LAST_TOKEN.name)
    linear(write, write("Concat", image, text, axis=-1), merged.head)
    logits = Port("logits", TensorProto.FLOAT, ["batch", merged.head.out_features])
    return write.model([pixels, _INPUT_IDS, _LAST_TOKEN], logits)


def _hidden(merged: MissingModalityClassifier) -> tuple[Port, Port]:
    """The outputs of the trunks, which are the inputs of the tails."""
    embeddings, text_width = merged.image_trunk.embeddings, merged.backbone.config.text_config.hidden_size
    image = Port("image_hidden", TensorProto.FLOAT, ["batch", embeddings.num_positions, embeddings.embed_dim])
    return image, Port("text_hidden", TensorProto.FLOAT, ["batch", "length", text_width])


def _pixel_values(merged: MissingModalityClassifier) -> Port:
    vision = merged.backbone.config.vision_config
    return Port("pixel_values", TensorProto.FLOAT, ["batch", vision.num_channels, vision.image_size, vision.image_size])


def _image_trunk(write: GraphWriter, trunk: ImageTrunk, pixel_values: Value) -> Value:
    embeddings, patches = trunk.embeddings, trunk.embeddings.patch_embedding
    weights = [array(weight) for weight in (patches.weight, patches.bias) if weight is not None]
    grid = write("Conv", pixel_values, *weights, strides=patches.stride)  # (B, Dv, S / patch, S / patch)
    hidden = write("Transpose", write("Reshape", grid, [0, 0, -1]), perm=[0, 2, 1])
    class_embedding = getattr(embeddings, "class_embedding", None)  # CLIP's
    if class_embedding is not None:
        shape = write("Concat", write("Shape", pixel_values, start=0, end=1), [1, 1], axis=0)
        hidden = write("Concat", write("Expand", array(class_embedding), shape), hidden, axis=1)
    hidden = write("Add", hidden, array(embeddings.position_embedding.weight))
    if class_embedding is not None:
        hidden = norm(write, hidden, trunk.norm)
    for layer in trunk.layers:
        hidden = encoder_layer(write, hidden, layer, None)
    return hidden


def _image_tail(write: GraphWriter, tail: ImageTail, hidden: Value) -> Value:
    if tail.attention_pooling is not None:
        for layer in tail.layers:
            hidden = encoder_layer(write, hidden, layer, None)
        pooled = attention_pooling(write, norm(write, hidden, tail.norm), tail.attention_pooling)
        return write("Squeeze", pooled, [1])
    pooled = _pooled_token(write, tail.layers, hidden, lambda tokens: write("Slice", tokens, [0], [1], [1]))
    return linear(write, norm(write, write("Squeeze", pooled, [1]), tail.norm), tail.projection)


def _text_trunk(write: GraphWriter, trunk: TextTrunk, input_ids: Value) -> Value:
    embeddings, length = trunk.embeddings, write("Shape", input_ids, start=1, end=2)
    positions = write("Slice", array(embeddings.position_embedding.weight), [0], length, [0])
    mask = _causal_mask(write, input_ids) if trunk.causal else None
    hidden = write("Add", write("Gather", array(embeddings.token_embedding.weight), input_ids), positions)
    for layer in trunk.layers:
        hidden = encoder_layer(write, hidden, layer, mask)
    return hidden


def _text_tail(write: GraphWriter, tail: TextTail, hidden: Value, last_token: Value) -> Value:
    mask = _causal_mask(write, hidden) if tail.causal else None
    token_mask = _causal_mask(write, hidden, write("Unsqueeze", last_token, [1, 2, 3])) if tail.causal else None
    index = write("Unsqueeze", last_token, [1, 2])  # (B, 1, 1)
    pooled = _pooled_token(
        write, tail.layers, hidden, lambda tokens: write("GatherND", tokens, index, batch_dims=1), mask, token_mask
    )
    return linear(write, norm(write, write("Squeeze", pooled, [1]), tail.norm), tail.projection)


def _pooled_token(
    write: GraphWriter,
    layers: nn.ModuleList,
    hidden: Value,
    token: Callable[[Value], Value],
    mask: Value | None = None,
    token_mask: Value | None = None,
) -> Value:
    """The token that `token` takes of each sequence, after the layers: (B, L, D) -> (B, 1, D).

    The last layer runs for this token alone (law 4).
    """
    if len(layers) == 0:
        return token(hidden)
    for layer in layers[:-1]:
        hidden = encoder_layer(write, hidden, layer, mask)
    return encoder_layer(write, hidden, layers[-1], token_mask, token)


def _causal_mask(write: GraphWriter, sequences: Value, seeing: Value | None = None) -> Value:
    """Additive mask: a token sees itself and earlier tokens.

    Args:
        sequences: (B, L) or (B, L, D).
        seeing: positions of the tokens, (B, 1, 1, 1), for a mask (B, 1, 1, L); None: all positions, (L, L).
    """
    length = write("Squeeze", write("Shape", sequences, start=1, end=2), [0])
    positions = write("Range", np.int64(0), length, np.int64(1))
    seeing = seeing or write("Unsqueeze", positions, [1])
    return write("Where", write("Greater", positions, seeing), _HIDES, np.float32(0))
