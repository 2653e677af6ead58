"""Initialise the image tower from a part of DINOv2, and the token embeddings from MiniLM."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from examples.openclipart.augmentation import CLIP_MEAN, CLIP_STD
from examples.openclipart.distillation import principal_axes
from examples.openclipart.teachers import IMAGENET_MEAN, IMAGENET_STD, embed_texts


@torch.no_grad()
def inherit_image_tower(model: CLIPModel, dino: nn.Module, layers: Sequence[int], pixels: Tensor) -> None:
    """Give the image tower some of DINOv2's layers, with the hidden units that matter most on sample pictures.

    Layer scales are merged into the weights, and patches shrink so that a picture and its enlargement are embedded
    alike (FlexiViT, arXiv 2212.08013, sec. 3.4).

    Args:
        layers: the number of a DINOv2 layer for each layer of the tower; widths must agree.
        pixels: sample pictures, normalised (B, 3, S, S).
    """
    vision = model.vision_model
    inherit_embeddings(vision.embeddings, dino.embeddings)
    embedded = vision.embeddings(pixels)
    vision.pre_layrnorm.weight.fill_(embedded.std(dim=-1, correction=0).mean())  # keep their usual size
    factor = dino.config.patch_size / vision.config.patch_size
    enlarged = nn.functional.interpolate(pixels, scale_factor=factor, mode="bicubic")
    energies = hidden_energies(dino, layers, enlarged)
    for ours, number in zip(vision.encoder.layers, layers, strict=True):
        inherit_layer(ours, dino.encoder.layer[number], energies[number])
    vision.post_layernorm.load_state_dict(dino.layernorm.state_dict())


def inherit_embeddings(ours: nn.Module, theirs: nn.Module) -> None:
    side = ours.patch_embedding.kernel_size[0]
    weight, bias = theirs.patch_embeddings.projection.weight, theirs.patch_embeddings.projection.bias
    # The pictures are normalised by CLIP's mean and deviation.
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    bias = bias + (weight * (CLIP_MEAN - mean) / std).sum(dim=(1, 2, 3))
    enlarge = resizing(side, weight.shape[-1])
    ours.patch_embedding.weight.copy_(enlarge.T @ (weight * CLIP_STD / std) @ enlarge)
    of_class, of_patches = theirs.position_embeddings[0, :1], theirs.position_embeddings[0, 1:]
    theirs_across, across = round(len(of_patches) ** 0.5), round((ours.num_positions - 1) ** 0.5)
    grid = of_patches.T.view(1, -1, theirs_across, theirs_across)
    grid = nn.functional.interpolate(grid, (across, across), mode="bicubic", antialias=True)
    ours.class_embedding.copy_(theirs.cls_token[0, 0])
    ours.position_embedding.weight.copy_(torch.cat([of_class, grid[0].flatten(1).T + bias]))


def resizing(before: int, after: int) -> Tensor:
    """The matrix (after, before) of bicubic interpolation along one side."""
    unit = torch.eye(before).view(1, 1, before, before)
    return nn.functional.interpolate(unit, (after, before), mode="bicubic")[0, 0]


def hidden_energies(dino: nn.Module, layers: Sequence[int], pixels: Tensor) -> dict[int, Tensor]:
    """Mean square of every hidden unit in the MLPs of some layers: layer number to (hidden,)."""
    energies: dict[int, Tensor] = {}

    def keep(number: int, hidden: Tensor) -> None:
        energies[number] = hidden.square().mean(dim=(0, 1))

    hooks = [
        dino.encoder.layer[number].mlp.fc2.register_forward_pre_hook(lambda _, inputs, n=number: keep(n, inputs[0]))
        for number in layers
    ]
    dino(pixels)
    for hook in hooks:
        hook.remove()
    return energies


def inherit_layer(ours: nn.Module, theirs: nn.Module, energies: Tensor) -> None:
    scale = theirs.layer_scale1.lambda1
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(ours.self_attn, name).load_state_dict(getattr(theirs.attention, name).state_dict())
    ours.self_attn.out_proj.weight.copy_(scale[:, None] * theirs.attention.o_proj.weight)
    ours.self_attn.out_proj.bias.copy_(scale * theirs.attention.o_proj.bias)
    ours.layer_norm1.load_state_dict(theirs.norm1.state_dict())
    ours.layer_norm2.load_state_dict(theirs.norm2.state_dict())
    scale = theirs.layer_scale2.lambda1
    written = scale[:, None] * theirs.mlp.fc2.weight  # (D, hidden)
    kept = (energies * written.square().sum(dim=0)).topk(ours.mlp.fc1.out_features).indices
    ours.mlp.fc1.weight.copy_(theirs.mlp.fc1.weight[kept])
    ours.mlp.fc1.bias.copy_(theirs.mlp.fc1.bias[kept])
    ours.mlp.fc2.weight.copy_(written[:, kept])
    ours.mlp.fc2.bias.copy_(scale * theirs.mlp.fc2.bias)


@torch.no_grad()
def inherit_vocabulary(model: CLIPModel, tokenizer: CLIPTokenizer, device: str = "cpu") -> None:
    """Initialise the token embeddings with the first axes of MiniLM's embeddings, so that similar pieces are close."""
    vocabulary = tokenizer.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    written = [tokenizer.convert_tokens_to_string([piece]).strip() or piece for piece in pieces]
    embeddings = torch.from_numpy(embed_texts(written, device)).float()
    centred = embeddings - embeddings.mean(0)
    table = model.text_model.embeddings.token_embedding.weight
    on_axes = centred @ principal_axes(centred, table.shape[1])
    table.copy_(on_axes * (table.std() / on_axes.std()))
