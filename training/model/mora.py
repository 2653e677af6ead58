"""MoRA (arXiv 2511.06225) as a weight parametrization of frozen attention projections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from training.config import MoRAConfig
from training.errors import BackboneError


def column_norm(weight: Tensor) -> Tensor:
    """L2 norm of each input column of a weight (out, in): (1, in)."""
    return torch.linalg.norm(weight, dim=0, keepdim=True)  # type: ignore[no-any-return]


def column_direction(weight: Tensor) -> Tensor:
    """The weight with every input column scaled to norm one."""
    return weight / column_norm(weight)


class SharedFactors(nn.Module):
    """The factors that couple the two towers in one layer, both drawn from N(0, 1/r).

    Shapes:
        text: A (d_text, r); image: B (d_image, r).
    """

    def __init__(self, text_width: int, image_width: int, rank: int) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.randn(text_width, rank) * rank**-0.5)
        self.image = nn.Parameter(torch.randn(image_width, rank) * rank**-0.5)


class MoRAWeight(nn.Module):
    """Parametrization W0 -> W of one projection, as the authors' code has it (METHOD: "What MoRA is").

        W = m_s dir(W0 + D_s) + m_p dir(W0 + D_p),  D_s = a S (O^T O) S^T,  D_p = a (P Q)^T

    S is the tower's own shared factor, O the other tower's. Only the r x r Gram matrix of O enters, so the widths may
    differ. m_s and m_p start at the column norms of W0. For ablations `without` leaves out the shared term, the
    specific term, or the Gram matrix (D_s = a S S^T, without any coupling to the other tower).

    Shapes:
        W0, W: (d, d); S: (d, r); O: (d_other, r); P: (d, r); Q: (r, d); m_s, m_p: (1, d).
    """

    def __init__(self, w0: Tensor, factors: SharedFactors, tower: str, config: MoRAConfig) -> None:
        super().__init__()
        width, rank = w0.shape[0], config.rank
        self.tower = tower
        self.scale = config.scale
        self.without = config.without
        if config.without != "shared":
            self.factors = factors
            self.shared_magnitude = nn.Parameter(column_norm(w0))
        if config.without != "specific":
            self.p = nn.Parameter(torch.randn(width, rank) * rank**-0.5)
            self.q = nn.Parameter(torch.zeros(rank, width))
            self.specific_magnitude = nn.Parameter(column_norm(w0))

    def own_and_other(self) -> tuple[Tensor, Tensor]:
        """The shared factor of this tower and that of its partner."""
        own, other = (self.factors.image, self.factors.text)
        return (own, other) if self.tower == "image" else (other, own)

    def gram(self) -> Tensor:
        """O^T O (r, r), the coupling to the other tower."""
        _, other = self.own_and_other()
        return torch.eye(other.shape[1], device=other.device) if self.without == "gram" else other.T @ other

    def shared_update(self) -> Tensor:
        """D_s (d, d)."""
        own, _ = self.own_and_other()
        return self.scale * own @ self.gram() @ own.T

    def specific_update(self) -> Tensor:
        """D_p (d, d)."""
        return self.scale * (self.p @ self.q).T

    def terms(self, w0: Tensor) -> list[Tensor]:
        """m_s dir(W0 + D_s) and m_p dir(W0 + D_p), or the one that the ablation leaves."""
        terms = []
        if self.without != "shared":
            terms.append(self.shared_magnitude * column_direction(w0 + self.shared_update()))
        if self.without != "specific":
            terms.append(self.specific_magnitude * column_direction(w0 + self.specific_update()))
        return terms

    def forward(self, w0: Tensor) -> Tensor:
        return torch.stack(self.terms(w0)).sum(dim=0)


class IdentityMoRAWeight(MoRAWeight):
    """MoRA that starts at exactly W0: the mean of the terms, and a gate g = 0 on the shared update.

        W = (m_s dir(W0 + D_s) + m_p dir(W0 + D_p)) / 2,  D_s = g a S G S^T,  G = O^T O r / tr(O^T O)

    Official MoRA starts at m_s dir(W0 + noise) + W0. Here D_s = D_p = 0 at first. The gate multiplies a product that is
    not zero, so its gradient is not zero. The normalised Gram has mean eigenvalue one for all widths.
    """

    def __init__(self, w0: Tensor, factors: SharedFactors, tower: str, config: MoRAConfig) -> None:
        super().__init__(w0, factors, tower, config)
        if config.without != "shared":
            self.gate = nn.Parameter(torch.zeros(()))

    def gram(self) -> Tensor:
        gram = super().gram()
        return gram * (gram.shape[0] / gram.trace())

    def shared_update(self) -> Tensor:
        return self.gate * super().shared_update()

    def forward(self, w0: Tensor) -> Tensor:
        return torch.stack(self.terms(w0)).mean(dim=0)


class MoRAAdapter(nn.Module):
    """Every trained part of MoRA: shared factors a layer, one parametrization a projection.

    The modules are also registered as parametrizations of the projections they adapt. So the towers' own code computes
    with the adapted weights, and `remove_parametrizations` of PyTorch merges them.

    Args:
        image_layers, text_layers: the attention blocks to adapt, paired from the last layer backwards.
    """

    def __init__(self, image_layers: list[nn.Module], text_layers: list[nn.Module], config: MoRAConfig) -> None:
        super().__init__()
        weight = IdentityMoRAWeight if config.parametrization == "identity" else MoRAWeight
        self.shared = nn.ModuleList()
        self.image = nn.ModuleList()
        self.text = nn.ModuleList()
        self._adapted: list[nn.Linear] = []
        self._hooks: list[Any] = []
        for image_layer, text_layer in zip(image_layers, text_layers, strict=True):
            pair = {"image": projections(image_layer, config), "text": projections(text_layer, config)}
            widths = {tower: next(iter(named.values())).in_features for tower, named in pair.items()}
            factors = SharedFactors(widths["text"], widths["image"], config.rank)
            if config.without != "shared":
                self.shared.append(factors)
            for tower, named in pair.items():
                weights = nn.ModuleDict({n: weight(p.weight.data, factors, tower, config) for n, p in named.items()})
                getattr(self, tower).append(weights)
                for name, projection in named.items():
                    self._attach(projection, weights[name], config.dropout)

    def _attach(self, projection: nn.Linear, weight: nn.Module, dropout: float) -> None:
        parametrize.register_parametrization(projection, "weight", weight)
        self._adapted.append(projection)
        drop = nn.Dropout(dropout)
        weight.dropout = drop  # so that it follows the model's train() and eval()
        self._hooks.append(projection.register_forward_pre_hook(lambda _, inputs: (drop(inputs[0]),)))

    def merge(self) -> None:
        """Write the adapted weights into the projections and remove the adapter."""
        for projection in self._adapted:
            parametrize.remove_parametrizations(projection, "weight", leave_parametrized=True)
        for hook in self._hooks:
            hook.remove()
        self._adapted, self._hooks = [], []


def projections(layer: nn.Module, config: MoRAConfig) -> dict[str, nn.Linear]:
    """The target modules of one layer by name. Raises BackboneError when one is missing or not square."""
    linears = {path.split(".")[-1]: module for path, module in layer.named_modules() if isinstance(module, nn.Linear)}
    missing = ", ".join(name for name in config.target_modules if name not in linears)
    if missing:
        raise BackboneError(f"mora.target_modules: the backbone has no {missing}; it has {', '.join(sorted(linears))}")
    targets = {name: projection for name, projection in linears.items() if name in config.target_modules}
    for name, projection in targets.items():
        if projection.in_features != projection.out_features:
            raise BackboneError(f"mora.target_modules: {name} is not square; MoRA adapts attention projections only")
    return targets
