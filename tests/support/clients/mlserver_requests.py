"""Requests that MLServer's types and codecs make, printed as lines of JSON, as in mlserver_requests.jsonl.

With the arguments `URL KEY` it also sends each to a service, and adds what MLServer's types read in the answer.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from mlserver.codecs import (
    Base64Codec,
    DatetimeCodec,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    StringCodec,
    StringRequestCodec,
)
from mlserver.types import InferenceErrorResponse, InferenceRequest, InferenceResponse, Parameters, RequestOutput

ENCODED = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="  # of one pixel
PICTURE = base64.b64decode(ENCODED)
TEXTS = ["a red apple", "gr\u00fcn"]
text = StringCodec.encode_input("text", TEXTS)
image = Base64Codec.encode_input("image", [PICTURE, PICTURE])
frame = pd.DataFrame({"image": [ENCODED, ""], "text": TEXTS})


def named(request: InferenceRequest, name: str) -> InferenceRequest:
    """A request of one input, which these codecs call input-1."""
    request.inputs[0].name = name
    return request


ANSWERED = {
    "strings": InferenceRequest(inputs=[text]),
    "strings, not bytes": InferenceRequest(inputs=[StringCodec.encode_input("text", TEXTS, use_bytes=False)]),
    "both modalities": InferenceRequest(inputs=[image, text]),
    "an array": InferenceRequest(inputs=[NumpyCodec.encode_input("text", np.array(TEXTS))]),
    "an array of objects": InferenceRequest(inputs=[NumpyCodec.encode_input("text", np.array(TEXTS, object))]),
    "a table": PandasCodec.encode_request(frame),
    "a table, not bytes": PandasCodec.encode_request(frame, use_bytes=False),
    "a request of strings": named(StringRequestCodec.encode_request(TEXTS), "text"),
    "a request of an array": named(NumpyRequestCodec.encode_request(np.array(TEXTS)), "text"),
    "dates": InferenceRequest(inputs=[DatetimeCodec.encode_input("text", [datetime(2026, 1, 2)] * 2)]),
    "headers": InferenceRequest(id="mine-7", parameters=Parameters(headers={"ce-id": "7"}), inputs=[text]),
    "chosen outputs": InferenceRequest(
        inputs=[text],
        outputs=[
            RequestOutput(name="labels", parameters=Parameters(content_type="str")),
            RequestOutput(name="scores", parameters=Parameters(content_type="np")),
        ],
    ),
}
REFUSED = {
    "text in base64": InferenceRequest(inputs=[Base64Codec.encode_input("text", [b"red"])]),
    "pixels": InferenceRequest(inputs=[NumpyCodec.encode_input("image", np.zeros((2, 2, 3), np.uint8))]),
    "a table of objects": PandasCodec.encode_request(pd.DataFrame({"text": ["red", {"a": 1}]})),
    "labels in base64": InferenceRequest(
        inputs=[text], outputs=[RequestOutput(name="labels", parameters=Parameters(content_type="base64"))]
    ),
    "another name": InferenceRequest(inputs=[StringCodec.encode_input("Images", TEXTS)]),
    "an unknown parameter": InferenceRequest(parameters=Parameters(temperature=1), inputs=[text]),
}


def read(url: str, key: str, body: str) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        response = urlopen(Request(f"{url}/v2/models/fruit/infer", body.encode(), headers), timeout=60)
    except HTTPError as refusal:
        return {"error": InferenceErrorResponse.model_validate_json(refusal.read()).error}
    answer = InferenceResponse.model_validate_json(response.read())
    outputs = {output.name: output for output in answer.outputs}
    return {
        "id": answer.id,
        "labels": NumpyCodec.decode_output(outputs["labels"]).tolist(),
        "strings": StringCodec.decode_output(outputs["labels"]),
        "scores": NumpyCodec.decode_output(outputs["scores"]).tolist(),
    }


def recorded() -> Iterator[dict[str, object]]:
    """Each request as MLServer sends it, and with its nulls."""
    for request in (ANSWERED, REFUSED):
        for name, made in request.items():
            line = {"name": name, "is_answered": request is ANSWERED}
            yield {**line, "body": json.loads(made.model_dump_json())}
            with_nulls = made.model_dump_json(exclude_unset=False, exclude_none=False)
            yield {**line, "name": f"{name}, with nulls", "body": json.loads(with_nulls)}


for line in recorded():
    answer = {"answer": read(*sys.argv[1:], json.dumps(line["body"]))} if sys.argv[1:] else {}
    print(json.dumps({**line, **answer}))
