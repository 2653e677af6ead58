"""Requests and answers of the Open Inference Protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.api.requests import Strict


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
