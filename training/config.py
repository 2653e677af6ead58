"""The configuration of one task: one YAML file, checked field by field, overridable by dotted flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from model_store import Problem
from model_store.items.labels import label_of
from model_store.items.rows import encoding_fault
from model_store.manifest import TaskName
from model_store.messages import describe_os_error
from training.errors import ConfigError
from training.fields import complaints

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]
DataFormat = Literal["mmimdb", "food101", "hateful_memes", "arrow"]
MissingType = Literal["text", "image", "both"]
Method = Literal["mora", "lora", "dora", "bitfit", "full", "head"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Frozen):
    """Where the items are and which columns hold what."""

    train: str | None = None  # a parquet, csv or jsonl file, an image folder, or `owner/name:split` of a hub
    validation: str | None = None  # left out: held out of train
    test: str | None = None
    format: DataFormat | None = None  # in place of the three: a data set as its authors ship it, in the folder `root`
    root: str | None = None
    image: str | None = "image"  # column: encoded bytes or a path (relative to the file); empty = naturally missing
    text: str | None = "text"  # column; null where the data has no such modality at all
    label: str = "label"  # a string; for multi_label a list of strings, or in a csv strings joined by "|"
    seed: int = 0  # of what is held out
    validation_share: PositiveShare = 0.1  # what is held out of train where a split is left out
    test_share: PositiveShare = 0.2

    @model_validator(mode="after")
    def _is_one_source(self) -> DataConfig:
        if (self.train is None) == (self.format is None):
            given = "neither is" if self.train is None else "both are"
            raise ValueError(f"give data.train (a file), or data.format with data.root (a folder); {given} given")
        if self.image is None and self.text is None:
            raise ValueError("data.image and data.text are both null; name the column of one at least")
        if (self.format is None) != (self.root is None):
            raise ValueError("data.format and data.root (the folder of that format) go together; give both or neither")
        fixed = [name for name in ("validation", "test") if getattr(self, name) is not None]
        fixed += [name for name in ("image", "text", "label") if getattr(self, name) != name]
        if self.format is not None and fixed:
            raise ValueError(f"data.format {self.format} says where everything is; remove data.{fixed[0]}")
        return self

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> DataConfig:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share must leave something to train on; lower one of them")
        return self


class MissingConfig(_Frozen):
    """Simulated missingness of one split, on top of what is naturally missing (METHOD: protocol)."""

    type: MissingType = "both"
    ratio: Share = 0.0  # share of incomplete items
    both_ratio: Share = 0.5  # type `both`: share of those that lose their image
    seed: int = 0
    table: str | None = None  # a table drawn before, .pt or .npy, read in place of drawing one of this type and ratio


class MissingTables(_Frozen):
    """Missingness per split."""

    train: MissingConfig = MissingConfig()
    validation: MissingConfig = MissingConfig()
    test: MissingConfig = MissingConfig()


class MoRAConfig(_Frozen):
    """What is adapted and how (arXiv 2511.06225)."""

    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "v_proj")
    first_layer: Annotated[int, Field(ge=0)] | None = None  # of the shallower tower, to its last; None: the last two
    rank: PositiveInt = 4
    scale: PositiveFloat = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # on the input of each adapted projection
    parametrization: Literal["official", "identity"] = "identity"
    without: Literal["shared", "specific", "gram"] | None = None  # an ablation


class TrainConfig(_Frozen):
    """Optimisation: AdamW, cosine schedule with warm-up."""

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-2  # of the head
    adapter_rate: PositiveFloat = 0.1  # learning rate of everything else, as a share of the head's
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    betas: tuple[Share, Share] = (0.9, 0.98)
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: int = 0
    modality_dropout: Share = 0.667  # weight of the answers to a complete item without its image and without its text
    distillation: Annotated[float, Field(ge=0)] = 0.5  # weight of the complete answer as a target of those two
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: mixed precision
    cache_trunk: bool = True  # keep the frozen layers' outputs on disk while training, if they fit


class ExportConfig(_Frozen):
    """Which precisions are published beside fp32, if their own accuracy check lets them."""

    precisions: tuple[Literal["int8", "fp16"], ...] = ("int8",)  # int8 is for CPUs, fp16 for GPUs
    accuracy_budget: Annotated[FiniteFloat, Field(ge=0)] = 0.5  # points of the validation score, on any pattern


class ImportedConfig(_Frozen):
    """What `mora-train import` took over; written by it. The method is `head`: nothing else is trained here."""

    kind: Literal["peft", "transformers", "authors"]  # what the source was
    sha256: str  # of the source's files, and of the head's if that had one of its own
    head: Literal["taken", "fitted"]  # as it came, or on the training data here
    first_image_layer: Annotated[int, Field(ge=0)]  # where the tail begins: below, a layer is the backbone's
    first_text_layer: Annotated[int, Field(ge=0)]  # the same of the text tower


class TaskConfig(_Frozen):
    """One task: what to learn, from which data, on which backbone."""

    task: TaskName
    problem: Problem
    backbone: str  # hub id or a local directory in transformers' format
    labels: tuple[str, ...] | None = None  # left out: the labels of the training split, sorted
    data: DataConfig
    missing: MissingTables = MissingTables()
    method: Method = "mora"
    imported: ImportedConfig | None = None  # not to be set: what `mora-train import` found
    mora: MoRAConfig = MoRAConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        written = None if labels is None else tuple(label_of(label) or "" for label in labels)
        if written is not None and (len(set(written)) < len(written) or "" in written):
            raise ValueError("labels must be different and not blank")
        return written


def load_config(path: Path, overrides: Sequence[str] = ()) -> TaskConfig:
    """Read a YAML file; `overrides` are flags such as `--train.epochs 3` or `--train.epochs=3`.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing or out of range; the message names it.
    """
    if path.name.startswith("--"):
        raise ConfigError(f"CONFIG comes first, then flags such as {path.name}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the configuration {path}: it {encoding_fault(path)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the configuration {path}: {_yaml_fault(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a YAML mapping (`task: NAME` and so on); see training/configs/ for examples")
    return _validated(values, overrides, str(path))


def override(config: TaskConfig, flags: Sequence[str]) -> TaskConfig:
    """The configuration with some fields replaced, as by `load_config`'s overrides. Raises ConfigError."""
    return _validated(config.model_dump(mode="json"), flags, "with these flags, the run's configuration")


def _validated(values: dict[str, Any], overrides: Sequence[str], name: str) -> TaskConfig:
    for flag, value in _pairs(overrides):
        _set(values, flag, value)
    try:
        return TaskConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"  {complaint}" for complaint in complaints(error, TaskConfig)]
        raise ConfigError("\n".join([f"{name} is not a valid task configuration:", *lines])) from error


def _yaml_fault(error: yaml.YAMLError) -> str:
    """The line, what is wrong there, and the cure."""
    if not isinstance(error, yaml.MarkedYAMLError) or (mark := error.problem_mark) is None:
        return str(error).partition("\n")[0]
    is_tab = "'\\t'" in (error.problem or "")
    cure = "indent with spaces" if is_tab else "mend it there or just above; text that holds : or # needs quotes"
    problem = ", ".join(filter(None, (error.context, error.problem)))
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}; {cure}"


def _pairs(flags: Sequence[str]) -> list[tuple[str, JsonValue]]:
    pairs, rest = [], list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or len(flag) == 2:
            raise ConfigError(f"unexpected argument {flag!r}; a configuration flag looks like --train.epochs 3")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"flag {flag} needs a value, as in --train.epochs 3")
            value = rest.pop(0)
        try:
            pairs.append((name, yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise ConfigError(f"flag --{name}: {value!r} is not a YAML value; put it in quotes") from error
    return pairs


def _set(values: dict[str, Any], dotted: str, value: JsonValue) -> None:
    *folders, name = dotted.replace("-", "_").split(".")
    for folder in folders:
        values = values.setdefault(folder, {})
        if not isinstance(values, dict):
            raise ConfigError(f"flag --{dotted}: {folder} has no fields; give --{folder} VALUE")
    values[name] = value
