"""MoRA (arXiv 2511.06225) as a weight parametrization of the frozen linear modules of a layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from training.config import MoRAConfig
from training.errors import BackboneError


def column_norm(weight: Tensor) -> Tensor:
    """L2 norm of each input column of a weight (out, in): (1, in)."""
    return torch.linalg.norm(weight, dim=0, keepdim=True)  # type: ignore[no-any-return]


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
    """Parametrization W0 -> W of one projection, as in the authors' code (METHOD: "What MoRA is").

        W = m_s dir(W0 + D_s) + m_p dir(W0 + D_p),  D_s = a S_out (O^T O) S_in^T,  D_p = a (P Q)^T

    dir scales each column to norm one. O (`other`) is the other tower's shared factor. It has an effect through its
    r x r Gram matrix only, so the towers may have different widths. S_out and S_in are the tower's own factors. Of an
    attention projection, which is square, both are the shared factor S (`own`), as in the authors' code. Of an MLP's
    weight, the side of the tower's width has S, and the inner side a factor of this weight alone (`inner`), drawn
    from N(0, 1/r) too. m_s and m_p start at the column norms of W0. For ablations `without` leaves out the shared
    term, the specific term, or the Gram matrix (D_s = a S_out S_in^T, which does not couple the towers).

    Shapes:
        W0, W: (out, in), each the tower's width d or the inner width of its MLP; S: (d, r); O: (d_other, r);
        S_out: (out, r); S_in: (in, r); P: (in, r); Q: (r, out); m_s, m_p: (1, in).
    """

    def __init__(self, w0: Tensor, own: Tensor, other: Tensor, config: MoRAConfig) -> None:
        super().__init__()
        (outputs, inputs), rank = w0.shape, config.rank
        self.scale = config.scale
        self.without = config.without
        if config.without != "shared":
            self.own, self.other = own, other
            self.inner_side = None if outputs == inputs else "in" if outputs == len(own) else "out"
            if self.inner_side is not None:
                inner = inputs if self.inner_side == "in" else outputs
                self.inner = nn.Parameter(torch.randn(inner, rank) * rank**-0.5)
            self.shared_magnitude = nn.Parameter(column_norm(w0))
        if config.without != "specific":
            self.p = nn.Parameter(torch.randn(inputs, rank) * rank**-0.5)
            self.q = nn.Parameter(torch.zeros(rank, outputs))
            self.specific_magnitude = nn.Parameter(column_norm(w0))

    def gram(self) -> Tensor:
        """O^T O (r, r), the coupling to the other tower."""
        if self.without == "gram":
            return torch.eye(self.own.shape[1], device=self.own.device)
        return self.other.T @ self.other

    def shared_update(self) -> Tensor:
        """D_s (out, in)."""
        s_out, s_in = (self.inner if side == self.inner_side else self.own for side in ("out", "in"))
        return self.scale * s_out @ self.gram() @ s_in.T

    def specific_update(self) -> Tensor:
        """D_p (out, in)."""
        return self.scale * (self.p @ self.q).T

    def terms(self, w0: Tensor) -> list[Tensor]:
        """m_s dir(W0 + D_s) and m_p dir(W0 + D_p), or the one that the ablation leaves."""
        terms = []
        if self.without != "shared":
            terms.append(self.shared_magnitude * normalize(w0 + self.shared_update(), dim=0))
        if self.without != "specific":
            terms.append(self.specific_magnitude * normalize(w0 + self.specific_update(), dim=0))
        return terms

    def forward(self, w0: Tensor) -> Tensor:
        return torch.stack(self.terms(w0)).sum(dim=0)


class IdentityMoRAWeight(MoRAWeight):
    """MoRA that starts at exactly W0: it has the mean of the terms, and a gate g on the shared update, at first 0.

        W = (m_s dir(W0 + D_s) + m_p dir(W0 + D_p)) / 2,  D_s = g a S_out G S_in^T
        G = O^T O r / tr(O^T O)

    Official MoRA starts at m_s dir(W0 + noise) + W0. Here D_s = D_p = 0 at first. The gate multiplies a product that is
    not zero, so its gradient is not zero. The normalised Gram has mean eigenvalue one for all widths.
    """

    def __init__(self, w0: Tensor, own: Tensor, other: Tensor, config: MoRAConfig) -> None:
        super().__init__(w0, own, other, config)
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
    """Every trained part of MoRA: shared factors for each layer, and a parametrization for each projection.

    The modules are also registered as parametrizations of the projections they adapt. So the towers' own code computes
    with the adapted weights, and `remove_parametrizations` of PyTorch merges them.

    Args:
        image_layers, text_layers: the layers to adapt, paired from the last layer backwards.
    """

    def __init__(self, image_layers: list[nn.Module], text_layers: list[nn.Module], config: MoRAConfig) -> None:
        super().__init__()
        self.shared = nn.ModuleList()
        self.image = nn.ModuleList()
        self.text = nn.ModuleList()
        self._adapted: list[tuple[nn.Linear, RemovableHandle]] = []
        for image_layer, text_layer in zip(image_layers, text_layers, strict=True):
            image, text = projections(image_layer, config), projections(text_layer, config)
            text_width, image_width = (cast(int, layer.embed_dim) for layer in (text_layer, image_layer))
            factors = SharedFactors(text_width, image_width, config.rank)
            if config.without != "shared":
                self.shared.append(factors)
            self.image.append(self._adapt(image, factors.image, factors.text, config))
            self.text.append(self._adapt(text, factors.text, factors.image, config))

    def _adapt(self, targets: dict[str, nn.Linear], own: Tensor, other: Tensor, config: MoRAConfig) -> nn.ModuleDict:
        """Register a parametrization and dropout on each projection; returns the parametrizations by name."""
        kind = IdentityMoRAWeight if config.parametrization == "identity" else MoRAWeight
        weights = nn.ModuleDict({name: kind(layer.weight.data, own, other, config) for name, layer in targets.items()})
        for name, projection in targets.items():
            parametrize.register_parametrization(projection, "weight", weights[name])
            dropout = weights[name].dropout = nn.Dropout(config.dropout)  # so that train() and eval() reach it
            hook = projection.register_forward_pre_hook(lambda _, inputs, dropout=dropout: (dropout(inputs[0]),))
            self._adapted.append((projection, hook))
        return weights

    def merge(self) -> frozenset[nn.Linear]:
        """Write the adapted weights into the projections and remove the adapter. Returns the projections."""
        for projection, dropout_hook in self._adapted:
            parametrize.remove_parametrizations(projection, "weight", leave_parametrized=True)
            dropout_hook.remove()
        merged = frozenset(projection for projection, _ in self._adapted)
        self._adapted.clear()
        return merged


def projections(layer: nn.Module, config: MoRAConfig) -> dict[str, nn.Linear]:
    """The target modules of one layer by name. Raises BackboneError when one is missing."""
    linears = {path.split(".")[-1]: module for path, module in layer.named_modules() if isinstance(module, nn.Linear)}
    missing = ", ".join(name for name in config.target_modules if name not in linears)
    if missing:
        raise BackboneError(f"mora.target_modules: the backbone has no {missing}; it has {', '.join(sorted(linears))}")
    return {name: projection for name, projection in linears.items() if name in config.target_modules}
