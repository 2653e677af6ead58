"""Tensors of the Open Inference Protocol: a request's body to its items, and arrays to an answer's body.

In binary form, the bytes of the tensors follow the JSON. The header `Inference-Header-Content-Length` holds the length
of the JSON, and `binary_data_size` the length of each tensor. In a binary BYTES tensor each string follows its own
length (uint32, little-endian).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from service.api.item import Item, parse_item
from service.api.open_inference import InferenceRequest, InferenceResponse, InputTensor, OutputTensor, RequestedOutput
from service.api.requests import validate
from service.errors import Code, ServiceError, at_item
from service.web.bodies import JSON, parse_json, parse_utf8

BINARY = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"
Array: TypeAlias = NDArray[np.float32] | NDArray[np.bool_] | NDArray[np.str_]
_DATATYPES = {"f": "FP32", "b": "BOOL", "U": "BYTES"}  # by NumPy's kind of type
_OUTPUTS_OF_SETS = ("label_set", "review")
_SIZE = re.compile(r"[0-9]{1,15}")


class Inference(NamedTuple):
    """A parsed request for N items."""

    request: InferenceRequest
    items: Sequence[Item]


def parse_inference(body: bytes, header_length: str | None, max_text_bytes: int, max_items: int) -> Inference:
    """Parse a body; blocking. Raises ServiceError, which names a faulty item by its index."""
    json_size = _json_size(header_length, len(body))
    request = validate(InferenceRequest, parse_json(body[:json_size], max_items), strict=True)
    if request.parameters.coverage is None:
        for output in request.outputs or ():
            if output.name in _OUTPUTS_OF_SETS:
                raise _bad(f"The output {output.name} needs the parameter coverage.")
    count = _item_count(request.inputs, max_items)
    rest = memoryview(body)[json_size:]
    columns: dict[str, Sequence[object]] = {}
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size
        if size is None:
            columns[tensor.name] = _listed(tensor, count)
        else:
            columns[tensor.name] = _unpacked(tensor, rest[:size], count)
            rest = rest[size:]
    if rest:
        raise _bad("The body has bytes after its last tensor.")
    return Inference(request, [_item(columns, index, max_text_bytes) for index in range(count)])


def respond(
    request: InferenceRequest, task: str, version: int, answer_id: str, arrays: Mapping[str, Array]
) -> Response:
    """The response with the requested tensors, each in the requested form."""
    requested = request.outputs or [RequestedOutput.model_validate({"name": name}) for name in arrays]
    outputs, packed = [], []
    for output in requested:
        array, binary = arrays[output.name], output.parameters.binary_data
        tensor = OutputTensor(name=output.name, datatype=_DATATYPES[array.dtype.kind], shape=list(array.shape))
        if request.parameters.binary_data_output if binary is None else binary:
            packed.append(_packed(array))
            tensor.parameters = {"binary_data_size": len(packed[-1])}
        else:
            tensor.data = array.ravel().tolist()
        outputs.append(tensor)
    answer = InferenceResponse(model_name=task, model_version=str(version), id=answer_id, outputs=outputs)
    content = answer.model_dump_json(exclude_none=True).encode()
    if not packed:
        return Response(content, media_type=JSON)
    return Response(b"".join([content, *packed]), headers={HEADER_LENGTH: str(len(content))}, media_type=BINARY)


def _json_size(header_length: str | None, body_size: int) -> int:
    if header_length is None:
        return body_size
    if not _SIZE.fullmatch(header_length) or int(header_length) > body_size:
        raise _bad(f"{HEADER_LENGTH} must be the number of bytes of the JSON, at most those of the body.")
    return int(header_length)


def _item_count(tensors: Sequence[InputTensor], max_items: int) -> int:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise _bad("Two inputs have the same name.")
    count = tensors[0].shape[0]
    if any(tensor.shape not in ([count], [count, 1]) for tensor in tensors):
        raise _bad("Every input must have the shape [N] or [N, 1], with the same N.")
    if not 1 <= count <= max_items:
        raise _bad(f"A request may have 1 to {max_items} items; send several requests.")
    return count


def _listed(tensor: InputTensor, count: int) -> Sequence[object]:
    """The strings of a tensor in JSON, whose list may be flat or nested like the shape."""
    data = tensor.data or []
    if len(data) != count:
        raise _bad(f"{tensor.name}: the number of elements differs from the shape.")
    return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]


def _unpacked(tensor: InputTensor, data: memoryview, count: int) -> Sequence[bytes]:
    """The elements of a tensor in binary form."""
    if tensor.data is not None or tensor.parameters.binary_data_size != len(data):
        raise _bad(f"{tensor.name}: binary_data_size exceeds the body, or the tensor has data in JSON too.")
    elements: list[bytes] = []
    end = 0
    while len(elements) < count and end + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, end)
        start, end = end + 4, end + 4 + size
        elements.append(bytes(data[start:end]))
    if len(elements) < count or end != len(data):
        raise _bad(f"{tensor.name}: the number of elements in binary form differs from the shape.")
    return elements


def _item(columns: Mapping[str, Sequence[object]], index: int, max_text_bytes: int) -> Item:
    fields = {name: column[index] for name, column in columns.items()}
    try:
        if isinstance(text := fields.get("text"), bytes):
            fields["text"] = parse_utf8(text)
        item = parse_item(fields, max_text_bytes)
        if isinstance(item, ServiceError):
            raise item
    except ServiceError as error:
        raise at_item(index, error) from error
    return item


def _packed(array: Array) -> bytes:
    if array.dtype.kind != "U":
        return array.tobytes()
    encoded = [str(text).encode() for text in array.flat]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _bad(detail: str) -> ServiceError:
    return ServiceError(Code.BAD_VALUE, detail)
