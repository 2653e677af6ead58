"""What training changed: the spectra of the adapted weights and of MoRA's Gram matrices, and the modality gap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from training.data.missing import Lacks
from training.learning.encoded_split import EncodedSplit
from training.model.mora import MoRAAdapter, MoRAWeight
from training.model.towers import Backbone

_LAYER_WEIGHT = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.weight")
_TOWERS = {"vision": "image", "text": "text"}
_MOST_ITEMS = 2000  # whose pairs are compared: each with each


def effective_rank(spectrum: Tensor) -> float:
    """exp of the entropy of singular values (n,) as shares of their sum (Roy and Vetterli 2007); 0 if all are 0."""
    total = spectrum.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(spectrum / total).sum().exp())


def changed_spectra(before: Backbone, after: Backbone) -> list[dict[str, Any]]:
    """The singular values of each matrix of the layers that differs between two backbones of one form.

    Returns:
        For each weight W0 -> W its `tower`, `layer` and `module`; the singular values `before` of W0, `after` of W and
        `change` of W - W0, largest first; the `effective_rank` of each; `relative_change`, |W - W0| / |W0| (Frobenius).
    """
    old, rows = dict(before.named_parameters()), []
    for name, weight in after.named_parameters():
        found = _LAYER_WEIGHT.fullmatch(name)
        if found is None or weight.dim() != 2 or torch.equal(weight.cpu(), old[name].cpu()):
            continue
        matrices = {"before": old[name].detach().cpu().double(), "after": weight.detach().cpu().double()}
        matrices["change"] = matrices["after"] - matrices["before"]
        spectra = {key: torch.linalg.svdvals(matrix) for key, matrix in matrices.items()}
        rows.append(
            {
                "tower": _TOWERS[found[1]],
                "layer": int(found[2]),
                "module": found[3].rsplit(".", 1)[-1],
                "relative_change": float(matrices["change"].norm() / matrices["before"].norm()),
                "effective_rank": {key: effective_rank(spectrum) for key, spectrum in spectra.items()},
                **{key: spectrum.tolist() for key, spectrum in spectra.items()},
            }
        )
    return rows


@torch.no_grad()
def gram_spectra(adapter: MoRAAdapter, first_layers: Mapping[str, int]) -> list[dict[str, Any]]:
    """The eigenvalues of the Gram matrix (r, r) that each tower receives from the other in each layer.

    Args:
        first_layers: the first adapted layer of each tower.

    Returns:
        For each tower and layer the `eigenvalues`, largest first, and their effective rank; of the matrix as the
        weights use it, so `identity`'s have a mean of one. Nothing if the towers are not coupled.
    """
    rows = []
    for tower, layers in (("image", adapter.image), ("text", adapter.text)):
        for number, weights in enumerate(layers, first_layers[tower]):
            weight = next(weights.children())  # the projections of a layer share their factors
            if not isinstance(weight, MoRAWeight) or weight.without in ("shared", "gram"):
                continue
            values = torch.linalg.eigvalsh(weight.gram().cpu().double()).flip(0).clamp(min=0)
            rows.append(
                {
                    "tower": tower,
                    "layer": number,
                    "eigenvalues": values.tolist(),
                    "effective_rank": effective_rank(values),
                }
            )
    return rows


def modality_gap(encoded: EncodedSplit) -> dict[str, float] | None:
    """How far apart the features of images and of texts are, over at most 2,000 items that have both; None without two.

    Features are scaled to norm one. `distance` is that of the two means (Liang et al. 2022, arXiv 2203.02053), `angle`
    the angle between them. `own_angle` is the mean angle between an item's image and its text, `other_angle` between an
    item's image and the text of another item. Angles are in degrees.
    """
    complete = torch.as_tensor(encoded.natural == Lacks.NOTHING).nonzero().flatten()
    complete = complete[torch.randperm(len(complete), generator=torch.Generator().manual_seed(0))[:_MOST_ITEMS]]
    count = len(complete)
    if count < 2:
        return None
    image, text = (normalize(features[complete].double(), dim=-1) for features in (encoded.image, encoded.text))
    image_mean, text_mean = image.mean(dim=0), text.mean(dim=0)
    angles = torch.rad2deg(torch.arccos((image @ text.T).clamp(-1, 1)))  # (n, n)
    cosine = torch.dot(normalize(image_mean, dim=0), normalize(text_mean, dim=0)).clamp(-1, 1)
    own = angles.diagonal()
    return {
        "items": count,
        "distance": float((image_mean - text_mean).norm()),
        "angle": float(torch.rad2deg(torch.arccos(cosine))),
        "own_angle": float(own.mean()),
        "other_angle": float((angles.sum() - own.sum()) / (count * (count - 1))),
    }
