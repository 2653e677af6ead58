"""Settings of a backbone's preprocessing, read without torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import ValidationError
from tokenizers import Tokenizer, normalizers

from model_store import ImagePreprocessing
from model_store.messages import describe_validation_error
from training.errors import BackboneError


def lower_cased(tokenizer: Tokenizer) -> normalizers.Sequence:
    """The tokenizer's normalizer after lower-casing: SigLIP 1 and 2 were pretrained on lower-case text."""
    rest = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    return normalizers.Sequence([normalizers.Lowercase(), *rest])


def image_preprocessing(processor: Mapping[str, Any]) -> ImagePreprocessing:
    """The settings in the fields of an image processor. Raises BackboneError if the service does not know them."""
    try:
        usual = processor["do_resize"] and processor["do_rescale"] and processor["do_normalize"]
        if not usual or abs(processor["rescale_factor"] * 255 - 1) > 1e-9:
            raise BackboneError("backbone: preprocessor_config.json must resize, rescale by 1/255 and normalise")
        if processor["do_center_crop"] is None:
            raise BackboneError("backbone: preprocessor_config.json lacks do_center_crop")
        size, crop = processor["size"], processor["crop_size"] if processor["do_center_crop"] else None
        return ImagePreprocessing(
            shortest_edge=size.get("shortest_edge"),
            exact_size=(size["height"], size["width"]) if size.get("height") else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            resample=Image.Resampling(processor["resample"]).name.lower(),  # type: ignore[arg-type]
            mean=tuple(processor["image_mean"]),
            std=tuple(processor["image_std"]),
        )
    except ValidationError as error:
        problem = "; ".join(describe_validation_error(error))
        raise BackboneError(f"backbone: preprocessor_config.json cannot be served: {problem}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        fields = "size, crop_size, resample, image_mean, image_std or rescale_factor"
        message = f"backbone: preprocessor_config.json has an unusable {fields} ({error})"
        raise BackboneError(f"{message}; copy it again from the model's repository") from error
