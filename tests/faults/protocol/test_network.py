"""Row I6 of the fault table: the service fetches no URL that a request contains, and needs no network but loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import pytest

from tests.faults.conftest import Running
from tests.support.faults.attacking import FORM, Target, as_base64, as_form, as_json
from tests.support.faults.tracing import traced
from tests.support.faults.urls import documents_about, forms_about, pictures_about, urls_to

ROOT = Path(__file__).parents[3]
CALLS = "socket,connect,sendto,sendmsg,sendmmsg,execve,?open,openat,?openat2"
STORE = {"", "tasks", "fruit", "tags", "live"}  # how the store is read: by names in its folders


def send_all(target: Target, place: str) -> int:
    """Every way to name a URL; how many requests that were."""
    statuses = []
    for url in urls_to(place):
        fields = ("task", "text", "image", "top_k", "url", "image_url")
        bodies = [as_json(**{field: url}) for field in fields]
        bodies += [as_json(image={"url": url}), as_json(image=[url]), as_json(image=as_base64(url.encode()))]
        forms = [as_form(("task", b"fruit"), (name, url.encode())) for name in ("image", "text", "url")]
        refused = [target.send(body, Referer=url, X_Forwarded_For=url) for body in bodies]
        refused += [target.send(form, FORM) for form in forms]
        batch = json.dumps({"inputs": [{"image": url}, {"text": url}], "tasks": ["fruit", url]}).encode()
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [url]}
        infer = json.dumps({"inputs": [tensor]}).encode()
        refused += [target.send(infer, path="/v2/models/fruit/infer")]
        statuses += [reply.status for reply in refused]
        assert sum(reply.status == 200 for reply in refused) == 2  # as a text it is one like any other
        answered = [target.send(form, FORM) for form in forms_about(url)]
        answered += [target.send(as_json(image=as_base64(picture))) for picture in pictures_about(url)]
        answered += [target.send(batch, path="/classify/batch")]
        answered += [target.send(None, None, f"/docs?url={url.replace(' ', '+')}", "GET")]
        assert {reply.status for reply in answered} == {200}
        statuses += [200] * len(answered)
    for document in [found for url in (f"http://{place}", "file:///etc/passwd") for found in documents_about(url)]:
        texts = [as_base64(document), f"data:image/svg+xml;base64,{as_base64(document)}", document.decode()]
        statuses += [target.send(as_json(image=text)).status for text in texts]
        statuses += [target.send(as_form(("task", b"fruit"), ("image", document)), FORM).status]
        assert {*statuses[-4:]} <= {415, 422}
    assert max(statuses) < 500
    return len(statuses)


@contextmanager
def calls_outward(running: Running, log: Path) -> Iterator[list[str]]:
    """Filled at the end: sockets that were created or used, programs started, and foreign files opened."""
    command = running.process.args
    own = (command[command.index("--store") + 1], "/proc/", "/sys/", str(ROOT / "service"))
    found: list[str] = []
    with traced(running.process.pid, CALLS, log):
        yield found
    lines = log.read_text().splitlines()
    assert any("openat(" in line for line in lines)  # the service looks for new versions all the time
    for line in lines:
        opened = re.search(r' open(?:at2?)?\([^"]*"([^"]*)"', line)
        is_strange_file = opened is not None and opened[1] not in STORE and not opened[1].startswith(own)
        if is_strange_file or re.search(r" (socket|connect|execve)\(|sa_family=", line):
            found.append(line)


@pytest.fixture
def place() -> Iterator[str]:
    """Address of a server that must receive no request."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        yield f"127.0.0.1:{trap.getsockname()[1]}/a.png"


@pytest.mark.slow
def test_no_url_in_a_request_is_fetched_or_opened(target, place, tmp_path, reliability):
    with calls_outward(target.running, tmp_path / "log") as found:
        sent = send_all(target, place)
    measured = f"{len(found)} in {sent}" + "".join(f"\n{line}" for line in found)
    reliability("I6: URLs in every field, header, file name and picture", "0 outgoing calls", measured, not found)


def test_control_a_service_that_fetches_is_found(shelf, server, attack, place, tmp_path):
    shelf.publish("fruit")
    target = attack(server(shelf.store, "fetches"))
    with calls_outward(target.running, tmp_path / "log") as found:
        target.send(as_json(image=f"http://{place}"))
        target.send(as_json(image="file:///etc/passwd"))

    port = place.split(":")[1].split("/")[0]
    assert [line for line in found if "connect(" in line and f"htons({port})" in line]
    assert [line for line in found if '"/etc/passwd"' in line]


def life(store: Path, folder: Path, **environment: str) -> tuple[list[str], list[Path]]:
    """Network calls of a service from its start to its exit, and the files that it left in its home."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    home, log = folder / "home", folder / "log"
    home.mkdir()
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)]
    command += [sys.executable, "-m", "service.cli", "run", "--store", str(store), "--port", "0"]
    without = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    surroundings = {**without, "HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(command, cwd=folder, env=surroundings, stderr=subprocess.PIPE, text=True) as tracer:
        events = [json.loads(line)["event"] for line in iter(tracer.stderr.readline, "") if _is_over(tracer, line)]
    assert "listening" in events
    reached = [line for line in log.read_text().splitlines() if re.search(r"sa_family=AF_INET|sin6?_port", line)]
    return reached, [path for path in home.rglob("*") if path.is_file()]


def _is_over(tracer: subprocess.Popen[str], line: str) -> bool:
    """True; ends the traced service once it listens."""
    if '"listening"' in line:
        (service,) = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
        os.kill(int(service), signal.SIGINT)
    return line.startswith("{")


@pytest.mark.slow
def test_a_service_connects_nowhere_and_writes_no_file_in_its_home(shelf, tmp_path, reliability):
    """ONNX Runtime's own builds tell their maker about models and machine, under an identity they keep at home."""
    shelf.publish("fruit")
    reached, left = life(shelf.store.root, tmp_path)
    measured = f"{len(reached)} calls, {len(left)} files" + "".join(f"\n{line}" for line in reached)
    goal = "0 outgoing calls, 0 files in its home"
    reliability("a service from its start to its exit", goal, measured, not reached + left)


def test_control_telemetry_of_the_runtime_is_found(shelf, tmp_path, reliability):
    library = Path(onnxruntime.__file__).parent / "capi"
    if not any(b"ORT_DISABLE_TELEMETRY" in path.read_bytes() for path in library.glob("*.so*")):
        pytest.skip("this build of ONNX Runtime has no telemetry")
    shelf.publish("fruit")
    _, left = life(shelf.store.root, tmp_path, ORT_DISABLE_TELEMETRY="0")
    reliability("*control*: the runtime's telemetry left on", "seen", f"{len(left)} files in its home", bool(left))


def without_a_network() -> list[str]:
    """Prefix of a command that runs with loopback only; skips where the system forbids network namespaces."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    alone = [sys.executable, "-m", "tests.support.faults.loopback_only"]
    refusals = []
    for options in (["--map-root-user", "--net"], ["--net"]):
        command = ["unshare", *options, *alone]
        tried = subprocess.run([*command, "true"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        if tried.returncode == 0:
            return command
        refusals.append(tried.stderr.strip())
    pytest.skip(f"no network namespace may be made here: {'; '.join(refusals)}")


def test_control_a_process_with_another_interface_is_refused():
    interfaces = [name for _, name in socket.if_nameindex()]
    command = [sys.executable, "-m", "tests.support.faults.loopback_only", "true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    if interfaces == ["lo"]:
        pytest.skip("this machine has no interface but loopback")
    assert (done.returncode, "not alone" in done.stderr) == (1, True)


@pytest.mark.slow
def test_a_service_without_a_network_starts_and_answers(counts, tmp_path, reliability):
    """Tests that start a service, load a store and ask it, in a network namespace of their own."""
    chosen = counts("tests/faults/input/test_input.py::test_special_tokens_in_a_text_are_unknown_words", "")
    tests = [chosen] if chosen else ["tests/faults/input/test_input.py", f"{__file__}::{_FETCHING}"]
    command = [*without_a_network(), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--basetemp", str(tmp_path / "inside"), *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.strip().splitlines()[-1].split(" in ")[0]
    passed = int(re.search(r"(\d+) passed", summary)[1])
    goal = counts(1, 20)
    what = "I6: tests of input in a namespace with loopback alone"
    reliability(what, f"all pass, at least {goal}", summary, passed >= goal)


_FETCHING = test_no_url_in_a_request_is_fetched_or_opened.__name__
