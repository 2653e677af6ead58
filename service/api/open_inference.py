"""Requests and answers of the Open Inference Protocol."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

from service.api.requests import Coverage, Strict

Codec = Literal["str", "np", "pd", "datetime"]  # MLServer's codecs that write a text as it is
_IGNORED = ("headers", "priority")
_NOT_DONE = frozenset(
    {
        "classification",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "shared_memory_byte_size",
        "shared_memory_offset",
        "shared_memory_region",
    }
)


def _is_ignored(parameter: str, value: object) -> bool:
    return value is None or parameter in _IGNORED or (parameter in _NOT_DONE and not value)


class Parameters(Strict):
    """Parameters of a request or a tensor. Those that do not change the answer are ignored.

    Ignored are null, MLServer's `headers`, Triton's `priority`, and features of Triton's that are switched off.
    """

    unsupported = _NOT_DONE

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, parameters: object) -> object:
        if not isinstance(parameters, dict):
            return {} if parameters is None else parameters
        return {name: value for name, value in parameters.items() if not _is_ignored(name, value)}


class InputParameters(Parameters):
    """Parameters of an input."""

    binary_data_size: int | None = Field(default=None, ge=0, description="Bytes of the tensor behind the JSON.")
    content_type: str | None = Field(default=None, description="How MLServer wrote the data.")


class InputTensor(Strict):
    """One modality of every item; an empty string where an item has none."""

    name: Literal["image", "text"]
    datatype: Literal["BYTES"]
    shape: list[int] = Field(min_length=1, max_length=2, description="[N] or [N, 1].")
    parameters: InputParameters = Field(default_factory=InputParameters)
    data: list[object] | None = Field(default=None, description="N strings; of pictures, their base64.")

    @model_validator(mode="after")
    def _check_content_type(self) -> Self:
        written_as = (self.parameters.content_type or "str").lower()
        is_plain = written_as in get_args(Codec) or written_as.startswith(self.name)  # such as image/png
        is_base64 = written_as == "base64" and self.name == "image" and self.parameters.binary_data_size is None
        if not is_plain and not is_base64:
            raise ValueError(f"content_type must say plain {self.name}: one of {', '.join(get_args(Codec))}")
        return self


class OutputParameters(Parameters):
    """The requested form of a tensor."""

    binary_data: bool | None = None
    content_type: Codec | None = None


class RequestedOutput(Strict):
    """A requested tensor."""

    name: Literal["labels", "scores", "selected", "label_set", "review", "embedding", "modalities"]
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class RequestParameters(Parameters):
    """Parameters of the whole request."""

    top_k: int | None = Field(default=None, ge=1, description="How many labels to answer with; by default all.")
    coverage: Coverage = None
    binary_data_output: bool = Field(
        default=False, description="Answer in binary form, unless an output sets `binary_data`."
    )
    timeout: int | None = Field(
        default=None, ge=0, le=600_000_000, description="Time limit in microseconds; 0 is MORA_TIMEOUT_MS."
    )
    content_type: Codec | None = None


class InferenceRequest(Strict):
    """N items to label, or to encode in a retrieval task. If one cannot be answered, the request fails."""

    id: str | None = Field(default=None, description="Repeated in the answer; at most 128 letters, digits and `._:-`.")
    model_name: str | None = Field(default=None, description="Ignored; the path names the model.")
    model_version: str | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=2)
    outputs: list[RequestedOutput] | None = Field(default=None, max_length=6, description="By default all.")
    parameters: RequestParameters = Field(default_factory=RequestParameters)


class OutputTensor(BaseModel):
    """`labels`, `scores` and `selected` of each item, highest score first, [N, C]; `modalities`, [N].

    With `coverage` also `label_set` [N, C], whether each of the labels is in the item's label set, and `review` [N].
    Of a retrieval task `embedding` [N, D] and `modalities`.
    """

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
