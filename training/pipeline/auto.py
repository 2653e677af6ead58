"""`mora: auto`: larger adapters are trained after the configured one, and one that is clearly better is kept.

A larger adapter adapts more projections, more layers, or both. It replaces a smaller one by the rule by which a trained
model replaces the linear probe (`training.learning.gain`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training.config import TaskConfig
from training.data.missing import Table
from training.errors import DivergedError
from training.learning.candidate import validation_losses
from training.learning.evaluation import score
from training.learning.gain import paired_gain
from training.model.backbone_sizes import BackboneSizes, adapter_parameters, first_tail_layers, read_sizes

if TYPE_CHECKING:
    from training.pipeline.trainings import Trained  # imports the Trainer, which takes a second

_EVERY_PROJECTION = {"target_modules": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")}
_EVERY_LAYER = {"first_layer": 0}


def is_auto(config: TaskConfig) -> bool:
    """Whether larger adapters are tried. Methods other than these have no projections to choose."""
    return config.mora.auto and config.method in ("mora", "lora", "dora")


def written(config: TaskConfig, **values: object) -> TaskConfig:
    """The configuration without `auto`, with these values of `mora`."""
    return config.model_copy(update={"mora": config.mora.model_copy(update={"auto": False, **values})})


def candidates(config: TaskConfig) -> dict[str, TaskConfig]:
    """The configurations that are tried by name, from small to large: the configured one first, no adapter twice.

    More projections come before more layers, which leave fewer layers frozen and take the task its own trunk.
    """
    rank = 2 * config.mora.rank
    named = {
        "as configured": config,
        "every projection": written(config, **_EVERY_PROJECTION),
        "every layer": written(config, **_EVERY_LAYER),
        "every projection of every layer": written(config, **_EVERY_PROJECTION, **_EVERY_LAYER, rank=rank),
    }
    sizes = read_sizes(config.backbone)

    def adapter(each: TaskConfig) -> object:
        layers = first_tail_layers(each, sizes.image.layers, sizes.text.layers)
        return layers, frozenset(each.mora.target_modules), each.mora.rank

    first_names = {adapter(each): name for name, each in reversed(named.items())}
    return {name: each for name, each in named.items() if first_names[adapter(each)] == name}


def choose_adapter(
    first: Trained,
    train: Callable[[TaskConfig, str], Trained],
    table: Table,
    metric: str,
    announce: Callable[[str], None],
) -> tuple[Trained, dict[str, Any]]:
    """Train larger adapters in their order; each replaces the best one so far if it is clearly better.

    The largest is trained only if one between it and the configured one was better. One whose training diverges is
    noted, and is not better.

    Args:
        first: the adapter as it is configured.
        train: trains another one, which is given by its configuration and name.
        table: the missing table of the validation split.
        metric: the score that is shown beside the log loss.

    Returns:
        The best candidate; and `metric`, `candidates` and `chosen`, the name of the best, for metrics.json.
    """
    config, classes = first.candidate.config, first.candidate.model.head.out_features
    (chosen, _), *larger = candidates(config).items()
    sizes, best = read_sizes(config.backbone), first
    rows = [{"name": chosen, **_facts(config, config, sizes, classes), **_scores(first, metric, table)}]
    for number, (name, each) in enumerate(larger, start=1):
        if number == len(larger) > 1 and best is first:
            break
        row = {"name": name, **_facts(each, config, sizes, classes), "compared_with": chosen}
        rows.append(row)
        try:
            tried = train(each, name)
        except DivergedError as error:
            announce(f"{name}: {str(error).partition(';')[0]}")
            row |= {"score": None, "log_loss": None, "seconds": 0.0}
            continue
        losses = (validation_losses(trained.candidate, table) for trained in (best, tried))
        gain = paired_gain(*losses)
        row |= {**_scores(tried, metric, table), **gain.summary()}
        if gain.is_clear:
            best, chosen = tried, name
    return best, {"metric": metric, "chosen": chosen, "candidates": rows}


def _facts(config: TaskConfig, smallest: TaskConfig, sizes: BackboneSizes, classes: int) -> dict[str, Any]:
    """What a candidate adapts, and what that costs.

    `frozen_share` is the share of the towers' layers below the adapted ones, whose outputs the trunk cache keeps.
    `shares_trunk` is whether the task has the trunk of tasks that adapt as many layers as the smallest candidate.
    """
    layers = sizes.image.layers, sizes.text.layers
    frozen = first_tail_layers(config, *layers)
    return {
        "first_layers": {"image": frozen[0], "text": frozen[1]},
        "target_modules": list(config.mora.target_modules),
        "rank": config.mora.rank,
        "trainable_parameters": adapter_parameters(config, sizes) + (2 * sizes.features + 1) * classes,
        "frozen_share": round(sum(frozen) / sum(layers), 4),
        "shares_trunk": frozen == first_tail_layers(smallest, *layers),
    }


def _scores(trained: Trained, metric: str, table: Table) -> dict[str, Any]:
    """The validation scores of a candidate, and the seconds of its training."""
    candidate = trained.candidate
    split, problem = candidate.encoded["validation"], candidate.config.problem
    return {
        "score": score(split.logits(candidate.model.head, table), split.targets, problem)[metric],
        "log_loss": round(float(validation_losses(candidate, table).mean()), 6),
        "seconds": trained.history[-1]["seconds"],
    }
