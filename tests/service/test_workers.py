from __future__ import annotations

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.errors import Code, ServiceError
from service.workers import Workers


def test_more_than_may_wait_are_refused_at_once():
    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=2), threading.Event()
        accepted = [asyncio.create_task(workers.run(release.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        assert workers.waiting == 2
        with pytest.raises(ServiceError) as caught:
            await workers.run(release.wait)
        assert caught.value.code is Code.QUEUE_FULL
        probe = asyncio.create_task(workers.probe())
        await asyncio.sleep(0.05)
        assert not probe.done()
        release.set()
        await asyncio.gather(*accepted, probe)
        assert workers.waiting == 0
        assert (await workers.run(lambda: 7)).result == 7
        workers.close()

    asyncio.run(scenario())


def test_a_failing_or_abandoned_job_leaves_its_place():
    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=1), threading.Event()
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        running, queued = (asyncio.create_task(workers.run(release.wait)) for _ in range(2))
        await asyncio.sleep(0.01)
        queued.cancel()
        await asyncio.sleep(0.01)
        assert workers.waiting == 0
        release.set()
        done = await running
        assert done.run_seconds > 0
        await workers.run(lambda: None)
        workers.close()

    asyncio.run(scenario())


def test_an_overloaded_service_answers_queue_full_and_recovers(shelf, serve, sample):
    shelf.publish("fruit")
    client = serve(shelf.store, queue_size=0, encoder_workers=1)
    release = threading.Event()
    text = client.app.state.engine._encoders._text
    client.portal.start_task_soon(text.run, release.wait)
    while not text._unfinished:
        pass

    response = client.post("/classify", json={"text": "red"})

    assert (response.status_code, response.json()["code"]) == (503, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert sample(client, 'mora_rejected_total{reason="queue_full"}') == 1
    release.set()
    assert client.get("/readyz").status_code == 200
    assert client.post("/classify", json={"text": "red"}).status_code == 200


def test_fifty_at_once_answer_as_each_does_alone(client):
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)

    def item(number: int) -> dict:
        file = BytesIO()
        Image.fromarray(rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)).save(file, "PNG")
        image = {"image": base64.b64encode(file.getvalue()).decode()} if number % 3 != 1 else {}
        text = {"text": " ".join(rng.choice(["a", "red", "apple"], 1 + number % 8))} if number % 3 else {}
        return {"task": ("fruit", "tags")[number % 2], **image, **text}

    def ask(item: dict) -> dict:
        answer = client.post("/classify", json=item).json()
        return {name: answer[name] for name in ("task", "labels", "modalities")}

    items = [item(number) for number in range(50)]
    alone = [ask(item) for item in items]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(ask, items))
    assert together == alone
