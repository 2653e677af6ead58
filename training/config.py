"""The configuration of one task: a YAML file with checked fields. Each field is a flag too."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from model_store import Problem
from model_store.items.labels import label_of
from model_store.items.rows import encoding_fault
from model_store.manifest import TaskName
from model_store.messages import describe_field_error, describe_os_error
from training.config_paths import start_from_file
from training.errors import ConfigError
from training.yaml_text import RepeatedKeyError, parse_yaml

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Layer = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy takes them
Modules = Annotated[tuple[str, ...], Field(min_length=1)]
DataFormat = Literal["mmimdb", "food101", "hateful_memes", "arrow", "cirr"]
MissingType = Literal["text", "image", "both"]
Method = Literal["mora", "lora", "dora", "bitfit", "full", "head"]
_MAX_SHOWN = 60  # characters of a value in a message


class _Frozen(BaseModel):
    model_config = {"frozen": True, "extra": "forbid"}


class DataConfig(_Frozen):
    """The files with the items, and the columns of image, text and label; of a retrieval task, of query and target.

    In a YAML file, relative paths start from its folder; in flags, from the working directory.
    """

    train: str | None = None  # a parquet, csv or jsonl file, an image folder, or `owner/name:split` of a hub
    validation: str | None = None  # like train; left out: a random share of train
    test: str | None = None  # like train; left out: another random share of train
    format: DataFormat | None = None  # in place of these files: a data set in its authors' layout
    root: str | None = None  # folder of that data set
    image: str | None = "image"  # column of encoded bytes or of paths, relative to the file; null: no images
    text: str | None = "text"  # column; null: no texts. An empty cell of either column is a missing modality
    label: str = "label"  # column of strings; for multi_label of lists of strings, or in a csv strings joined by "|"
    target_image: str | None = "target_image"  # retrieval: like image, of the target that the query must find
    target_text: str | None = "target_text"  # retrieval: like text, of the target
    seed: Seed = 0  # of the random shares
    validation_share: PositiveShare = 0.1  # share of train that is held out if `validation` is left out
    test_share: PositiveShare = 0.2  # share of train that is held out if `test` is left out

    @model_validator(mode="after")
    def _is_consistent(self) -> DataConfig:
        if (self.train is None) == (self.format is None):
            given = "neither is" if self.train is None else "both are"
            raise ValueError(f"give data.train (a file), or data.format with data.root (a folder); {given} given")
        if self.image is None and self.text is None:
            raise ValueError("data.image and data.text are both null; name at least one column")
        if (self.format is None) != (self.root is None):
            raise ValueError("data.format and data.root (the folder of that format) go together; give both or neither")
        fixed = [name for name in ("validation", "test") if getattr(self, name) is not None]
        columns = ("image", "text", "label", "target_image", "target_text")
        fixed += [name for name in columns if getattr(self, name) != name]
        if self.format is not None and fixed:
            raise ValueError(f"data.format {self.format} fixes the files and columns; remove data.{fixed[0]}")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no items to train on; lower one of them")
        return self


class MissingConfig(_Frozen):
    """Simulated missingness of one split, in addition to items that are incomplete in the data (METHOD: protocol)."""

    type: MissingType = "both"
    ratio: Share = 0.0  # share of incomplete items, including those that are incomplete in the data
    both_ratio: Share = 0.5  # type `both`: of the items that lose a modality, the share that loses its image
    seed: Seed = 0
    table: str | None = None  # .pt or .npy file with a table of this type and ratio; left out: a table is drawn


class MissingTables(_Frozen):
    """Missingness per split."""

    train: MissingConfig = MissingConfig()
    validation: MissingConfig = MissingConfig()
    test: MissingConfig = MissingConfig()


class MoRAConfig(_Frozen):
    """The adapted layers and the form of their adapter (arXiv 2511.06225). `mora: auto` is `mora: {auto: true}`."""

    auto: bool = False  # also train larger adapters, and keep one that is clearly better on validation
    target_modules: Modules = ("q_proj", "v_proj")  # of a layer; also k_proj and out_proj, and the MLP's fc1 and fc2
    first_layer: Layer | None = None  # first adapted layer of the shallower tower; left out: its last two layers
    rank: PositiveInt = 4
    scale: PositiveFloat = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # on the input of each adapted projection
    parametrization: Literal["official", "identity"] = "identity"
    without: Literal["shared", "specific", "gram"] | None = None  # for ablations: the omitted term


class TrainConfig(_Frozen):
    """Optimisation: AdamW, cosine schedule with warm-up."""

    epochs: PositiveInt | None = None  # left out: 20, or as many as 300 steps need
    patience: PositiveShare | None = 0.25  # end after this share of the epochs without a better score; null: never
    batch_size: PositiveInt | None = None  # left out: 256, or as little as 300 steps in 20 epochs need, but at least 16
    learning_rate: PositiveFloat = 3e-4  # of the head: low, because it starts at the probe's optimum; without, 1e-2
    adapter_rate: PositiveFloat = 3.0  # the adapter's rate as a multiple of the head's; without the probe 0.1
    weight_decay: NonNegative = 0.02
    betas: tuple[Share, Share] = (0.9, 0.98)
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Seed = 0
    modality_dropout: Share = 0.667  # weight of the answers to complete items whose image or text is hidden
    distillation: NonNegative = 0.5  # weight of the complete item's answer as a target for those answers
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: mixed precision
    class_weights: Literal["none", "balanced"] = "none"  # balanced: every label counts the same, however rare it is
    probe: bool = True  # start at the linear probe on the frozen features, and keep it if training does not beat it
    temperature: Annotated[float, Field(ge=0.01, le=1)] = 0.05  # retrieval: the loss divides cosines by it
    cache_trunk: bool = True  # keep the frozen layers' outputs on disk while training, if they fit


class CoverageConfig(_Frozen):
    """Label sets that contain the true label with a promised probability (docs/coverage.md)."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.5  # of the validation items, which calibrate the sets only; 0: none
    by: Literal["pattern", "class"] = "pattern"  # class: kept for the items of each label, too (single-label tasks)


class ExportConfig(_Frozen):
    """The precisions that are published beside fp32 if they pass their accuracy check."""

    precisions: tuple[Literal["bf16", "int8", "fp16"], ...] = ("bf16", "int8")  # fp16 is for GPUs
    accuracy_budget: NonNegative = 0.5  # points of accuracy that a precision may be expected to cost, on any pattern


class PublishConfig(_Frozen):
    """The parts of the data that a published version shows to the clients of a service."""

    examples: bool = True  # items of validation as its examples, and pictures and texts of test in its report
    report: bool = True  # the training report, with the scores


class ImportedConfig(_Frozen):
    """The source of an imported model. `mora-train import` writes these fields and sets the method to `head`."""

    kind: Literal["peft", "transformers", "authors"]  # of the source
    sha256: str  # of the source's files and of the file given as --head
    head: Literal["taken", "fitted"]  # from the source, or fitted on the training data
    first_image_layer: Layer  # first layer of the image tower's tail; the layers below it are the backbone's
    first_text_layer: Layer  # first layer of the text tower's tail


class TaskConfig(_Frozen):
    """One task: its data, its backbone and its training."""

    task: TaskName
    problem: Problem
    backbone: str  # hub id or a local directory in transformers' format
    labels: tuple[str, ...] | None = None  # left out: the labels of the training split, sorted
    data: DataConfig
    missing: MissingTables = MissingTables()
    method: Method = "mora"
    imported: ImportedConfig | None = None  # written by `mora-train import`; do not set it
    mora: MoRAConfig = MoRAConfig()
    train: TrainConfig = TrainConfig()
    coverage: CoverageConfig = CoverageConfig()
    export: ExportConfig = ExportConfig()
    publish: PublishConfig = PublishConfig()

    @field_validator("mora", mode="before")
    @classmethod
    def _auto_alone(cls, mora: object) -> object:
        return {"auto": True} if mora == "auto" else mora

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        written = None if labels is None else tuple(label_of(label) or "" for label in labels)
        if written is not None and (len(set(written)) < len(written) or "" in written):
            raise ValueError("labels must be different and not blank")
        return written

    @model_validator(mode="after")
    def _has_classes_to_cover(self) -> TaskConfig:
        if self.coverage.by == "class" and self.problem is not Problem.SINGLE_LABEL:
            raise ValueError("coverage.by: class is for single-label tasks; set coverage.by to pattern")
        return self

    @model_validator(mode="after")
    def _has_targets_in_place_of_labels(self) -> TaskConfig:
        data = self.data
        if self.problem is not Problem.RETRIEVAL:
            if data.format == "cirr":
                raise ValueError("data.format cirr has targets and no labels; set problem to retrieval")
            return self
        if data.format not in (None, "cirr"):
            raise ValueError(f"data.format {data.format} has labels, and a retrieval task targets; give data.train")
        if self.mora.auto:
            raise ValueError("mora.auto compares the log losses of labels, and a retrieval task has none; remove it")
        if data.target_image is None and data.target_text is None:
            raise ValueError("data.target_image and data.target_text are both null; name at least one column")
        of_labels = {
            "labels": self.labels is not None,
            "data.label": data.label != "label",
            "train.class_weights": self.train.class_weights != "none",
        }
        if given := [name for name, is_given in of_labels.items() if is_given]:
            raise ValueError(f"a retrieval task has no labels; remove {given[0]}")
        return self


def load_config(path: Path, flags: Sequence[str] = ()) -> TaskConfig:
    """Read a YAML file; flags such as `--train.epochs 3` or `--train.epochs=3` replace its fields.

    Paths in the file start from its folder, those in flags from the working directory.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing or out of range; the message names it.
    """
    if path.name.startswith("--"):
        raise ConfigError(f"CONFIG comes first, then flags such as {path.name}")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the configuration {path}: it {encoding_fault(path)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the configuration {path}: {_yaml_fault(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"cannot read the configuration {path}: it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a YAML mapping (`task: NAME` and so on); see training/configs/ for examples")
    start_from_file(values, path, given=_set_fields(values, flags))
    return _validated(values, str(path))


def override(config: TaskConfig, flags: Sequence[str]) -> TaskConfig:
    """The configuration with the fields replaced that flags name, as in `load_config`. Raises ConfigError."""
    values = config.model_dump(mode="json")
    _set_fields(values, flags)
    return _validated(values, "with these flags, the run's configuration")


def _validated(values: dict[str, Any], name: str) -> TaskConfig:
    try:
        return TaskConfig.model_validate(values)
    except ValidationError as error:
        complaints = "; ".join(map(_complaint, error.errors(include_url=False)))
        raise ConfigError(f"{name} is not a valid task configuration: {complaints}") from error


def _set_fields(values: dict[str, Any], flags: Sequence[str]) -> list[str]:
    """Set the field that each flag names to the flag's YAML value; returns these names. Raises ConfigError."""
    words, names = iter(flags), []
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(f"unexpected argument {word!r}; a configuration flag looks like --train.epochs 3")
        try:
            text = text if equals else next(words)
            value = parse_yaml(text)
        except StopIteration:
            raise ConfigError(f"flag {word} needs a value, as in --train.epochs 3") from None
        except RepeatedKeyError as error:
            raise ConfigError(f"flag --{name}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"flag --{name}: {text!r} is not a YAML value; put it in quotes") from error
        except RecursionError as error:
            raise ConfigError(f"flag --{name}: its value is nested too deeply") from error
        names.append(name.replace("-", "_"))
        *groups, field = names[-1].split(".")
        fields = values
        for group in groups:
            fields = fields.setdefault(group, {})
            if not isinstance(fields, dict):
                raise ConfigError(f"flag --{name}: {group} has no fields; give --{group} VALUE")
        fields[field] = value
    return names


def _yaml_fault(error: yaml.YAMLError) -> str:
    """The line, the fault and the cure."""
    if not isinstance(error, yaml.MarkedYAMLError) or (mark := error.problem_mark) is None:
        return str(error).partition("\n")[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    if isinstance(error, RepeatedKeyError):
        return f"{place}: {error.problem}"
    is_tab = "'\\t'" in (error.problem or "")
    cure = "indent with spaces" if is_tab else "correct this line or the one above; text with : or # needs quotes"
    problem = ", ".join(filter(None, (error.context, error.problem)))
    return f"{place}: {problem}; {cure}"


def _complaint(problem: ErrorDetails) -> str:
    """The wrong field, the cause, and the field's value if it is short."""
    name, kind, value = ".".join(map(str, problem["loc"])) or "file", problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{name}: is not a field; the closest is {_closest(name)}"
    if (name, kind) == ("task", "string_pattern_mismatch"):
        rule = "must be up to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
    else:
        rule = describe_field_error(problem)
    is_short = isinstance(value, str | int | float) and len(repr(value)) <= _MAX_SHOWN
    return f"{name}: {rule}, not {value!r}" if is_short else f"{name}: {rule}"


def _closest(name: str) -> str:
    """The field whose last part is equal (`train.epochs` for `epochs`), else the one with the most similar name."""
    known, last = [*_dotted(TaskConfig)], name.rpartition(".")[2]
    same = [field for field in known if field.rpartition(".")[2] == last]
    return (same or difflib.get_close_matches(name, known, n=1, cutoff=0.0))[0]


def _dotted(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted(field.annotation, f"{prefix}{name}.")
