"""Requests and answers of OpenAI's API.

The answers have more fields than OpenAI's, whose clients keep what they do not know.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, JsonValue

from service.api.answers import Modalities
from service.api.requests import Strict, Timeout, Version

InputType = Literal["text", "image"]


class TextPart(Strict):
    """The text of an item."""

    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """A picture."""

    url: str = Field(description="A data: URI. Any other URL is refused; the service fetches nothing.")
    detail: str | None = Field(None, description="Ignored.")


class ImagePart(Strict):
    """The picture of an item."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ItemsRequest(Strict):
    """N items for a task."""

    input: JsonValue = Field(
        description="A text; several items as a list of texts; or one item as a list of its parts: a text, an image, "
        "or both."
    )
    model: str | None = Field(None, description="The task. May be left out when exactly one task is loaded.")
    version: Version = None
    timeout_ms: Timeout = None
    user: str | None = Field(None, description="Ignored.")


class ModerationRequest(ItemsRequest):
    """Items to label."""


class EmbeddingRequest(ItemsRequest):
    """Items to encode."""

    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="`base64` is of little-endian float32 numbers; by default `float`."
    )
    dimensions: int | None = Field(None, description="Must be the length that the embeddings have.")


class Moderation(BaseModel):
    """The answer to one item. The names of the three objects are the labels of the task."""

    flagged: bool = Field(description="Whether any category is true; in a single-label task one always is.")
    categories: dict[str, bool] = Field(description="`selected` of each label, see `POST /classify`.")
    category_scores: dict[str, float] = Field(description="`score` of each label, see `POST /classify`.")
    category_applied_input_types: dict[str, list[InputType]] = Field(description="The modalities that the item has.")
    modalities: Modalities


class ModerationResponse(BaseModel):
    """The answer to each item, in order."""

    id: str
    model: str
    version: int
    results: list[Moderation]


class EmbeddingObject(BaseModel):
    """The features of one item: of its image, of its text, or of both, the image's first. They are not normalised."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    modalities: Modalities


class EmbeddingUsage(BaseModel):
    """The tokens of all texts; a picture has none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(BaseModel):
    """The embedding of each item, in order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingObject]
    model: str
    version: int
    usage: EmbeddingUsage
