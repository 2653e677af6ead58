"""The paper's configurations count the paper's parameters; errors name the field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import CLIPConfig
from typer.testing import CliRunner

import training
from training.cli import app
from training.config import load_config
from training.errors import ConfigError

CONFIGS = Path(training.__file__).parent / "configs"


@pytest.fixture(scope="session")
def vit_b_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ViT-B/16's config.json and nothing else."""
    folder = tmp_path_factory.mktemp("vit-b-16")
    CLIPConfig(vision_config={"patch_size": 16}, projection_dim=512).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "trainable"), [("mmimdb", "85,015"), ("food101", "164,965"), ("hateful_memes", "114,690")]
)
def test_show_counts_the_parameters_that_the_paper_counts(name: str, trainable: str, vit_b_16: Path) -> None:
    result = CliRunner().invoke(app, ["show", str(CONFIGS / f"{name}.yaml"), "--backbone", str(vit_b_16)])

    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if "trainable parameters" in line)
    assert line.split()[2] == trainable


@pytest.mark.parametrize("name", ["mmimdb", "food101", "hateful_memes"])
def test_the_papers_configurations_have_the_papers_training(name: str) -> None:
    train = load_config(CONFIGS / f"{name}.yaml").train

    assert (train.probe, train.patience) == (False, None)
    assert (train.learning_rate, train.adapter_rate, train.modality_dropout, train.distillation) == (0.01, 1, 0, 0)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--labels", "[a, b]"], "a retrieval task has no labels; remove labels"),
        (["--data.label", "kind"], "remove data.label"),
        (["--train.class_weights", "balanced"], "remove train.class_weights"),
        (["--coverage.by", "class"], "coverage.by: class is for single-label tasks"),
        (["--data.target_image", "null", "--data.target_text", "null"], "name at least one column"),
        (["--data.train", "null", "--data.format", "mmimdb", "--data.root", "x"], "has labels, and a retrieval task"),
        (["--train.temperature", "0"], "train.temperature: must be greater than or equal to 0.01"),
    ],
)
def test_a_retrieval_task_takes_no_setting_of_labels(tmp_path: Path, flags: list[str], says: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("{task: search, problem: retrieval, backbone: b, data: {train: pairs.parquet}}")
    assert load_config(path).data.target_text == "target_text"

    with pytest.raises(ConfigError, match=re.escape(says)):
        load_config(path, flags)


def test_dotted_flags_override(tmp_path: Path) -> None:
    config = load_config(CONFIGS / "mmimdb.yaml", ["--train.epochs", "3", "--mora.rank=8", "--missing.test.ratio", "0"])

    assert (config.train.epochs, config.mora.rank, config.missing.test.ratio) == (3, 8, 0.0)


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        (["--labels", "[a, b]"], ("a", "b")),
        (["--labels", '[\'a, b\', "c\\"d", 24" screen, \u00e9\u4e2d]'], ("a, b", 'c"d', '24" screen', "\u00e9\u4e2d")),
        (["--labels=[a]", "--labels", "[b]"], ("b",)),
        (["--labels", "null"], None),
    ],
)
def test_a_flags_value_is_yaml_as_in_the_file(flags: list[str], labels: tuple[str, ...] | None) -> None:
    assert load_config(CONFIGS / "mmimdb.yaml", flags).labels == labels


def test_a_flag_may_have_dashes_and_a_negative_value() -> None:
    config = load_config(CONFIGS / "mmimdb.yaml", ["--train.weight-decay", "0.5", "--backbone", "-1.x"])

    assert (config.train.weight_decay, config.backbone) == (0.5, "-1.x")


@pytest.mark.parametrize("field", ["data.seed", "train.seed", "missing.train.seed", "missing.test.seed"])
@pytest.mark.parametrize(("seed", "rule"), [(-1, "greater than or equal to 0"), (2**32, "less than 4294967296")])
def test_a_seed_that_numpy_does_not_take_is_refused(field: str, seed: int, rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: must be {rule}, not {seed}"):
        load_config(CONFIGS / "mmimdb.yaml", [f"--{field}={seed}"])


def test_values_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("[" * 500)

    with pytest.raises(ConfigError, match="is nested too deeply"):
        load_config(tmp_path / "task.yaml")
    with pytest.raises(ConfigError, match=r"flag --labels: its value is nested too deeply"):
        load_config(CONFIGS / "mmimdb.yaml", ["--labels", "[" * 500])


def test_every_wrong_field_is_named_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"mora\.rank: must be greater than 0.*; train\.epoch: is not a field"):
        load_config(CONFIGS / "mmimdb.yaml", ["--train.epoch", "3", "--mora.rank", "0"])


def test_bf16_and_int8_are_tried_within_half_a_point_unless_flags_say_otherwise() -> None:
    flags = ["--export.precisions", "[int8, fp16]", "--export.accuracy_budget", "1.5"]

    default, wider = load_config(CONFIGS / "mmimdb.yaml").export, load_config(CONFIGS / "mmimdb.yaml", flags).export

    assert (default.precisions, default.accuracy_budget) == (("bf16", "int8"), 0.5)
    assert (wider.precisions, wider.accuracy_budget) == (("int8", "fp16"), 1.5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--missing.train.ratio", "1.2"], "missing.train.ratio"),
        (["--train.epoch", "3"], "train.epoch: is not a field; the closest is train.epochs"),
        (["--epochs", "3"], "epochs: is not a field; the closest is train.epochs"),
        (["--train.epochs", "many"], "train.epochs: must be a whole number, not 'many'"),
        (["--train", "3"], "train: must be a group of fields, not 3"),
        (["--data.image", "null", "--data.text", "null"], "both null; name at least one column"),
        (["--problem", "regression"], "problem"),
        (["--train.epochs"], "needs a value"),
        (["--train.epochs", "3", "--labels", "[a"], "flag --labels: '\\[a' is not a YAML value"),
        (["epochs"], "unexpected argument"),
        (["--task.name", "x"], "task has no fields; give --task VALUE"),
        (["--task", "../etc"], "task: must be up to 63 of a-z"),
        (["--data.text", "@caption"], "data.text"),
        (["--labels", "[red, red]"], "labels must be different"),
        (["--data.test_share", "0.95"], "leave no items to train on"),
        (["--train.warmup_ratio", "1.0"], "warmup_ratio"),
        (["--export.accuracy_budget", "-1"], "export.accuracy_budget"),
        (["--export.precisions", "[int4]"], "export.precisions"),
        (["--coverage.share", "1"], "coverage.share"),
        (["--coverage.by", "label"], "coverage.by"),
        (["--coverage.by", "class"], "coverage.by: class is for single-label tasks; set coverage.by to pattern"),
    ],
)
def test_a_wrong_field_is_named_on_one_line(flags: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load_config(CONFIGS / "mmimdb.yaml", flags)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"), [("- a list", "not a YAML mapping"), ("a: [", "cannot read"), (None, "cannot read")]
)
def test_an_invalid_file_is_an_error(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "task.yaml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigError, match=says):
        load_config(path)


def test_a_flag_before_the_file_is_explained() -> None:
    with pytest.raises(ConfigError, match="CONFIG comes first"):
        load_config(Path("--train.epochs"))


def test_the_error_for_an_unreadable_backbone_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "model.safetensors"
    weights.touch()
    monkeypatch.setattr("os.access", lambda path, mode: path != weights)

    result = CliRunner().invoke(app, ["show", str(CONFIGS / "mmimdb.yaml"), "--backbone", str(tmp_path)])

    assert result.exit_code == 1
    assert result.stderr == f"error: backbone: this user may not read {weights}; try chmod a+r\n"


def test_the_error_for_an_unknown_backbone_names_it() -> None:
    result = CliRunner().invoke(app, ["show", str(CONFIGS / "mmimdb.yaml"), "--backbone", "nobody/no-such-model"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: backbone: nobody/no-such-model")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"task: x\ndata:\n\ttrain: shop.csv\n", "line 3, column 1: .* indent with spaces"),
        (b"task: [x\nproblem: y\n", r"line 2, column 8: while parsing a flow sequence, .* needs quotes"),
        (b"task: x\n# caf\xe9\n", "it is not UTF-8 in line 2; save it as UTF-8"),
        (b"", "is not a YAML mapping"),
        (None, r"task\.yaml: No such file or directory; correct the path"),
    ],
)
def test_the_error_for_an_invalid_file_names_line_and_cause_on_one_line(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "task.yaml").write_bytes(content)

    with pytest.raises(ConfigError, match=says) as error:
        load_config(tmp_path / "task.yaml")

    assert "\n" not in str(error.value)
