"""Health and metadata of the Open Inference Protocol."""

from __future__ import annotations

from pydantic import BaseModel


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


MODALITIES = TensorMetadata(name="modalities", datatype="BYTES", shape=[-1])


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
        MODALITIES,
    ]
