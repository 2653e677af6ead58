"""The code of the documents is run, or read as what would run it reads it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from examples.demo import service
from model_store import DEFAULT_STORE, Store
from tests.docs import shell
from tests.docs.documents import DOCUMENTS, ROOT, Block, blocks, spans
from tests.support.transfer.places import running_registry
from training.config import TaskConfig

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
LANGUAGES = {"sh", "python", "json", "yaml", "promql", "text"}  # promql: tests/deploy/test_prometheus.py
SHIPPED = set(Store(DEFAULT_STORE).tasks())
READING = {"mora-store": {"list", "show", "verify", "sbom"}, "mora-serve": {"hash-key"}}  # these change nothing
# Programs whose commands are not run. Those of our own within them (docker compose run) are read as all others.
NOT_RUN = {
    "apt-get": "installs",
    "cp": "copies what a reader has",
    "cat": "writes a file of the reader's",
    "chmod": "of a file that a reader has",
    "docker": "needs an engine: make docker-test",
    "docker-compose": "needs an engine: make docker-test",
    "export": "of the reader's shell",
    "grep": "filters a log that is not there",
    "head": "after others",
    "jq": "after others",
    "kubectl": "needs a cluster: tests/deploy/test_kubernetes.py",
    "make": "installs and runs; its targets are checked",
    "mkdir": "for what a reader has",
    "mora-serve": "runs until stopped, makes keys, or needs Ray: tests/service",
    "model_signing": "verifies a signed version: tests/model_store/test_openssf.py",
    "mora-train": "trains on a reader's data: tests/training",
    "node": "needs packages of npm: make client-test",
    "npm": "installs",
    "openssl": "needs a signed version: tests/model_store/test_signing.py",
    "pip": "installs",
    "prometheus": "runs until stopped: tests/deploy/test_prometheus.py checks the configuration",
    "promtool": "needs Prometheus: tests/deploy/test_prometheus.py",
    "python": "runs for long; its module is checked",
    ".venv/bin/python": "runs the tests",
    "ray": "starts a cluster: make ray-test",
    "rm": "removes what a reader made",
    "sed": "edits a file of the reader's",
    "serve": "starts a cluster: make ray-test",
    "sort": "after others",
    "source": "of the reader's shell",
    "uniq": "after others",
}
MADE = {"docker/api-keys"}  # by the commands themselves


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service on the shipped store."""
    with service() as url:
        yield url


def of(language: str) -> list:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language]


def is_run(words: list[str]) -> bool:
    """What asks a service, or only reads; both of tasks that are shipped, not of a reader's own."""
    if words[:2] == ["mora-serve", "classify"]:  # an item that is there, not a reader's file or standard input
        return "-" not in words and "--store" not in words and bool({"--text", "--image"} & {*words})
    if words[0] in READING and words[1] in READING[words[0]]:
        tasks = [word for word in words[2:3] if not word.startswith("-")]
        return words[0] == "mora-serve" or ("--store" not in words and set(tasks) <= SHIPPED)
    line = " ".join(words)
    tasks = re.findall(r'\btask"?[=:] ?"?([\w.-]+)', line)
    is_answered = bool(tasks) or "/classify" not in line  # a service with one task alone needs no name
    return words[0] == "curl" and is_answered and set(tasks) <= SHIPPED


def faults(text: str) -> list[str]:
    """What is wrong with the commands of a block, as far as it shows without running them."""
    found = []
    for words in shell.commands(text):
        inner = shell.within_image(words)
        for line in filter(None, [words, inner]):
            if line[0] in shell.GROUPS:
                found += filter(None, [shell.mistake(line)])
        if words[0] not in NOT_RUN and words[0] not in ("curl", "mora-store"):
            found.append(f"{words[0]}: neither run nor in NOT_RUN")
        if words[0] == "make":
            found += [f"make has no {word}" for word in words[1:] if "=" not in word and word not in shell.TARGETS]
        if words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2]) is None:
            found.append(f"no module {words[2]}")
        found += [f"{word} is not there" for word in words if is_of_the_repository(word) and not any(ROOT.glob(word))]
    return found


def is_of_the_repository(word: str) -> bool:
    is_path = word.startswith(("docker/", "examples/", "tests/", "docs/")) and "/data/" not in word
    return is_path and word not in MADE and "{" not in word


def test_every_block_says_its_language():
    assert len(BLOCKS) > 40
    assert [f"{block}: {block.language or 'indented'}" for block in BLOCKS if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", of("sh"))
def test_commands_have_what_they_name(block: Block):
    assert faults(block.text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mora-store show TASK --ur http://localhost:8000", "No such option: --ur"),
        ("mora-store shov TASK", "no command shov"),
        ("mora-train publish runs/shop --stor DIR", "stor"),
        ("mora-train fit shop.yaml --output runs/shop --train.epoch 3", "train.epoch"),
        ("mora-train fit shop.yaml", "output"),
        ("mora-serve run --prot 8000", "No such option: --prot"),
        ("docker compose run --rm --entrypoint mora-store train list --stor /store", "No such option: --stor"),
        ("docker compose run --rm train fit /data/shop.yaml --output /runs/shop --mora.rang 4", "mora.rang"),
        ("make dcos", "make has no dcos"),
        ("python -m benchmarks.gone", "no module benchmarks.gone"),
        ("docker compose -f docker/gone.yml up", "docker/gone.yml is not there"),
        ("X=1 rmdir build   # gone", "rmdir: neither run nor in NOT_RUN"),
        ("cat > a <<'END'\nrmdir: a\nEND\nrmdir b", "rmdir: neither run nor in NOT_RUN"),
    ],
)
def test_a_wrong_command_is_found(text, fault):
    (found,) = faults(text)
    assert fault in found


def test_commands_in_sentences_have_their_options():
    found = {
        (str(document.relative_to(ROOT)), span)
        for document in DOCUMENTS
        for span in spans(document.read_text())
        if span.split(" ")[0] in shell.GROUPS and "/" not in span.split(" ")[0]
    }

    assert len(found) > 40
    assert {(place, span): wrong for place, span in found if (wrong := shell.unknown_options(span.split()))} == {}
    wrong = shell.unknown_options(["mora-train", "fit", "CONFIG", "--mora.rank", "8", "--mora.rang", "8", "--outptu"])
    assert wrong == ["--mora.rang", "--outptu"]


@pytest.mark.parametrize("block", of("sh"))
def test_runnable_blocks_give_the_shown_answers(block: Block, request: pytest.FixtureRequest):
    for words in filter(is_run, shell.commands(block.text)):
        answer = ask(words, request.getfixturevalue("url"))
        shown = BLOCKS[BLOCKS.index(block) + 1] if block != BLOCKS[-1] else block
        if shown.document == block.document and shown.language == "json" and words[0] == "curl":
            assert agree(json.loads(answer), shown.text)


def ask(words: list[str], url: str) -> str:
    """What a command prints; it has to succeed."""
    here = [re.sub(r"(http://)?localhost:80[08]0", url, word) for word in words]
    if words[0] in shell.APPS:
        answer = CliRunner().invoke(shell.APPS[words[0]], here[1:])
        assert answer.exit_code == 0, answer.output
        return answer.output
    if shutil.which("curl") is None:
        pytest.skip("needs curl (apt install curl)")
    command = [*here, "--noproxy", "*", "--silent", "--show-error", "--fail-with-body"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_on_signatures_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DEFAULT_STORE / "tasks", "store/tasks")
    shutil.copytree(DEFAULT_STORE / "blobs", "store/blobs")
    block, *_ = [block for block in BLOCKS if block.document.name == "signing.md"]  # others: test_openssf.py, ...
    said = {}
    for words in shell.commands(block.text):
        if words[0] == "mora-store":
            store = [] if words[1] == "keygen" else ["--store", "store"]
            here = [word.replace("shop-kind", "clipart-category") for word in words[1:]] + store
            answer = CliRunner().invoke(shell.APPS["mora-store"], here)
            assert answer.exit_code == 0, answer.output
            said[words[1]] = answer.output

    assert said.keys() == {"keygen", "sign", "show"}
    assert f"by the trusted key {said['keygen'].split(':')[0]}" in " ".join(said["show"].split())


def test_the_page_on_transfer_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if block.document.name == "transfer.md" and "mora-store push" in block.text]
    with running_registry(tmp_path / "registry") as host:
        said = {}
        for words in shell.commands(block.text):
            here = [
                word.replace("shop-kind", "clipart-category").replace("registry.example", host) for word in words[1:]
            ]
            plain = ["--plain-http"] if words[1] in ("push", "pull") else []
            answer = CliRunner().invoke(shell.APPS["mora-store"], [*here, *plain])
            assert answer.exit_code == 0, answer.output
            said[words[1]] = answer.output

    assert said.keys() == {"push", "pull", "show"}
    assert Store(tmp_path / "served").verify("clipart-category") == Store(DEFAULT_STORE).manifest("clipart-category")


def agree(answer: dict, shown: str) -> bool:
    """Whether an answer has the form that is shown; what ends with `...}` shows some of its members."""
    members = uncut(shown)
    is_whole = not shown.rstrip().endswith("...}")
    return form(members) == form(answer if is_whole else {name: answer.get(name) for name in members})


def uncut(shown: str) -> dict:
    return json.loads(re.sub(r",\s*\.\.\.", "", shown))


def test_an_answer_of_another_form_is_found():
    answer = {"task": "a", "labels": [{"label": "b", "score": 0.5}]}

    assert agree(answer, '{"task": "c", "labels": [{"label": "d", "score": 1}, ...]}')
    assert agree(answer, '{"labels": [{"label": "d", "score": 1}], ...}')
    assert not agree(answer, '{"labels": [{"label": "d", "score": 1}]}')
    assert not agree(answer, '{"task": "c", "labels": [{"name": "d", "score": 1}]}')
    assert not agree(answer, '{"task": "c", "labels": [{"label": "d", "score": "1"}]}')


def form(value: object) -> object:
    """The names of an answer and the types below them, of lists the first item's."""
    if isinstance(value, dict):
        return {name: form(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [form(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    source = "\n" * (block.line - 1) + block.text.replace("http://127.0.0.1:8000", url)
    exec(compile(source, block.document, "exec"), {})  # noqa: S102


@pytest.mark.parametrize("block", of("json"))
def test_json_is_json(block: Block):
    uncut(block.text)


@pytest.mark.parametrize("block", of("yaml"))
def test_configurations_are_valid(block: Block):
    values = yaml.safe_load(block.text)
    if values.keys() <= TaskConfig.model_fields.keys():
        shell.config_of(block.text)
