"""Merging with PEFT, and the comparison of the merged towers with PEFT's own model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import peft
import torch
from torch import Tensor, nn

from training.errors import BackboneError, SourceError, first_few
from training.model.backbones import load_backbone
from training.model.towers import Backbone

MERGE_IT = "merge it where it was trained (merge_and_unload, save_pretrained), and import the checkpoint"
_MAX_DIFFERENCE = 1e-4  # of a feature


def unknown_fields(described: Mapping[str, object]) -> list[str]:
    """The fields with a value that this release of PEFT would ignore."""
    known = {field.name for field in fields(peft.LoraConfig)}
    return [name for name, value in described.items() if name not in known and value]


def configuration(path: Path, described: Mapping[str, object]) -> peft.PeftConfig:
    """The configuration of an adapter. Raises SourceError if this release of PEFT does not know a method in it."""
    methods = [name for name in unknown_fields(described) if isinstance(described[name], bool | dict | list)]
    if methods:
        problem = f"{path} was trained with {first_few(methods)}, which PEFT {peft.__version__} does not know"
        raise SourceError(f"{problem}; {MERGE_IT}")
    with _one_line(path, "has a configuration that cannot be used", MERGE_IT):
        return peft.PeftConfig.from_pretrained(str(path))


def check_backbone(path: Path, made_for: object, towers: Backbone) -> None:
    """Raise SourceError if the model that the adapter was made for is on this disk and has other weights."""
    if not isinstance(made_for, str) or not Path(made_for).is_dir():
        return
    if Path(made_for).resolve() == Path(towers.name_or_path).resolve():
        return
    try:
        original = load_backbone(made_for)
    except BackboneError:  # it is one tower, or no model any more
        return
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (original, towers)]
    if shapes[0] != shapes[1] or not _difference(_features(original), _features(towers)) <= _MAX_DIFFERENCE:
        raise SourceError(
            f"{path} was made for {made_for}, which has other weights than {towers.name_or_path}; give the backbone "
            f"that it was made for: --backbone {made_for}"
        )


def merge(
    path: Path,
    config: peft.PeftConfig,
    state: dict[str, Tensor],
    towers: Backbone,
    model: nn.Module,
    hidden: Collection[str] = (),
) -> None:
    """Merge an adapter into the towers.

    Args:
        model: the module that was adapted: the towers, a part of them, or a module that contains one of these.
        hidden: names of modules of the towers that the adapted model did not have.

    Raises:
        SourceError: the adapter does not fit, or the merged towers differ from PEFT's own model on test inputs.
    """
    with _without(towers, hidden), _one_line(path, "does not fit the backbone", "give the one it was made for"):
        adapted = peft.PeftModel(model, config).eval()
        result = peft.set_peft_model_state_dict(adapted, state)
        lacking = sorted(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False).keys() - state.keys())
    if lacking:
        cure = "give the backbone that it was made for, or copy the whole folder again"
        raise SourceError(f"{path} lacks {first_few(lacking)}, which its configuration lists; {cure}")
    if result.unexpected_keys:
        raise SourceError(f"{path} holds {first_few(result.unexpected_keys)}, which the backbone does not have")
    with _one_line(path, "cannot be merged", MERGE_IT):
        before = _features(towers)
        adapted.merge_and_unload()
    difference = _difference(before, _features(towers))
    if not difference <= _MAX_DIFFERENCE:  # also if it is NaN
        raise SourceError(
            f"{path} cannot be merged: merging moves a feature by {difference:.1e}. Perhaps it adapts a module that "
            "the model does not call, such as out_proj of SigLIP's pooling, or holds numbers that are not finite"
        )


@contextmanager
def _one_line(path: Path, problem: str, cure: str) -> Iterator[None]:
    """Raise SourceError for an error of PEFT, with its reason, and keep PEFT's warnings from the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        needed = f"{path} needs a Python package that is not installed ({_reason(error)})"
        raise SourceError(f"{needed}; install it, or {MERGE_IT}") from error
    except Exception as error:  # PEFT raises errors of every kind for a configuration that it cannot apply
        raise SourceError(f"{path} {problem} ({_reason(error)}); {cure}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line.strip() for line in lines if "size mismatch" in line), lines[0])


@contextmanager
def _without(towers: Backbone, names: Collection[str]) -> Iterator[None]:
    """Take modules out of the towers, so that PEFT does not adapt them."""
    hidden = {name: getattr(towers, name) for name in names if hasattr(towers, name)}
    for name in hidden:
        delattr(towers, name)
    yield
    for name, module in hidden.items():
        setattr(towers, name, module)


def _difference(before: Tensor, after: Tensor) -> float:
    return float((after - before).abs().max())


@torch.no_grad()
def _features(towers: Backbone) -> Tensor:
    """Both towers' features (4, P) of inputs of each presence pattern: noise and white, a few tokens and no text."""
    vision, text = towers.config.vision_config, towers.config.text_config
    random = torch.Generator().manual_seed(0)
    size = vision.num_channels, vision.image_size, vision.image_size
    pixels = torch.stack([torch.randn(size, generator=random), torch.full(size, 2.0)])
    last = text.vocab_size - 1
    end = last if text.eos_token_id in (None, 2) else min(text.eos_token_id, last)  # CLIP pools its first position
    words = torch.tensor([token for token in range(text.vocab_size) if token != end])
    ids = torch.full((2, min(8, text.max_position_embeddings)), end)
    ids[0, :-1] = words[torch.randint(len(words), (ids.shape[1] - 1,), generator=random)]
    image = towers.get_image_features(pixel_values=pixels).pooler_output
    return torch.cat([image, towers.get_text_features(input_ids=ids).pooler_output])
