"""A split as both towers encode it, from which a linear head answers under any missing table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from model_store import Pattern
from training.data.examples import Example
from training.data.missing import PATTERN_OF, Lacks, Table, natural_table
from training.data.splits import Split, TaskData
from training.errors import DivergedError, first_few
from training.learning.batches import Collator
from training.learning.calibration import Answers
from training.model.classifier import MissingModalityClassifier

SCORED = ("validation", "test")
_LACKS = {pattern: lacks for lacks, pattern in PATTERN_OF.items()}


@dataclass(frozen=True)
class EncodedSplit:
    """Both towers' features of every item, from which a head answers under any missing table.

    Shapes:
        image, text: (N, P), of the absent input where an item lacks it; absent_image, absent_text: (P,).
        targets: (N,) class indices, or (N, C) of 0 and 1; of a retrieval task content numbers (N,).
    """

    image: Tensor
    text: Tensor
    absent_image: Tensor
    absent_text: Tensor
    targets: Tensor
    natural: Table

    def features(self, table: Table) -> Tensor:
        """(N, 2P), image then text, without the modalities that the missing table takes away."""
        lacks = torch.as_tensor(np.asarray(table, dtype=np.int64)).unsqueeze(1)  # (N, 1)
        image = torch.where(lacks == Lacks.IMAGE, self.absent_image, self.image)
        text = torch.where(lacks == Lacks.TEXT, self.absent_text, self.text)
        return torch.cat([image, text], dim=-1)

    @torch.no_grad()
    def logits(self, head: nn.Linear, table: Table) -> Tensor:
        """(N, C) without the modalities that the missing table takes away."""
        return head(self.features(table))  # type: ignore[no-any-return]

    def rows(self, chosen: slice) -> EncodedSplit:
        """A part of the items."""
        columns = {name: getattr(self, name)[chosen] for name in ("image", "text", "targets", "natural")}
        return replace(self, **columns)

    def under(self, pattern: Pattern) -> tuple[Table, NDArray[np.bool_]]:
        """The missing table that gives every item this pattern, and a mask (N,) of the items that allow it."""
        has_image, has_text = self.natural != Lacks.IMAGE, self.natural != Lacks.TEXT
        chosen = {Pattern.BOTH: has_image & has_text, Pattern.IMAGE: has_image, Pattern.TEXT: has_text}[pattern]
        return np.full_like(self.natural, _LACKS[pattern]), chosen

    def of_pattern(self, head: nn.Linear, pattern: Pattern) -> Answers:
        """Answers to the items that allow the pattern, without their other modality."""
        table, chosen = self.under(pattern)
        return Answers(self.logits(head, table)[chosen], self.targets[chosen], torch.from_numpy(chosen.nonzero()[0]))

    def by_pattern(self, head: nn.Linear, hidden: Table) -> dict[Pattern, Answers]:
        """`of_pattern` for each pattern, of the items that allow it under the missing table `hidden`."""
        visible = replace(self, natural=hidden)
        return {pattern: visible.of_pattern(head, pattern) for pattern in Pattern}


def encode_splits(
    model: MissingModalityClassifier, data: TaskData, collator: Collator, names: Collection[str] = SCORED
) -> dict[str, EncodedSplit]:
    """Encode the splits of these names, by default those that are scored."""
    return {name: encode(model, data.splits()[name], collator) for name in names}


@torch.no_grad()
def encode(model: MissingModalityClassifier, split: Split, collator: Collator, batch_size: int = 64) -> EncodedSplit:
    """Run each tower once over a split, with a progress bar. Raises DivergedError if features are not finite."""
    model.eval()
    device = next(model.parameters()).device
    image, text, targets = [], [], []
    for start in track(range(0, len(split.items), batch_size), f"encoding {split.name}"):
        items = split.items[start : start + batch_size]
        batch = {name: value.to(device) for name, value in collator(items).items()}
        image_row, text_row = batch.pop("image_row"), batch.pop("text_row")
        targets.append(batch.pop("labels").cpu())
        images, texts = model.features(**batch)
        image.append(images[image_row].cpu())
        text.append(texts[text_row].cpu())
        for modality, features in (("image", image[-1]), ("text", text[-1])):
            _check_finite(modality, features, items, split)
        absent_image, absent_text = (row.cpu() for row in model.absent(images, texts))
    return EncodedSplit(
        image=torch.cat(image),
        text=torch.cat(text),
        absent_image=absent_image,
        absent_text=absent_text,
        targets=torch.cat(targets),
        natural=natural_table(split),
    )


def _check_finite(modality: str, features: Tensor, items: Sequence[Example], split: Split) -> None:
    rows = [str(item.row) for item, finite in zip(items, features.isfinite().all(dim=-1), strict=True) if not finite]
    if rows:
        raise DivergedError(
            f"{split.source}: the {modality} features of row {first_few(rows)} are not finite; check these rows "
            "and the backbone, or train again with a lower train.learning_rate"
        )
