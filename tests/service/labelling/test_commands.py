"""`mora-serve classify`: a store and a service give the same answers; errors are printed in one line.

Covers service.labelling.command_errors.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import urllib3
from typer.testing import CliRunner

import service.labelling.labelled_file
from service.cli import app
from service.labelling.answerers import StoreAnswerer
from service.labelling.rows import COLUMNS, SET_COLUMNS
from tests.support.closed_service import CANARY
from tests.support.made_data_set import label_data, write_data_set
from tests.support.odd_pictures import encoded
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
FAULTS = {"missing_input", "image_undecodable", "image_format", "not_found"}


@pytest.fixture(params=["store", "service"])
def place(request, real):
    """The options that name a store, and the options that name a service of this store."""
    return real.options(request.param)


def as_json_lines(folder, pixels):
    """The rows of `write_data_set` as JSON lines with paths of pictures, and four more rows."""
    write_data_set(folder, pixels, "path")
    rows = pq.read_table(folder / "a.parquet").to_pylist()
    more = [
        {"id": "half", "text": "\ud800"},
        {"id": 5, "text": 7},
        {"id": 6, "image": [1]},
        {"image": "  ", "text": "a"},
    ]
    file = folder / "a.jsonl"
    file.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in [*rows, *more]))
    return file


def as_csv(folder, pixels):
    write_data_set(folder, pixels, "path")
    rows = pq.read_table(folder / "a.parquet").to_pylist()
    with (folder / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "a.csv"


def as_parquet(folder, pixels):
    write_data_set(folder, pixels, "struct")
    return folder / "a.parquet"


def as_folder(folder, pixels):
    write_data_set(folder, pixels, "path")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "more" / "z.JPG").write_bytes(b"BM")
    return folder


@pytest.mark.parametrize(
    ("write", "codes"),
    [
        (as_json_lines, FAULTS | {"bad_text", "bad_value"}),
        (as_csv, FAULTS),
        (as_parquet, FAULTS),
        (as_folder, {"image_undecodable", "image_format", "missing_input"}),
    ],
)
@pytest.mark.parametrize("task", ["fruit", "tags"])
@pytest.mark.slow
def test_a_service_answers_every_row_as_a_store_does(run, real, tmp_path, pixels, write, codes, task):
    source = write(tmp_path / "in", pixels)

    here = run(source, "--task", task, "--store", real.store)
    there = run(source, "--task", task, "--url", real.url, "--api-key-file", real.key_file)

    assert (here.exit_code, there.exit_code) == (0, 0), here.stderr + there.stderr
    own, asked = ([json.loads(line) for line in done.stdout.splitlines()] for done in (here, there))
    assert len(own) == len(asked) > 20
    for row, other in zip(own, asked, strict=True):
        for name in ("predicted_score", "top_scores"):
            assert row.pop(name) == pytest.approx(other.pop(name), abs=1e-6)
        assert row == other
    assert {row["error"] for row in own} == {None, *codes}
    assert {tuple(row["modalities"].values()) for row in own if row["error"] is None} >= {("used", "absent")}
    assert here.stderr.splitlines()[1:] == there.stderr.splitlines()[1:]  # which rows failed, and why


@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
def test_a_parquet_file_gets_the_columns_and_answers_of_bulk(run, real, tmp_path, pixels, form):
    write_data_set(tmp_path / "in", pixels, form)
    for file in ("a.parquet", "more/b.parquet"):
        source = tmp_path / "in" / file
        output = tmp_path / Path(file).name
        label_data(source, tmp_path / f"{output.name}.bulk", real.store, task="fruit", top_k=2)

        done = run(source, "--task", "fruit", "--top-k", 2, "--output", output, "--store", real.store)

        assert done.exit_code == 0, done.stderr
        table, bulk = pq.read_table(output), pq.read_table(tmp_path / f"{output.name}.bulk")
        assert table.schema.equals(bulk.schema)
        for name in table.column_names:
            if name in ("predicted_score", "top_scores"):
                found, expected = (t[name].combine_chunks() for t in (table, bulk))
                assert found.is_null().equals(expected.is_null())
                if name == "top_scores":
                    found, expected = found.flatten(), expected.flatten()
                assert found.drop_null().to_pylist() == pytest.approx(expected.drop_null().to_pylist(), abs=1e-6)
            else:
                assert table[name].equals(bulk[name]), name  # also strings that are none


@pytest.mark.parametrize(
    ("on_disk", "given"), [("cafe\u0301", "caf\u00e9"), ("\u00fc", "u\u0308"), ("\uac00", "\u1100\u1161")]
)
def test_a_file_is_found_by_its_name_in_another_normal_form(run, real, tmp_path, picture, on_disk, given):
    (tmp_path / on_disk).mkdir()
    (tmp_path / on_disk / f"{on_disk}.png").write_bytes(picture)
    (tmp_path / on_disk / "in.csv").write_text(f"image\n{given}.png\n")
    where = ["--task", "fruit", "--store", real.store]

    one = run("--image", tmp_path / given / f"{given}.png", "--json", *where)
    done = [run(tmp_path / given / name, *where) for name in ("", "in.csv")]

    assert one.exit_code == 0, one.stderr
    labels = {json.loads(one.stdout)["labels"][0]["label"]}
    assert {json.loads(each.stdout)["predicted_label"] for each in done} == labels


@pytest.mark.parametrize("blank", [" ", "\u3000\u00a0", "\u200b", "\ufeff", "\u2060\u200e"])
def test_a_blank_text_is_an_absent_text(run, place, blank):
    done = run("--text", blank, "--task", "fruit", *place)

    assert done.exit_code == 1
    assert "Give an image, a text, or both" in done.stderr


def test_each_form_of_output_holds_the_same(run, real, tmp_path, pixels):
    source = as_json_lines(tmp_path / "in", pixels)
    source.write_text("".join(line + "\n" for line in source.read_text().splitlines()[:-8]))  # what csv can hold
    outputs = [tmp_path / f"out.{kind}" for kind in ("jsonl", "csv", "parquet")]

    for output in outputs:
        done = run(source, "--task", "tags", "--keep", "text,id", "--output", output, "--store", real.store)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == ""

    lines = [json.loads(line) for line in outputs[0].read_text().splitlines()]
    assert list(lines[0]) == ["text", "id", *COLUMNS]
    parquet = pq.read_table(outputs[2]).to_pylist()
    assert [_rounded(row) for row in parquet] == [_rounded(row) for row in lines]
    with outputs[1].open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, cell in zip(lines, cells, strict=True):
        assert list(cell) == list(row)
        assert (cell["id"], cell["text"], cell["error"]) == (str(row["id"]), row["text"] or "", row["error"] or "")
        if row["error"] is None:
            assert cell["selected_labels"].split("|") == (row["selected_labels"] or [""])
            assert [float(score) for score in cell["top_scores"].split("|")] == pytest.approx(row["top_scores"])
            assert json.loads(cell["modalities"]) == row["modalities"]
        else:
            assert {cell[name] for name in COLUMNS[:-2]} == {""}


def _rounded(row):
    scores = row["top_scores"] and [round(score, 5) for score in row["top_scores"]]
    return {**row, "top_scores": scores, "predicted_score": scores and scores[0]}


@pytest.mark.parametrize("given", ["image", "text", "both", "stdin"])
@pytest.mark.parametrize("explain", [False, True])
def test_one_item_as_json_is_the_answer_over_http(run, real, place, picture, tmp_path, given, explain):
    (tmp_path / "a.png").write_bytes(picture)
    options = ["--image", "-" if given == "stdin" else tmp_path / "a.png"] if given != "text" else []
    options += ["--text", "a red apple"] if given in ("text", "both") else []
    options += ["--explain"] if explain else []

    done = run(*options, "--task", "fruit", "--top-k", 2, "--json", *place, stdin=picture)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    fields = {} if given == "text" else {"image": base64.b64encode(picture).decode()}
    fields |= {"text": "a red apple"} if given in ("text", "both") else {}
    fields |= {"explain": True} if explain else {}
    assert _shape(json.loads(done.stdout)) == _shape(_asked(real, {**fields, "task": "fruit", "top_k": 2}))


def _asked(real, fields):
    """The answer of `POST /classify`."""
    headers = {"Authorization": f"Bearer {CANARY}"}
    return urllib3.request("POST", f"{real.url}/classify", json=fields, headers=headers).json()


def _shape(answer):
    """An answer with rounded numbers, and without the values that differ in each answer."""
    if isinstance(answer, dict):
        return {name: _shape(value) for name, value in answer.items() if name not in ("request_id", "latency_ms")} | (
            {"latency_ms": list(answer["latency_ms"]), "request_id": len(answer["request_id"])}
            if "latency_ms" in answer
            else {}
        )
    if isinstance(answer, list):
        return [_shape(value) for value in answer]
    return round(answer, 4) if isinstance(answer, float) else answer


def test_one_item_is_shown_with_scores_and_latency(run, place):
    done = run("--text", "a red apple", "--task", "tags", "--explain", *place)

    assert (done.exit_code, done.stderr) == (0, "")
    assert "tags, version 1: image absent, text used" in done.stdout
    for label in ("red", "round", "sweet", "cheap"):
        assert re.search(rf"^{label} +\d+\.\d%", done.stdout, flags=re.MULTILINE)
    assert "carried by the text" in done.stdout
    assert re.search(r"^\d+\.\d ms \(.*text encoder \d", done.stdout, flags=re.MULTILINE)


def test_one_item_without_a_task_is_answered_by_every_task(run, place):
    done = run("--text", "a red apple", "--json", *place)
    alone = [run("--text", "a red apple", "--task", task, "--json", *place) for task in ("fruit", "tags")]

    assert (done.exit_code, done.stderr) == (0, "")
    assert [_shape(json.loads(line)) for line in done.stdout.splitlines()] == [
        _shape(json.loads(one.stdout)) for one in alone
    ]


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
@pytest.mark.slow
def test_one_item_is_shown_and_printed_as_json_with_its_label_set(run, with_sets, place_of_sets, coverage):
    item = ["--text", "a red apple", "--task", "fruit", *place_of_sets]

    as_json, shown = (run(*item, "--coverage", coverage, *more) for more in (["--json"], []))
    without = run(*item, "--json")

    fields = {"text": "a red apple", "task": "fruit", "coverage": coverage}
    found = _asked(with_sets, fields)["label_set"]
    assert json.loads(as_json.stdout)["label_set"] == found
    review = "review: a person should look at this one" if found["review"] else "no review needed"
    assert f"set with coverage {coverage}: {', '.join(found['labels'])}; {review}" in " ".join(shown.stdout.split())
    assert "label_set" not in json.loads(without.stdout)


@pytest.mark.parametrize(("task", "coverage"), [("older", 0.5), ("tags", 0.9), ("fruit", 0.995)])
@pytest.mark.slow
def test_one_item_with_an_unsupported_coverage_is_refused(run, place_of_sets, task, coverage):
    done = run("--text", "red", "--task", task, "--coverage", coverage, *place_of_sets)

    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"error: (422 )?coverage_unsupported: .*\n", done.stderr)


@pytest.mark.parametrize(
    ("task", "coverage", "detail"),
    [
        ("older", 0.5, "Version 1 of older has no label sets; leave out coverage, or train .* at least 100 items .*"),
        ("tags", 0.9, "Version 1 of tags supports a coverage of at most 0.8."),
    ],
)
def test_a_coverage_that_no_row_can_have_is_refused_before_the_first_row(
    run, place_of_sets, tmp_path, table, task, coverage, detail
):
    output = tmp_path / "labelled.csv"
    output.write_text("labels of before")

    done = run(table, "--task", task, "--coverage", coverage, "--output", output, "--force", *place_of_sets)

    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(f"error: coverage_unsupported: {detail}\n", done.stderr)
    assert output.read_text() == "labels of before"


@pytest.mark.parametrize(("task", "coverage"), [("fruit", 0.5), ("fruit", 0.9), ("tags", 0.8)])
def test_every_row_has_its_label_set_or_the_reason_why_not(run, place_of_sets, tmp_path, pixels, task, coverage):
    source = as_json_lines(tmp_path / "in", pixels)

    done = run(source, "--task", task, "--coverage", coverage, "--keep", "text,image", *place_of_sets)

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(row) for row in rows} == {("text", "image", *COLUMNS, *SET_COLUMNS)}
    unsupported = [row for row in rows if row["error"] == "coverage_unsupported"]
    answered = [row for row in rows if row["error"] is None]
    assert {row["modalities"]["image"] for row in answered} == ({"absent"} if task == "tags" else {"absent", "used"})
    assert bool(unsupported) is (task == "tags")
    for row in unsupported:
        assert row["image"]
        assert "support a coverage of none" in row["detail"]
    one = run("--text", "a red apple", "--task", task, "--coverage", coverage, "--json", *place_of_sets)
    found = json.loads(one.stdout)["label_set"]
    sets = [(row["label_set"], row["review"]) for row in answered if row["text"] == "a red apple" and not row["image"]]
    assert sets
    assert all(each == (found["labels"], found["review"]) for each in sets)
    assert all((row["label_set"], row["review"]) == (None, None) for row in rows if row["error"] is not None)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_gets_the_columns_of_label_sets_only_with_a_coverage(run, place_of_sets, tmp_path, picture, kind):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(picture)
    names = {}
    for options in ([], ["--coverage", 0.9]):
        output = tmp_path / f"out{len(options)}.{kind}"
        done = run(tmp_path / "in", "--task", "fruit", "--output", output, *options, *place_of_sets)
        assert done.exit_code == 0, done.stderr
        if kind == "parquet":
            names[output] = pq.read_schema(output).names
        else:
            names[output] = next(csv.reader([output.read_text().splitlines()[0]]))
            names[output] = names[output] if kind == "csv" else list(json.loads(output.read_text()))

    assert list(names.values()) == [["image", *COLUMNS], ["image", *COLUMNS, *SET_COLUMNS]]


@pytest.mark.parametrize("coverage", ["0", "0.49", "1", "1.5", "-0.9", "nan", "inf", "90", "high", ""])
@pytest.mark.parametrize("command", [["classify", "--text", "red"], ["classify", "gone.csv"], ["bulk", "gone", "out"]])
def test_a_coverage_that_is_none_is_a_usage_error(monkeypatch, tmp_path, command, coverage):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command, "--coverage", coverage, "--store", "none"], env={"COLUMNS": "200"})

    assert done.exit_code == 2
    assert "--coverage" in done.stderr
    assert re.search(r"give at least 0\.5 and less than 1, such as 0\.9|should be a valid number", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give --text, --image or both for one item"),
        (["in.csv", "--text", "red"], "--text is for one item, INPUT for many"),
        (["in.csv", "--json"], "--json is for one item"),
        (["--text", "red", "--output", "a.csv"], "--output for many"),
        (["--text", "red", "--store", "a", "--url", "http://a"], "leave one of them out"),
        (["--keep", "id"], "give --text, --image or both"),
    ],
)
def test_conflicting_options_are_refused(run, arguments, complaint):
    done = run(*arguments)

    assert done.exit_code == 2
    assert complaint in re.sub(r"[\s│]+", " ", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["IN", "--text-column", "title"], "no column title; it has id, text"),
        (["IN", "--keep", "id,name"], "no column name to keep; it has id, text"),
        (["IN", "--task", "none"], "there is no task none; .* has fruit, tags"),
        (["IN"], "name a task with --task; .* has fruit, tags"),
        (["--text", "red", "--version", 1], "name a task with --task; .* has fruit, tags"),
        (["--text", "red", "--task", "fruit", "--version", 9], "version 9|unknown_version"),
        (["IN", "--task", "fruit", "--version", 9], "version 9|unknown_version"),
        (["--text", "", "--task", "fruit"], "missing_input: Give an image, a text, or both."),
        (["--image", "IN", "--task", "fruit"], "image_format"),
        (["--image", "gone.png", "--task", "fruit"], "gone.png: No such file or directory; correct the path"),
        (["gone.csv", "--task", "fruit"], "there is no gone.csv"),
        (["IN", "--task", "fruit", "--output", "out.txt"], r"out.txt must end in one of \.csv"),
        (["IN", "--task", "fruit", "--output", "gone/out.csv"], "there is no folder gone"),
        (["IN", "--task", "fruit", "--output", "IN", "--force"], "is the input"),
    ],
)
def test_an_error_is_printed_in_one_line(run, place, table, arguments, complaint):
    done = run(*(table if argument == "IN" else argument for argument in arguments), *place)

    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert re.search(f"^error: .*{complaint}", line)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--keep", "id,image", "--output", "out.csv"], "the column image holds bytes; write .parquet"),
        (["--image-column", "id"], "the column id is int64; an image column holds"),
        (["--text-column", "image"], "the column image is binary; a text column holds"),
    ],
)
def test_an_unsuitable_column_is_refused_before_the_work(run, tmp_path, pixels, monkeypatch, options, complaint):
    monkeypatch.chdir(tmp_path)
    write_data_set(tmp_path / "in", pixels)

    done = run(tmp_path / "in" / "a.parquet", *options, "--store", "none")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {complaint}")


@pytest.mark.parametrize("key", ["wrong", "no key"])
def test_the_error_of_a_closed_or_absent_service_names_the_cure(run, real, table, tmp_path, monkeypatch, key):
    (tmp_path / "wrong").write_text("not-the-key")
    monkeypatch.delenv("MORA_API_KEY", raising=False)
    options = ["--api-key-file", tmp_path / "wrong"] if key == "wrong" else []

    closed = run(table, "--url", real.url, *options)
    absent = run(table, "--url", "http://127.0.0.1:1")

    assert (closed.exit_code, absent.exit_code) == (1, 1)
    assert re.fullmatch(r"error: 401 unauthorized: .* Give a key with --api-key-file or MORA_API_KEY\n", closed.stderr)
    assert re.search(
        r"^error: http://127.0.0.1:1 gives no answer: .*is `mora-serve run` running there\?", absent.stderr
    )


def test_the_key_of_the_environment_opens_the_service(run, real, monkeypatch):
    monkeypatch.setenv("MORA_API_KEY", CANARY)

    done = run("--text", "red", "--task", "fruit", "--url", real.url, "--json")

    assert json.loads(done.stdout)["task"] == "fruit"


def test_failed_rows_are_listed_and_the_other_rows_are_labelled(run, place, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("image,text\n" + "gone.png,\n" * 23 + ",red\n")

    done = run(source, "--task", "fruit", "--output", tmp_path / "out.csv", *place)

    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert said[0].endswith("out.csv, 23 of them without an answer")
    assert said[1:21] == [
        f"  row {number}: not_found: The image does not exist; correct the path, or leave the cell empty."
        for number in range(1, 21)
    ]
    assert said[21:] == ["  and 3 more"]
    assert [row["error"] for row in csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))] == [
        *["not_found"] * 23,
        "",
    ]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
def test_a_folder_is_read_by_content_and_other_files_are_named(run, place, tmp_path, kind):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a", "b.JPG", "c.txt", "deep/d.jfif"):
        (tmp_path / "in" / name).write_bytes(encoded(kind))
    for name in ("Thumbs.db", "notes.txt", "deep/metadata.csv", ".DS_Store"):
        (tmp_path / "in" / name).write_bytes(b"some words")

    done = run(tmp_path / "in", "--task", "fruit", "--output", tmp_path / "out.jsonl", *place)

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["image"], row["error"]) for row in rows] == [
        *((name, None) for name in ("a", "b.JPG", "c.txt", "deep/d.jfif"))
    ]
    assert done.stderr.splitlines()[1:] == [
        f"  left out of {tmp_path}/in: hidden files (1): .DS_Store",
        f"  left out of {tmp_path}/in: files that are no pictures (3): Thumbs.db, notes.txt, deep/metadata.csv",
    ]


def test_the_command_fails_if_every_row_fails(run, place, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"BM")

    done = run(tmp_path / "in", "--task", "fruit", "--output", tmp_path / "out.jsonl", *place)

    assert done.exit_code == 1
    assert "row 1 (a.png): image_format" in done.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["error"] == "image_format"


def test_only_force_replaces_an_output_and_only_by_a_complete_one(run, real, table, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    arguments = [table, "--task", "fruit", "--output", output, "--store", real.store]
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--force replaces it" in refused.stderr

    with monkeypatch.context() as plant:
        plant.setattr(service.labelling.labelled_file, "CHUNK_ROWS", 1)
        label, pieces = StoreAnswerer.label, []

        def stopped_at_the_second(answerer, items):
            if pieces:
                raise KeyboardInterrupt
            pieces.append(items)
            return label(answerer, items)

        plant.setattr(StoreAnswerer, "label", stopped_at_the_second)
        stopped = run(*arguments, "--force")
    assert (stopped.exit_code, stopped.stderr) == (130, "stopped; no file was written\n")
    assert output.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]

    assert run(*arguments, "--force").exit_code == 0
    assert output.read_text().startswith("id,text,predicted_label")


def command(*arguments):
    return [sys.executable, "-m", "service.cli", "classify", *map(str, arguments)]


def test_ctrl_c_stops_the_command_and_leaves_no_file(real, tmp_path):
    (tmp_path / "in.csv").write_text("text\n" + "a red apple\n" * 50_000)
    (tmp_path / "out").mkdir()
    arguments = tmp_path / "in.csv", "--task", "fruit", "--store", real.store, "--output", tmp_path / "out" / "a.csv"
    with subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: any(path.stat().st_size > 10_000 for path in (tmp_path / "out").iterdir()))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()

    assert (process.returncode, said) == (130, "stopped; no file was written\n")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_closed_pipe_is_not_an_error(real):
    options = "--text", "red", "--task", "fruit", "--store", real.store, "--json"
    with subprocess.Popen(command(*options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()

        assert process.stderr.read() == b""


def test_without_pyarrow_csv_works_and_parquet_names_its_extra(real, table, tmp_path):
    script = """
import sys
sys.modules["pyarrow"] = sys.modules["ray"] = None
from typer.testing import CliRunner
from service.cli import app
for more in ([sys.argv[1]], [sys.argv[2]], [sys.argv[1], "--output", sys.argv[2] + ".parquet"]):
    done = CliRunner().invoke(app, ["classify", *more, "--task", "fruit", "--store", sys.argv[3]])
    print(done.exit_code, done.stdout.count(chr(10)), done.stderr.splitlines()[-1])
"""
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    given = [sys.executable, "-c", script, table, tmp_path / "in.parquet", real.store]

    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)

    csv_file, *parquet = done.stdout.splitlines()
    assert csv_file == "0 2 2 rows in standard output, 0 of them without an answer"
    assert len(parquet) == 2
    for line in parquet:
        assert re.match(r"1 0 error: .* needs the extra parquet \(pip install 'mora-serve\[parquet\]'\)", line)


def test_the_help_names_every_column_and_the_exit_statuses(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    done = run("--help")

    assert [name for name in (*COLUMNS, *SET_COLUMNS, "130", "standard output") if name not in done.stdout] == []
