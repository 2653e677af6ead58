"""Sources of an import, read as towers and a head: a PEFT adapter, a fine-tuned checkpoint, the authors' file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from model_store.messages import quoted
from training.errors import BackboneError, PreprocessingMissingError, SourceError, first_few
from training.model.authors_checkpoint import merge_authors
from training.model.backbones import load_backbone, load_backbone_config, load_checkpoint
from training.model.file_names import CONFIG, RUN_DESCRIPTION
from training.model.foreign_files import WEIGHT_SUFFIXES, foreign_file, foreign_folder
from training.model.peft_adapter import merge_adapter, refuse_image_classifier
from training.model.peft_merge import unknown_fields
from training.model.preprocessing import Preprocessor
from training.model.source_files import read_description, read_tensors
from training.model.towers import Backbone, feature_size

Head = dict[str, Tensor]  # `head.weight` (C, 2P) over [image features, text features], `head.bias` (C,)
_MARKS = (CONFIG, "config.json")  # of an adapter, and of a checkpoint
_KINDS = (
    "A source is a folder with adapter_config.json and adapter_model.safetensors (PEFT: LoRA, DoRA), a folder with "
    "config.json and model.safetensors (CLIPModel or SiglipModel in transformers' format), or the best_model.pt of "
    "MoRA's authors"
)
_ARCHITECTURE = {  # fields of a tower's configuration that must agree, because the tower's answers depend on them
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "image_size",
    "patch_size",
    "vocab_size",
    "max_position_embeddings",
    "projection_size",
}


@dataclass(frozen=True)
class Source:
    """A backbone with the source's weights in place, and the source's own head if it has one."""

    kind: Literal["peft", "transformers", "authors"]
    towers: Backbone
    head: Head | None
    notes: tuple[str, ...]  # for the user; they need no action


def read_source(path: Path, backbone: str) -> Source:
    """Read a source onto the configured backbone. Code in the source is never executed.

    Raises:
        SourceError: the source is of no known kind, is damaged, or does not fit the backbone.
        BackboneError: the backbone itself cannot be loaded.
    """
    _refuse_run(path)
    _refuse_foreign_file(path)
    kind: Literal["peft", "authors"]
    if path.is_file():
        kind, merge = "authors", merge_authors
    elif (path / CONFIG).is_file():
        kind, merge = "peft", merge_adapter
    elif (path / "config.json").is_file():
        return _checkpoint(path, backbone)
    else:
        raise SourceError(f"{path} cannot be imported: {_unknown_source(path)}. {_KINDS}")
    towers = load_backbone(backbone)
    tensors, made_for = merge(path, towers)
    notes: list[str] = []
    if isinstance(made_for, str) and made_for != backbone:
        notes.append(f"{path} was made for {made_for}; it is merged into {backbone}, which must be the same model")
    if kind == "peft" and (unknown := unknown_fields(read_description(path / CONFIG))):
        notes.append(f"{path / CONFIG} has fields that this release of PEFT ignores: {first_few(unknown)}")
    return Source(kind, towers, _checked_head(tensors, towers, path) if tensors else None, tuple(notes))


def _refuse_foreign_file(path: Path) -> None:
    if kind := foreign_file(path):
        raise SourceError(f"{path} {kind}")
    if path.is_file() and path.suffix not in WEIGHT_SUFFIXES:
        raise SourceError(f"{path} cannot be imported: torch.save did not write it. {_KINDS}")


def _unknown_source(path: Path) -> str:
    """Why a path that is no file, adapter or checkpoint cannot be imported."""
    if not path.exists():
        return "the path does not exist"
    inner = [
        str(file.parent) for depth in ("*", "*/*") for name in _MARKS for file in sorted(path.glob(f"{depth}/{name}"))
    ]
    if inner:
        return f"a model is in {first_few(inner)}; give that folder"
    return foreign_folder(path) or f"it has neither {' nor '.join(_MARKS)}"


def read_head(path: Path, towers: Backbone) -> Head:
    """The head in a safetensors file with `weight` (C, 2P) and `bias` (C,). Raises SourceError."""
    tensors = read_tensors(path)
    if set(tensors) != {"weight", "bias"}:
        raise SourceError(f"{path} holds {first_few(tensors)}; a head is `weight` (C, 2P) and `bias` (C,)")
    return _checked_head(tensors, towers, path)


def _checked_head(tensors: dict[str, Tensor], towers: Backbone, path: Path) -> Head:
    """Weight and bias under the model's names. Raises SourceError when they do not fit the towers."""
    weight, bias, inputs = tensors["weight"], tensors["bias"], 2 * feature_size(towers)
    if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
        raise SourceError(
            f"the head in {path} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; on this backbone a "
            f"head is (C, {inputs}) and (C,), over image features followed by text features"
        )
    if not bool(weight.isfinite().all() and bias.isfinite().all()):
        raise SourceError(f"the head in {path} holds numbers that are not finite; it cannot be served")
    return {"head.weight": weight.float().contiguous(), "head.bias": bias.float().contiguous()}


def _refuse_run(path: Path) -> None:
    """Raise SourceError for a run folder, also for an older one without task.json."""
    is_older_run = (path / CONFIG).is_file() and "task_config" in read_description(path / CONFIG)
    if is_older_run or (path / RUN_DESCRIPTION).is_file():
        raise SourceError(f"{path} is a run of mora-train already; `mora-train publish {quoted(path)}` publishes it")


def _checkpoint(path: Path, backbone: str) -> Source:
    architectures = read_description(path / "config.json").get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        refuse_image_classifier(path, str(name))
    try:
        source = load_backbone_config(str(path))
    except BackboneError as error:
        raise SourceError(f"{path} is not a CLIPModel or SiglipModel ({error})") from error
    own = load_backbone_config(backbone)
    if type(source) is not type(own):
        raise SourceError(f"{path} is a {source.model_type} model, and the backbone {backbone} a {own.model_type} one")
    differing = [
        f"{tower} {name} {getattr(getattr(source, tower), name)} in place of {value}"
        for tower in ("vision_config", "text_config")
        for name, value in getattr(own, tower).to_dict().items()
        if name in _ARCHITECTURE and getattr(getattr(source, tower), name) != value
    ]
    sizes = [getattr(config, "projection_dim", None) for config in (source, own)]  # of CLIP
    if sizes[0] != sizes[1]:
        differing.append(f"projection_dim {sizes[0]} in place of {sizes[1]}")
    if differing:
        raise SourceError(f"{path} was not made from {backbone}: {first_few(differing)}. Give the one it was made from")
    try:
        towers = load_checkpoint(path)
    except BackboneError as error:
        raise SourceError(f"{path} cannot be imported ({error})") from error
    return Source("transformers", towers, None, _preprocessing_notes(path, backbone))


def _preprocessing_notes(path: Path, backbone: str) -> tuple[str, ...]:
    """Compare the preprocessing of source and backbone. Raises SourceError when it differs."""
    try:
        source = Preprocessor(str(path), load_backbone_config(str(path)))
    except PreprocessingMissingError:
        return (f"{path} has no image processor and tokenizer of its own; those of {backbone} are used",)
    own = Preprocessor(backbone, load_backbone_config(backbone))
    for modality in ("image", "text"):
        if getattr(source, f"{modality}_description")() != getattr(own, f"{modality}_description")():
            raise SourceError(
                f"{path} prepares {modality}s otherwise than {backbone}; add --backbone {path}: then its own "
                "preprocessing is used, and its trunk is shared only with other tasks on it"
            )
    return ()
