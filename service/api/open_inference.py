"""The messages of the Open Inference Protocol, and their description for OpenAPI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.api.requests import Strict, self_contained


class InputParameters(Strict):
    """Marks a tensor in binary form."""

    binary_data_size: int | None = Field(default=None, ge=0, description="Bytes of the tensor behind the JSON.")


class InputTensor(Strict):
    """One modality of every item; an empty string where an item has none."""

    name: Literal["image", "text"]
    shape: list[int] = Field(min_length=1, max_length=2, description="[N] or [N, 1].")
    datatype: Literal["BYTES"]
    parameters: InputParameters = Field(default_factory=InputParameters)
    data: list[object] | None = Field(default=None, description="N strings; of pictures, their base64.")


class OutputParameters(Strict):
    """The requested form of a tensor."""

    binary_data: bool | None = None


class RequestedOutput(Strict):
    """A requested tensor."""

    name: Literal["labels", "scores", "selected", "modalities"]
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class RequestParameters(Strict):
    """Parameters of the whole request."""

    top_k: int | None = Field(default=None, ge=1, description="How many labels to answer with; by default all.")
    binary_data_output: bool = Field(
        default=False, description="Answer in binary form, unless an output sets `binary_data`."
    )


class InferenceRequest(Strict):
    """N items to label. If one cannot be answered, the request fails."""

    id: str | None = Field(default=None, description="Repeated in the answer; at most 128 letters, digits and `._:-`.")
    model_name: str | None = Field(default=None, description="Ignored; the path names the model.")
    model_version: str | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=2)
    outputs: list[RequestedOutput] | None = Field(default=None, max_length=4, description="By default all four.")
    parameters: RequestParameters = Field(default_factory=RequestParameters)


class OutputTensor(BaseModel):
    """`labels`, `scores` and `selected` of each item, highest score first, [N, C]; `modalities`, [N]."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = Field(
        default=None, description="`binary_data_size` of a tensor in binary form."
    )
    data: list[str] | list[float] | list[bool] | None = None


class InferenceResponse(BaseModel):
    """The answer to every item."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """The service and its extensions of the protocol."""

    name: str = "mora-serve"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class Live(BaseModel):
    """The process answers."""

    live: bool = True


class Ready(BaseModel):
    """A request would be answered."""

    ready: bool = True


class ModelReady(Ready):
    """A request for this task would be answered."""

    name: str


class TensorMetadata(BaseModel):
    """A tensor; -1 is the number of items, or of labels in the answer."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The tensors of a task."""

    name: str
    versions: list[str]
    platform: str = "onnx_onnxv1"
    inputs: list[TensorMetadata] = [
        TensorMetadata(name="image", datatype="BYTES", shape=[-1]),
        TensorMetadata(name="text", datatype="BYTES", shape=[-1]),
    ]
    outputs: list[TensorMetadata] = [
        TensorMetadata(name="labels", datatype="BYTES", shape=[-1, -1]),
        TensorMetadata(name="scores", datatype="FP32", shape=[-1, -1]),
        TensorMetadata(name="selected", datatype="BOOL", shape=[-1, -1]),
        TensorMetadata(name="modalities", datatype="BYTES", shape=[-1]),
    ]


def inference_body() -> dict[str, object]:
    """The two forms of an InferenceRequest as OpenAPI describes them."""
    example = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a red apple"]}]}
    binary = {"type": "string", "format": "binary", "description": "The JSON, followed by the tensors in binary form."}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": self_contained(InferenceRequest), "example": example},
            "application/octet-stream": {"schema": binary},
        },
    }
