"""The commands of `mora-store`.

Covers model_store.describe.tables.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from datetime import timedelta, timezone

import numpy as np
import pytest
from typer.testing import CliRunner

from model_store import Pattern, Precision, Store, blob_of, cli, publish, store_options, writing
from model_store.cli import app
from model_store.describe.tables import plain, size
from model_store.label_sets import LabelSets, quantiles
from model_store.server_comparison import RefusedVersion, ServerComparison


@pytest.fixture
def run(store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)])

    return invoke


@pytest.fixture
def three_versions(store, draft):
    for tail in ("first", "second", "third"):
        publish(store, *draft(tail=tail))
    return store


def assert_one_line_error(result, *words):
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def test_list_shows_each_task_on_a_row(three_versions, draft, run):
    publish(three_versions, *draft("vegetables"))

    result = run("list")

    assert result.exit_code == 0
    (fruit,) = [line for line in result.stdout.splitlines() if "fruit" in line]
    for cell in ("3", "1, 2, 3", "multi_label", "2", "B"):
        assert cell in fruit
    assert "vegetables" in result.stdout


def test_tables_are_complete_on_a_narrow_terminal(three_versions, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    assert "…" not in run("list").stdout + run("show", "fruit").stdout


def test_list_json_has_the_same_facts(three_versions, draft, run):
    rows = json.loads(run("list", "--json").stdout)

    assert rows == [
        {
            "task": "fruit",
            "live": 3,
            "versions": [1, 2, 3],
            "problem": "multi_label",
            "labels": ["apple", "pear"],
            "backbone": "openai/clip-vit-base-patch16",
            "precisions": ["fp32"],
            "bytes": sum(map(len, draft(tail="third").blobs.values())),
        }
    ]


def test_list_shows_a_damaged_task_beside_the_good_ones(three_versions, draft, run):
    publish(three_versions, *draft("vegetables"))
    (three_versions.root / "tasks/fruit/3/manifest.json").write_text("{")

    assert "damaged" in run("list").stdout
    fruit, vegetables = json.loads(run("list", "--json").stdout)
    assert "tasks/fruit/3/manifest.json" in fruit["error"]
    assert "error" not in vegetables


def test_list_of_an_empty_store_names_the_command_that_fills_it(store, run):
    store.root.mkdir()

    result = run("list")

    assert result.exit_code == 0
    assert "mora-train fit" in result.stdout
    assert json.loads(run("list", "--json").stdout) == []


def test_show_prints_metrics_calibration_graphs_and_provenance(three_versions, run):
    result = run("show", "fruit")

    assert result.exit_code == 0
    for fact in ("3 (live)", "apple, pear", "0.8125", "0.7500", "1.250", "0.40 to 0.60", "fp32", "1.0e-06", "a1b2",
                 "seed 0", "torch 2.13.0", "2026-01-02 03:04:05", "both 30%", "77 tokens"):  # fmt: skip
        assert fact in result.stdout
    assert "1 (not live)" in run("show", "fruit", "--version", 1).stdout


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        ({}, []),
        ({"both": 9}, ["coverage up to 0.9, from 9 items"]),
        ({"both": 1200, "image": 19, "text": 10}, ["0.999, from 1,200", "0.95, from 19", "0.909, from 10"]),
    ],
)
def test_show_prints_the_highest_coverage_of_each_pattern(store, draft, run, items, shown):
    manifest, blobs = draft()
    sets = LabelSets(by_pattern={name: quantiles(np.linspace(0, 1, count)) for name, count in items.items()})
    publish(store, manifest.model_copy(update={"label_sets": sets if items else None}), blobs)

    text = run("show", manifest.task).stdout

    assert all(each in text for each in shown)
    assert text.count("coverage up to") == len(items)


def test_show_json_is_the_manifest(three_versions, run):
    shown = run("show", "fruit", "--version", 2, "--json").stdout

    assert json.loads(shown) == json.loads((three_versions.root / "tasks/fruit/2/manifest.json").read_text())


def test_show_writes_the_report_of_a_version(store, draft, run, tmp_path):
    manifest, blobs = draft()
    page = b"<!doctype html>"
    with_report = manifest.model_copy(update={"report": blob_of(page)})
    publish(store, with_report, {**blobs, blob_of(page).sha256: page})
    publish(store, manifest, blobs)

    written = run("show", manifest.task, "--version", 1, "--report", tmp_path / "report.html")
    without = run("show", manifest.task, "--report", tmp_path / "none.html")

    assert written.exit_code == 0
    assert (tmp_path / "report.html").read_bytes() == page
    assert without.exit_code == 1
    assert "without a report" in without.stderr
    assert not (tmp_path / "none.html").exists()


def test_the_store_is_by_default_that_of_the_environment(store, draft, run, monkeypatch):
    publish(store, *draft())
    monkeypatch.setenv("MORA_STORE", str(store.root))

    assert CliRunner().invoke(app, ["verify"]).stdout == run("verify").stdout != ""


@pytest.mark.parametrize("target", ["oci://registry.example/shop:kind", "s3://bucket/a,s3://bucket/b", "hf://x/y"])
def test_a_target_is_no_store(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = CliRunner().invoke(app, ["list", "--store", target])
    of_environment = CliRunner().invoke(app, ["seed", "."], env={"MORA_STORE": target})

    assert (given.exit_code, of_environment.exit_code) == (2, 2)
    for result in (given, of_environment):
        assert "a target is no folder on this machine; name a folder" in result.stderr
    assert "MORA_STORE" in of_environment.stderr
    assert list(tmp_path.iterdir()) == []


def test_seed_names_its_source_if_that_is_no_store(run, tmp_path):
    result = run("seed", tmp_path / "none")

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: no model store at {tmp_path / 'none'}: it is not a folder; SOURCE names the folder of a store\n"
    )


def test_show_replaces_a_file_with_a_report_only_if_told_to(store, draft, run, tmp_path):
    manifest, blobs = draft()
    page = b"<!doctype html>"
    with_report = manifest.model_copy(update={"report": blob_of(page)})
    publish(store, with_report, {**blobs, blob_of(page).sha256: page})
    (tmp_path / "notes.html").write_text("mine")

    refused = run("show", manifest.task, "--report", tmp_path / "notes.html")
    kept = (tmp_path / "notes.html").read_text()
    forced = run("show", manifest.task, "--report", tmp_path / "notes.html", "--force")

    assert (refused.exit_code, kept) == (1, "mine")
    assert "notes.html exists; choose another name, or add --force" in refused.stderr
    assert (forced.exit_code, (tmp_path / "notes.html").read_bytes()) == (0, page)


def test_text_of_a_manifest_cannot_control_the_terminal(store, draft, run):
    manifest, blobs = draft()
    labels = ("\x1b[2J[red]apple\n", "pear " * 30)
    zone = timezone(timedelta(hours=1), "\x1b[31m")
    made = manifest.provenance.model_copy(update={"created_at": manifest.provenance.created_at.astimezone(zone)})
    publish(store, manifest.model_copy(update={"labels": labels, "provenance": made}), blobs)

    shown = run("show", "fruit").stdout

    assert "\x1b" not in shown
    assert "[2J[red]apple" in shown


def test_verify_checks_every_version_on_a_line_each(three_versions, draft, run):
    publish(three_versions, *draft("vegetables"))

    result = run("verify")

    assert result.exit_code == 0
    heads = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert heads == ["ok   fruit 1", "ok   fruit 2", "ok   fruit 3", "ok   vegetables 1"]
    assert run("verify", "fruit", "--version", 2).stdout.startswith("ok   fruit 2: 8 files")


def test_verify_goes_on_after_damage_and_exits_with_1(three_versions, draft, run):
    head = draft(tail="second").manifest.head.sha256
    (three_versions.root / "blobs/sha256" / head).write_bytes(b"damaged")

    result = run("verify")

    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "ok   fruit 1",
        "BAD  fruit 2",
        "ok   fruit 3",
    ]
    assert head in result.stdout
    assert run("verify", "fruit", "--version", 3).exit_code == 0


@pytest.mark.parametrize("text", ["9\n", "newest\n"])
def test_verify_reports_a_live_file_without_its_version(three_versions, run, text):
    (three_versions.root / "tasks/fruit/live").write_text(text)

    result = run("verify", "fruit")

    assert result.exit_code == 1
    assert "BAD  fruit live: " in result.stdout
    assert "mora-store activate fruit" in result.stdout


def test_verify_of_an_empty_store_is_an_error(store, run):
    store.root.mkdir()

    assert_one_line_error(run("verify"), "nothing to verify")


def test_verify_refuses_a_version_without_a_task(three_versions, run):
    result = run("verify", "--version", 1)

    assert result.exit_code == 2
    assert "TASK" in result.stderr


def test_activate_and_rollback_move_live(three_versions, run):
    assert run("activate", "fruit", 1).stdout == "fruit: version 1 is live\n"
    assert three_versions.live("fruit") == 1
    assert run("activate", "fruit", 3).exit_code == 0
    assert run("rollback", "fruit").stdout == "fruit: version 2 is live again\n"
    assert three_versions.live("fruit") == 2


def test_gc_prints_the_removed_files_and_the_freed_bytes(three_versions, run):
    (three_versions.root / "blobs/sha256/unneeded").write_bytes(b"x" * 1500)
    left_behind = three_versions.root / ".staging/0123"
    left_behind.mkdir()
    (left_behind / "half a blob").write_bytes(b"y" * 20)

    result = run("gc")

    assert result.stdout.splitlines() == [
        "removed .staging/0123 (20 B)",
        "removed blobs/sha256/unneeded (1.5 kB)",
        "2 removed, 1520 bytes freed",
    ]
    assert run("gc").stdout == "0 removed, 0 bytes freed\n"


def test_prune_prints_what_it_removes_and_the_freed_bytes(three_versions, run):
    before = three_versions.versions("fruit")
    planned = run("prune", "fruit", "--keep", 1, "--dry-run").stdout.splitlines()
    assert three_versions.versions("fruit") == before == [1, 2, 3]

    lines = run("prune", "fruit", "--keep", 1).stdout.splitlines()

    assert three_versions.versions("fruit") == [2, 3]
    assert lines[0].startswith("removed tasks/fruit/1 (")
    assert all(line.startswith("removed blobs/sha256/") for line in lines[1:-1])
    count, total = re.fullmatch(r"(\d+) removed, (\d+) bytes freed", lines[-1]).groups()
    assert planned == [
        *(line.replace("removed", "would remove", 1) for line in lines[:-1]),
        f"{count} would be removed, {total} bytes would be freed; nothing has changed",
    ]
    again = run("prune", "--keep", 1)
    assert (again.exit_code, again.stdout) == (0, "0 removed, 0 bytes freed\n")


@pytest.mark.parametrize("arguments", [(), ("fruit",), ("--keep", 0), ("--keep", "all")], ids=str)
def test_prune_needs_the_number_of_versions_to_keep(three_versions, run, arguments):
    result = run("prune", *arguments)

    assert result.exit_code == 2
    assert "--keep" in result.stderr
    assert three_versions.versions("fruit") == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("show", "vegetables"), "no task vegetables"),
        (("show", "../fruit"), "a task name has"),
        (("show", "fruit", "--version", 9), "no version 9"),
        (("verify", "vegetables"), "no task vegetables"),
        (("activate", "fruit", 9), "no version 9"),
        (("activate", "vegetables", 1), "no task vegetables"),
        (("rollback", "vegetables"), "no task vegetables"),
        (("prune", "vegetables", "--keep", 1), "no task vegetables"),
    ],
    ids=str,
)
def test_errors_are_one_line_on_stderr(three_versions, run, arguments, word):
    assert_one_line_error(run(*arguments), word)


def test_a_manifest_with_many_faults_is_one_line_too(three_versions, run):
    (three_versions.root / "tasks/fruit/3/manifest.json").write_text('{"secret": "do not echo"}')

    result = run("show", "fruit")

    assert_one_line_error(result, "tasks/fruit/3/manifest.json", "is missing")
    assert "do not echo" not in result.output


def test_the_error_for_a_manifest_of_another_release_names_the_cause(three_versions, run):
    path = three_versions.root / "tasks/fruit/3/manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 99'))

    assert_one_line_error(run("show", "fruit"), "schema_version 99", "publish the version again")


def test_an_unknown_task_or_version_is_reported_with_the_known_ones(three_versions, run):
    root = three_versions.root
    assert_one_line_error(run("show", "fruits"), f"no task fruits in {root}; it has fruit")
    assert_one_line_error(run("show", "fruit", "--version", 9), "no version 9; it has 1, 2, 3")
    assert_one_line_error(
        run("sign", "fruit", "--key", root / "key"), f"{root}/key: No such file or directory; correct the path"
    )
    (root / "tasks/fruit/live").unlink()
    assert_one_line_error(run("show", "fruit"), f"run `mora-store activate fruit VERSION --store {root}`")
    assert_one_line_error(run("rollback", "fruit"), "task fruit is not live; `mora-store activate fruit VERSION`")


@pytest.mark.parametrize(
    "arguments",
    [
        *(("list",), ("show", "x"), ("verify",), ("activate", "x", 1), ("rollback", "x")),
        *(("prune", "--keep", 1), ("gc",)),
    ],
    ids=str,
)
def test_a_missing_folder_is_an_error_and_is_not_created(store, run, arguments):
    assert_one_line_error(run(*arguments), "no model store at")
    assert not store.root.exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("arguments", [("activate", "fruit", 1), ("rollback", "fruit")], ids=str)
def test_a_disk_error_is_one_line(three_versions, run, monkeypatch, arguments, error):
    def refuse(path, data):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(writing, "write_synced", refuse)

    assert_one_line_error(run(*arguments), os.strerror(error))
    assert three_versions.live("fruit") == 3


def test_help_names_every_command_with_an_example(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    commands = ("list", "show", "sbom", "verify", "activate", "rollback", "push", "pull", "follow", "prune", "gc")

    for arguments in ([], ["--help"]):
        shown = CliRunner().invoke(app, arguments).output
        for word in (*commands, "live"):
            assert word in shown
    for command in commands:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "--store" in result.output


def test_the_default_store_is_the_one_shipped(monkeypatch):
    opened = []
    monkeypatch.setattr(store_options, "Store", lambda root, trusted: opened.append(root) or Store(root, trusted))

    assert CliRunner().invoke(app, ["list"]).exit_code == 0
    assert [root.name for root in opened] == ["model_store"]


def test_the_command_line_imports_neither_torch_nor_transformers():
    script = "import sys, model_store.cli; print({'torch', 'transformers', 'onnxruntime'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_plain_text_is_one_printable_line():
    assert plain("two\nlines\tand \x1b[31mred\x07") == "two lines and [31mred"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (33_100_000, "33.1 MB"),
        (5 * 10**9, "5.0 GB"),
        (10**15, "1.0 PB"),
    ],
)
def test_sizes_have_a_readable_unit(count, shown):
    assert size(count) == shown


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [({}, "-"), ({"text_weights": 12_000}, "12.0 kB"), ({"image_weights": 8_000, "text_weights": 12_500}, "20.5 kB")],
)
def test_show_adds_up_the_weights_of_the_tails(store, draft, run, sizes, shown):
    manifest, blobs = draft()
    fp32 = manifest.graphs[Precision.FP32]
    weights = {name: name[:1].encode() * count for name, count in sizes.items()}
    own = fp32.model_copy(update={name: blob_of(data) for name, data in weights.items()})
    more = {blob_of(data).sha256: data for data in weights.values()}
    publish(store, manifest.model_copy(update={"graphs": {Precision.FP32: own}}), blobs | more)

    (row,) = [line for line in run("show", "fruit").stdout.splitlines() if "│ fp32" in line]

    assert [cell.strip() for cell in row.split("│")][6] == shown


def test_list_and_show_count_every_precision(store, draft, run):
    manifest, blobs = draft()
    fp32 = manifest.graphs[Precision.FP32]
    changes = {Pattern.BOTH: 0.1, Pattern.IMAGE: -0.46, Pattern.TEXT: 0.0}
    graphs = {Precision.FP32: fp32, Precision.INT8: fp32.model_copy(update={"metric_change": changes})}
    publish(store, manifest.model_copy(update={"graphs": graphs}), blobs)

    assert json.loads(run("list", "--json").stdout)[0]["precisions"] == ["fp32", "int8"]
    (row,) = [line for line in run("show", "fruit").stdout.splitlines() if "int8" in line]
    assert "-0.46 points" in row


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        (None, "http://replica answers with version 3"),
        (
            RefusedVersion(version=3, reason="golden_mismatch"),
            "with version 2 because it refused version 3: golden_mismatch (see its log)",
        ),
        (
            RefusedVersion(version=None, reason="manifest"),
            "with version 2 because it refused the content of `live`: manifest",
        ),
    ],
    ids=str,
)
def test_show_prints_the_version_that_a_service_answers_with(three_versions, run, monkeypatch, refused, sentence):
    calls = []

    def answer(*arguments):
        calls.append(arguments)
        return ServerComparison(version=2 if refused else 3, refused=refused)

    monkeypatch.setattr(cli, "compare_with_server", answer)

    shown = run("show", "fruit", "--url", "http://replica")

    assert shown.exit_code == 0
    assert sentence in shown.stdout.splitlines()[-1]
    assert calls == [("http://replica", "fruit", None)]


def test_show_of_a_service_that_does_not_answer_is_an_error_after_the_version(three_versions, run):
    result = run("show", "fruit", "--url", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "3 (live)" in result.stdout
    assert result.stderr.startswith("error: --url: http://127.0.0.1:1 gives no answer: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("from_file", [True, False], ids=["file", "environment"])
def test_show_reads_the_key_from_a_file_or_else_the_environment(three_versions, run, monkeypatch, tmp_path, from_file):
    calls = []
    monkeypatch.setattr(
        cli,
        "compare_with_server",
        lambda *arguments: calls.append(arguments) or ServerComparison(version=3, refused=None),
    )
    monkeypatch.setenv("MORA_API_KEY", "key-of-the-environment")
    (tmp_path / "key").write_text("key-of-the-file\n")

    shown = run("show", "fruit", "--url", "http://replica", *(["--api-key-file", tmp_path / "key"] * from_file))

    assert shown.exit_code == 0
    assert calls == [("http://replica", "fruit", "key-of-the-file" if from_file else "key-of-the-environment")]


@pytest.mark.parametrize("content", ["canary with space", "canary\nX-Other: 1", "canar\u00ff", "", "canary" * 100])
def test_an_invalid_key_is_one_line_without_the_key(three_versions, run, tmp_path, content):
    (tmp_path / "key").write_bytes(content.encode())

    result = run("show", "fruit", "--url", "http://127.0.0.1:1", "--api-key-file", tmp_path / "key")

    assert result.exit_code == 1
    assert "an API key has 1 to 256 printable ASCII characters" in result.stderr
    assert "canar" not in result.stdout + result.stderr


def test_show_prints_a_manifest_or_asks_a_service(three_versions, run):
    assert run("show", "fruit", "--json", "--url", "http://127.0.0.1:1").exit_code == 2


def test_a_command_in_a_message_has_its_paths_in_quotes(tmp_path, draft):
    store = Store(tmp_path / "two words")
    publish(store, *draft())

    said = CliRunner().invoke(app, ["withdraw", "fruit", "--store", str(store.root)]).output

    assert f"`mora-store activate fruit 1 --store '{store.root}'` undoes this" in " ".join(said.split())


def test_withdraw_says_how_to_undo_it_and_list_shows_it(run, store, draft):
    publish(store, *draft())

    said = run("withdraw", "fruit")

    assert said.exit_code == 0
    assert f"mora-store activate fruit 1 --store {store.root}" in said.output
    assert "withdrawn" in run("list").output
    assert json.loads(run("list", "--json").output)[0]["withdrawn"] is True
    assert run("withdraw", "fruit").exit_code == 1
    assert run("activate", "fruit", 1).exit_code == 0
    assert "withdrawn" not in run("list").output
