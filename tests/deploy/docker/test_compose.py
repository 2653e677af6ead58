"""The images and the compose file on a real engine, in the order of a deployment's life."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from datetime import datetime
from statistics import median

import urllib3

from benchmarks.load import closed_loop
from model_store import DEFAULT_STORE, Store
from tests.deploy.docker.conftest import PROJECT, Stack, run
from tests.support.faults.pictures import bombs
from tests.support.steady_load import SteadyLoad
from tests.support.tiny import PICTURE
from tests.support.waiting import wait_until

MOST_IMAGE_BYTES = 550_000_000  # OpenVINO for processors is 100 MB of it
ITEM = {"task": "clipart-category", "text": "a red apple"}
JSON = {"Content-Type": "application/json"}
IMAGE, TEXT = {"image": PICTURE}, {"text": "a red apple"}


@contextmanager
def no_loss(stack: Stack):
    with SteadyLoad(stack.port, ITEM, clients=3) as load:
        assert load.goes_on()
        yield load
        assert load.goes_on()
    assert load.errors == []


def classify(stack: Stack, **fields: object) -> dict:
    parts = {name: ("x.png", value) if isinstance(value, bytes) else value for name, value in fields.items()}
    answer = urllib3.request("POST", f"{stack.url}/classify", fields=parts, timeout=30)
    assert answer.status == 200, answer.data
    return answer.json()


def test_the_image_is_small_has_no_compiler_no_torch_and_lists_what_it_holds(stack):
    image = json.loads(run("docker", "image", "inspect", "mora-serve"))[0]
    stack.figures["service image"] = f"{image['Size'] / 1e6:.0f} MB"
    assert image["Size"] <= MOST_IMAGE_BYTES
    assert image["Config"]["Labels"]["org.opencontainers.image.title"] == "mora-serve"
    assert image["Config"]["User"] == "10001:10001"
    look = "import importlib.util as u, shutil as s; "
    look += "print([n for n in ('torch', 'transformers', 'pip') if u.find_spec(n)],"
    look += " [n for n in ('gcc', 'cc', 'g++', 'make', 'apt-get', 'pip') if s.which(n)])"
    assert stack.inside("service", "/opt/mora/bin/python", "-c", look)[1].strip() == "[] []"
    bom = json.loads(stack.inside("service", "cat", "/opt/mora/sbom.cdx.json")[1])
    listed = {(part["name"].lower().replace("_", "-"), part["version"]) for part in bom["components"]}
    look = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    there = stack.inside("service", "/opt/mora/bin/python", "-c", look)[1].split()
    assert {tuple(one.lower().replace("_", "-").split("==")) for one in there} - listed <= {("mora-serve", "0.1.0")}
    assert ("onnxruntime" in dict(listed)) == ("onnxruntime-gpu" not in dict(listed))


def test_each_presence_pattern_is_answered_through_nginx(stack):
    assert wait_until(lambda: stack.healthy("service") == 2, 60)
    for number, container in enumerate(stack.containers("service"), 1):
        done = subprocess.run(["docker", "logs", container], stderr=subprocess.PIPE, text=True, check=True)
        events = [json.loads(line) for line in done.stderr.splitlines()]
        (listening,) = (event for event in events if event["event"] == "listening")
        started = datetime.fromisoformat(stack.inspect(container)["State"]["StartedAt"][:26] + "+00:00")
        waited = datetime.fromisoformat(listening["timestamp"]) - started
        stack.figures[f"replica {number}, container started until it listens"] = f"{waited.total_seconds():.1f} s"
        assert not [event for event in events if event["level"] not in ("info", "debug")]

    both, text, image = (classify(stack, task="clipart-category", **item) for item in ({**IMAGE, **TEXT}, TEXT, IMAGE))

    assert both["modalities"] == {"image": "used", "text": "used"}
    assert text["latency_ms"]["image_encoder"] == 0.0 < text["latency_ms"]["text_encoder"]
    assert image["latency_ms"]["text_encoder"] == 0.0 < image["latency_ms"]["image_encoder"]


def test_nginx_hides_the_metrics_and_leaves_problems_to_the_service(stack):
    assert urllib3.request("GET", f"{stack.url}/metrics").status == 404
    large = urllib3.request("POST", f"{stack.url}/classify", body=b" " * 20_500_000, headers=JSON)
    assert (large.status, large.json()["code"]) == (413, "body_too_large")


def test_the_playground_is_reached_through_nginx(stack):
    page = urllib3.request("GET", f"{stack.url}/")
    script = urllib3.request("GET", f"{stack.url}/playground/page.js")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (script.status, script.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")


def test_containers_have_only_the_privileges_they_need(stack):
    status = dict(line.split(":\t", 1) for line in stack.inside("service", "cat", "/proc/1/status")[1].splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    for folder in ("/", "/store", "/opt/mora", "/home", "/etc"):
        assert stack.inside("service", "touch", f"{folder}/mark")[0] != 0, folder
    assert stack.inside("service", "sh", "-c", "echo '#!/bin/sh' >/tmp/run && chmod +x /tmp/run")[0] == 0
    status, said = stack.inside("service", "/tmp/run")  # noqa: S108
    assert status != 0
    assert "ermission denied" in said
    host = stack.inspect(stack.containers("service")[0])["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["Memory"] == 2 * 2**30
    assert host["PidsLimit"] == 256
    assert stack.inside("service", "sh", "-c", "test -e /var/run/docker.sock")[0] == 1


def test_a_version_is_trained_and_published_while_requests_run(stack):
    with no_loss(stack) as load:
        first = stack.do("--profile", "train", "run", "--rm", "train", "fit", "/data/colors.yaml", *FIT)
        assert "colors version 1 is live" in first
        assert wait_until(lambda: answers(stack, "colors") == {1}, 30)
        stack.do("--profile", "train", "run", "--rm", "train", "publish", "/runs/colors", "--store", "/store")
        assert wait_until(lambda: answers(stack, "colors") == {2}, 30)
    assert len(load.versions) == 1


FIT = ("--output", "/runs/colors", "--publish", "/store")


def answers(stack: Stack, task: str) -> set[int]:
    """The versions that both replicas answer with; empty where one does not know the task."""
    found = set()
    for number in range(2):
        look = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/tasks/{task}').read().decode())"
        status, said = stack.inside("service", "python3", "-c", look, number=number)
        if status != 0:
            return set()
        found.add(json.loads(said)["version"])
    return found


def test_a_replica_that_is_killed_costs_no_request_and_comes_back(stack):
    killed = stack.containers("service")[0]
    with no_loss(stack) as load:
        before = stack.inspect(killed)["RestartCount"]
        os.kill(stack.inspect(killed)["State"]["Pid"], signal.SIGKILL)
        started = time.monotonic()
        assert wait_until(lambda: stack.inspect(killed)["RestartCount"] > before, 30)
        assert wait_until(lambda: is_ready(stack, killed), 60)
        stack.figures["a replica killed until its container is ready again"] = f"{time.monotonic() - started:.1f} s"
        assert load.goes_on()
    assert wait_until(lambda: stack.healthy("service") == 2, 60)


def is_ready(stack: Stack, container: str) -> bool:
    look = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz')"
    return run("docker", "exec", container, "python3", "-c", look + "; print('ready')", check=False).strip() == "ready"


def test_a_replica_that_is_stopped_finishes_and_exits_with_0(stack):
    stopped = stack.containers("service")[1]
    with no_loss(stack):
        started = time.monotonic()
        run("docker", "stop", "-t", "30", stopped)
        took = time.monotonic() - started
        state = stack.inspect(stopped)["State"]
        run("docker", "start", stopped)
        assert wait_until(lambda: stack.healthy("service") == 2, 60)
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    stack.figures["docker stop under load, drain included"] = f"{took:.1f} s"


def test_pictures_that_are_bombs_do_not_end_a_replica(stack):
    load = [threading.Thread(target=send_picture, args=(stack, data)) for data in bombs() for _ in range(8)]
    for thread in load:
        thread.start()
    for thread in load:
        thread.join()
    for container in stack.containers("service"):
        state = stack.inspect(container)["State"]
        assert state["Running"]
        assert not state["OOMKilled"]


def send_picture(stack: Stack, data: bytes) -> None:
    fields = {"task": "clipart-category", "image": ("x.png", data)}
    assert urllib3.request("POST", f"{stack.url}/classify", fields=fields, timeout=60).status in (
        200,
        413,
        415,
        422,
        503,
    )


def test_prometheus_sees_both_replicas_and_what_they_answered(stack):
    assert wait_until(lambda: len(stack.query('up{job="mora"} == 1')) == 2, 60)
    for item in (IMAGE, TEXT, {**IMAGE, **TEXT}) * 4:
        classify(stack, task="clipart-category", **item)
    asked = 'sum by (modalities) (mora_requests_total{task="clipart-category", status="200"})'
    patterns = {"image", "text", "both"}
    assert wait_until(lambda: {series["metric"].get("modalities") for series in stack.query(asked)} >= patterns, 60)
    versions = stack.query("count by (task, version) (mora_model_info)")
    live = str(Store(DEFAULT_STORE).live("clipart-category"))
    assert ("clipart-category", live) in {(one["metric"]["task"], one["metric"]["version"]) for one in versions}
    assert wait_until(lambda: stack.query("task_modalities:mora_requests:rate5m"), 60)


def test_a_provoked_alert_fires(stack):
    """A version under another number than its manifest says is made live: it is refused, and someone is told."""
    assert not stack.query('ALERTS{alertname="MoraLoadRefused"}')
    live = classify(stack, task="clipart-category", text="a red apple")["version"]
    as_publisher(
        stack, f"cp -r {{task}}/{live} {{task}}/9 && printf 9 >{{task}}/next && mv {{task}}/next {{task}}/live"
    )
    firing = 'ALERTS{alertname="MoraLoadRefused", alertstate="firing", task="clipart-category"}'
    try:
        assert wait_until(lambda: stack.query(firing), 120)  # the alert waits for a minute
        assert classify(stack, task="clipart-category", text="a red apple")["version"] == live
    finally:
        as_publisher(stack, f"printf {live} >{{task}}/next && mv {{task}}/next {{task}}/live && rm -r {{task}}/9")
    assert wait_until(lambda: not stack.query(firing), 60)


def as_publisher(stack: Stack, script: str) -> None:
    """Run a script where the store may be written to."""
    command = script.replace("{task}", "/store/tasks/clipart-category")
    run("docker", "run", "--rm", "-v", f"{PROJECT}_store:/store", "--entrypoint", "sh", "mora-serve", "-c", command)


BY_HAND = {"MORA_INTRA_OP_THREADS": "1", "MORA_PREPARATION_WORKERS": "1", "MORA_ENCODER_WORKERS": "1"}
ROUNDS, ROUND_SECONDS, CLIENTS = 4, 8, 8


@contextmanager
def one_cpu(name: str, port: int, **environment: str):
    """The service's image with a quota of one CPU; the URL of /classify."""
    variables = [word for pair in environment.items() for word in ("-e", "=".join(pair))]
    limits = ["--cpus=1", "--read-only", "--tmpfs=/tmp", "-p", f"127.0.0.1:{port}:8000"]
    run("docker", "run", "-d", "--rm", "--name", f"{PROJECT}-{name}", *limits, *variables, "mora-serve")
    try:
        assert wait_until(lambda: answers_readyz(port), 60)
        yield f"http://127.0.0.1:{port}/classify"
    finally:
        run("docker", "kill", f"{PROJECT}-{name}", check=False)


def answers_readyz(port: int) -> bool:
    try:
        return urllib3.request("GET", f"http://127.0.0.1:{port}/readyz", timeout=5, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_a_quota_of_one_cpu_is_used_as_well_as_with_threads_set_by_hand(stack):
    """The medians of alternating rounds, so that other load on the machine meets both alike."""
    picture = b64encode(PICTURE).decode()
    bodies = [json.dumps({"task": "clipart-category", **item}).encode() for item in (TEXT, {"image": picture})]
    with one_cpu("auto", 18081) as automatic, one_cpu("by-hand", 18082, **BY_HAND) as by_hand:
        rates = {url: [] for url in (automatic, by_hand)}
        for _ in range(ROUNDS):
            for url, found in rates.items():
                found.append(closed_loop(url, bodies, CLIENTS, ROUND_SECONDS).per_second)

    share = median(rates[automatic]) / median(rates[by_hand])
    stack.figures["docker run --cpus=1, throughput over that with threads set by hand"] = f"{share:.2f}"
    assert share >= 0.9
