"""Calls of the client that openapi-python-client generated as the package `generated`; prints what each returned.

Run as `python generated_client.py URL KEY PICTURE` in the folder of the package.
"""

from __future__ import annotations

import base64
import importlib
import json
import pkgutil
import sys
from io import BytesIO
from pathlib import Path

url, key, picture_path = sys.argv[1:]
sys.path.insert(0, str(Path.cwd()))
import generated  # noqa: E402

for module in pkgutil.walk_packages(generated.__path__, "generated."):
    importlib.import_module(module.name)

from generated.api.default import (  # noqa: E402
    batch,
    classify,
    embed,
    embeddings,
    infer,
    moderations,
    readyz,
    task,
    versions,
)
from generated.models import (  # noqa: E402
    BatchRequest,
    ClassifyForm,
    ClassifyRequest,
    EmbeddingRequest,
    EmbedForm,
    EmbedRequest,
    ImagePart,
    ImageUrl,
    InferenceRequest,
    Input,
    InputTensor,
    InputTensorName,
    ModerationRequest,
    TextPart,
)
from generated.types import File  # noqa: E402

picture = Path(picture_path).read_bytes()
encoded = base64.b64encode(picture).decode()
client = generated.AuthenticatedClient(url, key)
stranger = generated.Client(url)


def file() -> File:
    return File(BytesIO(picture), "picture.png", "image/png")


def tensor(text: str) -> InferenceRequest:
    return InferenceRequest([InputTensor(name=InputTensorName.TEXT, shape=[1], datatype="BYTES", data=[text])])


image_part = ImagePart("image_url", ImageUrl(f"data:image/png;base64,{encoded}"))
answers = {
    "picture": classify.sync(client=client, body=ClassifyRequest(task="fruit", image=encoded)),
    "text": classify.sync(client=client, body=ClassifyRequest(task="fruit", text="a red apple")),
    "form": classify.sync(client=client, body=ClassifyForm(task="fruit", image=file(), text="a red apple", top_k=2)),
    "form without a picture": classify.sync(client=client, body=ClassifyForm(task="tags", text="red", explain=True)),
    "embedded picture": embed.sync(client=client, body=EmbedForm(task="fruit", image=file())),
    "embedded text": embed.sync(client=client, body=EmbedRequest(task="fruit", text="red")),
    "batch": batch.sync(
        client=client, body=BatchRequest(inputs=[Input(text="red"), Input(image="?")], tasks=["fruit"])
    ),
    "moderation": moderations.sync(
        client=client, body=ModerationRequest(model="fruit", input_=[TextPart("text", "red"), image_part])
    ),
    "embedding": embeddings.sync(client=client, body=EmbeddingRequest(model="fruit", input_=["red", "green"])),
    "unknown model of OpenAI's API": moderations.sync(
        client=client, body=ModerationRequest(model="nothing", input_="red")
    ),
    "details": task.sync("fruit", client=client),
    "versions": versions.sync("fruit", client=client),
    "ready": readyz.sync(client=client),
    "inference": infer.sync("fruit", client=client, body=tensor("red")),
    "unknown task": classify.sync(client=client, body=ClassifyRequest(task="nothing", text="red")),
    "missing input": classify.sync(client=client, body=ClassifyForm(task="fruit")),
    "without a key": task.sync("fruit", client=stranger),
    "unknown model": infer.sync("nothing", client=client, body=tensor("red")),
}
print(json.dumps({name: [type(answer).__name__, answer.to_dict()] for name, answer in answers.items()}))
