"""One answer as `mora-serve classify` prints it on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from model_store.describe.tables import plain
from service.api.answers import Classification, Explanation, LabelScore, LabelSet

_BAR_CELLS = 24


def answer_view(answer: Classification) -> Group:
    """The labels with their scores, the modalities, the label set, the explanation, and the time of each stage."""
    modalities = f"image {answer.modalities.image}, text {answer.modalities.text}"
    times = {stage: spent for stage, spent in answer.latency_ms.model_dump().items() if spent}
    total = times.pop("total", 0.0)
    spent = ", ".join(f"{stage.replace('_', ' ')} {milliseconds:.1f}" for stage, milliseconds in times.items())
    parts: list[RenderableType] = [
        Text(plain(f"{answer.task}, version {answer.version}: {modalities}")),
        Padding(_labels(answer.labels), (1, 0)),
    ]
    if answer.label_set is not None:
        parts.append(Padding(_label_set(answer.label_set), (0, 0, 1, 0)))
    if answer.explanation is not None:
        parts.append(_explanation(answer.explanation))
    return Group(*parts, Text(f"{total:.1f} ms ({spent})"))


def _labels(labels: Sequence[LabelScore]) -> Table:
    table = Table("Label", "Score", "", "", box=None, pad_edge=False)
    for label in labels:
        style = "bold" if label.selected else ""
        table.add_row(
            Text(plain(label.label), style),
            Text(f"{label.score:.1%}", style, justify="right"),
            ProgressBar(total=1.0, completed=label.score, width=_BAR_CELLS),
            Text("selected" if label.selected else "", style),
        )
    return table


def _label_set(label_set: LabelSet) -> Text:
    labels = ", ".join(label_set.labels) or "no label"
    review = "review: a person should look at this one" if label_set.review else "no review needed"
    return Text(plain(f"set with coverage {label_set.coverage}: {labels}; {review}"))


def _explanation(explanation: Explanation) -> Group:
    table = Table(box=None, pad_edge=False)
    table.add_column("Label")
    for column in ("Logit", "= base", "+ image", "+ text"):
        table.add_column(column, justify="right")
    for part in explanation.labels:
        numbers = (part.logit, part.base, part.image, part.text)
        table.add_row(Text(plain(part.label)), *(f"{number:.2f}" for number in numbers))
    lines = [Text(f"carried by the {explanation.carried_by}")]
    for modality, labels in (("image", explanation.without_image), ("text", explanation.without_text)):
        if labels is not None:
            scores = ", ".join(f"{label.label} {label.score:.1%}" for label in labels)
            lines.append(Text(plain(f"without the {modality}: {scores}")))
    return Group(table, Padding(Group(*lines), (1, 0)))
