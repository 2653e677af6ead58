"""The layers of CLIP and SigLIP as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.export.graph_writer import GraphWriter, Value


def array(weight: Tensor) -> NDArray[Any]:
    """The values of a weight."""
    return weight.detach().numpy()


def linear(write: GraphWriter, hidden: Value, module: Any) -> Value:  # noqa: ANN401 - transformers has no types
    """A linear module."""
    weight = array(module.weight.T)
    return _affine(write, hidden, write.weight(weight) if module in write.adapted else weight, module.bias)


def _affine(write: GraphWriter, hidden: Value, weight: Value | NDArray[Any], bias: Tensor | None) -> Value:
    product = write("MatMul", hidden, weight)
    return product if bias is None else write("Add", product, array(bias))


def norm(write: GraphWriter, hidden: Value, module: Any) -> Value:  # noqa: ANN401
    """A layer norm over the width."""
    return write("LayerNormalization", hidden, array(module.weight), array(module.bias), epsilon=module.eps)


def encoder_layer(
    write: GraphWriter,
    hidden: Value,
    layer: Any,  # noqa: ANN401
    mask: Value | None,
    token: Callable[[Value], Value] = lambda hidden: hidden,
) -> Value:
    """A layer of an encoder, (B, L, D) -> (B, L, D).

    Args:
        mask: additive, (L, L) or, for one token, (B, 1, 1, L).
        token: takes one token of each sequence, (B, L, D) -> (B, 1, D), and the layer runs for it alone.
    """
    normed, attention = norm(write, hidden, layer.layer_norm1), layer.self_attn
    query, key, value = (
        linear(write, tokens, projection)
        for tokens, projection in (
            (token(normed), attention.q_proj),
            (normed, attention.k_proj),
            (normed, attention.v_proj),
        )
    )
    attended = _attend(write, query, key, value, attention, mask)
    hidden = write("Add", token(hidden), linear(write, attended, attention.out_proj))
    return write("Add", hidden, _mlp(write, norm(write, hidden, layer.layer_norm2), layer.mlp))


def attention_pooling(write: GraphWriter, hidden: Value, head: Any) -> Value:  # noqa: ANN401
    """SigLIP's pooling of image tokens by a learned query, (B, N, D) -> (B, 1, D)."""
    attention = head.attention
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    query = array(functional.linear(head.probe, weights[0], biases[0]))  # (1, 1, D), the same for every image
    key, value = (
        _affine(write, hidden, array(weight.T), bias) for weight, bias in zip(weights[1:], biases[1:], strict=True)
    )
    attended = _attend(write, query, key, value, attention, None)
    pooled = linear(write, attended, attention.out_proj)
    return write("Add", pooled, _mlp(write, norm(write, pooled, head.layernorm), head.mlp))


def _attend(
    write: GraphWriter,
    query: Value | NDArray[Any],
    key: Value,
    value: Value,
    attention: Any,  # noqa: ANN401 - transformers' module or torch's
    mask: Value | None,
) -> Value:
    """Attention with several heads, query (B or 1, Q, D), key and value (B, L, D) -> (B, Q, D)."""
    shape = [0, 0, attention.num_heads, attention.head_dim]
    query, key, value = (write("Reshape", tokens, shape) for tokens in (query, key, value))
    query, value = (write("Transpose", tokens, perm=[0, 2, 1, 3]) for tokens in (query, value))  # (B, H, L, D / H)
    query = write("Mul", query, np.float32(attention.head_dim**-0.5))
    scores = write("MatMul", query, write("Transpose", key, perm=[0, 2, 3, 1]))  # (B, H, Q, L)
    scores = scores if mask is None else write("Add", scores, mask)
    attended = write("MatMul", write("Softmax", scores, axis=-1), value)
    return write("Reshape", write("Transpose", attended, perm=[0, 2, 1, 3]), [0, 0, -1])


def _mlp(write: GraphWriter, hidden: Value, mlp: Any) -> Value:  # noqa: ANN401
    hidden = linear(write, hidden, mlp.fc1)
    return linear(write, _activation(write, hidden, mlp.config.hidden_act), mlp.fc2)


def _activation(write: GraphWriter, hidden: Value, name: str) -> Value:
    """One of `training.model.backbone_files.ACTIVATIONS`."""
    if name == "quick_gelu":
        return write("Mul", hidden, write("Sigmoid", write("Mul", hidden, np.float32(1.702))))
    return write("Gelu", hidden, approximate="none" if name == "gelu" else "tanh")  # the others are one formula
