"""Types of the image and text columns of a parquet input."""

from __future__ import annotations

import pyarrow as pa
import pytest

from service.labelling.parquet import check_types
from service.labelling.rows import Columns, DataSetError

WORDS = pa.dictionary(pa.int32(), pa.string())
STRUCT = pa.struct([("path", pa.string())])
TEXTS = [pa.null(), pa.string(), pa.large_string(), pa.string_view(), WORDS]
PICTURES = [*TEXTS, pa.binary(), pa.large_binary(), pa.binary_view(), STRUCT, pa.dictionary(pa.int32(), pa.binary())]
OTHERS = [pa.int64(), pa.list_(pa.string()), pa.struct([("name", pa.string())]), pa.dictionary(pa.int32(), pa.int64())]


@pytest.mark.parametrize("kind", PICTURES)
def test_an_image_column_holds_bytes_structs_or_paths(kind):
    check_types(pa.schema([("image", kind)]), Columns("image", None, ()), is_empty=lambda _: False)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_column_holds_strings(kind):
    check_types(pa.schema([("text", kind)]), Columns(None, "text", ()), is_empty=lambda _: False)


@pytest.mark.parametrize("kind", OTHERS)
def test_an_image_column_of_another_type_is_refused(kind):
    with pytest.raises(DataSetError, match="an image column holds bytes, a struct of bytes and path, or paths"):
        check_types(pa.schema([("image", kind)]), Columns("image", None, ()), is_empty=lambda _: False)


@pytest.mark.parametrize("kind", [*OTHERS, pa.binary(), STRUCT])
def test_a_text_column_of_another_type_is_refused(kind):
    with pytest.raises(DataSetError, match="a text column holds strings"):
        check_types(pa.schema([("text", kind)]), Columns(None, "text", ()), is_empty=lambda _: False)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_column_without_values_may_have_any_type(kind):
    schema = pa.schema([("image", kind), ("text", kind)])

    check_types(schema, Columns("image", "text", ()), is_empty=lambda _: True)
