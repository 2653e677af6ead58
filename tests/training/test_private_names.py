"""Names of the training libraries that nothing promises; tests/test_private_names.py says which releases were read."""

from __future__ import annotations

import inspect

import onnx
import peft
import pytest
import torch
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel, Trainer, TrainingArguments, trainer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.utils import cached_file

SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE = {**SMALL, "image_size": 4, "patch_size": 2}


def test_torch_answers_load_state_dict_with_keys_that_did_not_fit():
    """training/model/classifier.py; torch 2.13."""
    keys = nn.modules.module._IncompatibleKeys(["a"], ["b"])

    assert type(keys) is type(nn.Linear(1, 1).load_state_dict({}, strict=False))
    assert (keys.missing_keys, keys.unexpected_keys) == (["a"], ["b"])


def test_training_arguments_take_the_number_of_gpus(tmp_path):
    """training/learning/trainer.py; transformers 5.23."""
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)

    for gpus, mode in ((3, "not_distributed"), (1, "not_parallel")):
        arguments._n_gpu = gpus

        assert (arguments.n_gpu, arguments.parallel_mode.value) == (gpus, mode)


def test_the_trainer_has_the_methods_and_files_that_are_changed_and_read():
    """training/learning/trainer.py; transformers 5.23."""
    assert [*inspect.signature(Trainer.get_decay_parameter_names).parameters] == ["self", "model"]
    assert [*inspect.signature(Trainer.create_optimizer).parameters] == ["self", "model"]
    assert [*inspect.signature(Trainer.log).parameters] == ["self", "logs", "start_time"]
    assert trainer.SAFE_WEIGHTS_NAME == "model.safetensors"
    assert (trainer.OPTIMIZER_NAME, trainer.SCHEDULER_NAME) == ("optimizer.pt", "scheduler.pt")
    assert trainer.TRAINER_STATE_NAME == "trainer_state.json"


@pytest.mark.parametrize("processor", [CLIPImageProcessorPil, SiglipImageProcessorPil])
def test_pictures_are_prepared_by_pillow(processor):
    """training/model/preprocessing.py; transformers 5.23. Other processors need torchvision and round differently."""
    settings = processor()

    for name in ("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "do_center_crop"):
        assert hasattr(settings, name)
    assert settings.do_resize
    assert settings.do_rescale
    assert settings.do_normalize


def test_a_file_that_a_folder_lacks_is_an_error_of_the_system(tmp_path):
    """training/model/preprocessing.py; transformers 5.23."""
    with pytest.raises(OSError, match=r"vocab\.json"):
        cached_file(str(tmp_path), "vocab.json")


def clip() -> CLIPModel:
    return CLIPModel(CLIPConfig(text_config={**SMALL, "vocab_size": 9}, vision_config=IMAGE, projection_dim=8))


def siglip() -> SiglipModel:
    return SiglipModel(SiglipConfig(text_config={**SMALL, "vocab_size": 9}, vision_config=IMAGE))


@pytest.mark.parametrize("make", [clip, siglip])
def test_the_towers_have_the_parts_that_are_called_in_order(make):
    """training/model/towers.py; transformers 5.23."""
    model = make()
    image, text = model.vision_model, model.text_model

    for layer in (image.encoder.layers[0], text.encoder.layers[0]):
        attention = layer.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, layer.mlp):
            assert isinstance(part, nn.Module)
        assert (attention.num_heads, attention.head_dim, attention.scale) == (2, 4, 0.5)
        assert [*inspect.signature(layer.forward).parameters][:2] == ["hidden_states", "attention_mask"]
        assert isinstance(layer.layer_norm1, nn.LayerNorm)
        assert isinstance(layer.layer_norm2, nn.LayerNorm)
    assert isinstance(image.post_layernorm, nn.LayerNorm)
    assert isinstance(text.final_layer_norm, nn.LayerNorm)
    only = (
        (image.pre_layrnorm, model.visual_projection, model.text_projection)
        if make is clip
        else (image.head, text.head)
    )
    assert all(isinstance(part, nn.Module) for part in only)


def test_peft_adapts_named_layers_and_says_which_weights_did_not_fit():
    """training/model/methods.py, training/model/peft_adapter.py; peft 0.21."""
    model = nn.Sequential(nn.Linear(2, 2))
    lora = peft.LoraConfig(r=1, lora_alpha=1, target_modules=["0"])
    adapted = peft.PeftModel(model, lora)

    result = peft.set_peft_model_state_dict(adapted, {"base_model.model.1.lora_A.weight": torch.zeros(1, 2)})

    assert all(".lora_" in name for name in result.missing_keys if "base_layer" not in name)
    assert len(result.unexpected_keys) == 1
    tuner = peft.LoraModel(nn.Sequential(nn.Linear(2, 2)), lora, "default")
    assert isinstance(tuner.merge_and_unload()[0], nn.Linear)


def test_onnxruntime_converts_graphs_to_half_precision_and_sorts_them():
    """training/export/quantization.py; onnxruntime 1.31."""
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xz"]
    nodes = [onnx.helper.make_node("Neg", ["x"], ["y"]), onnx.helper.make_node("Exp", ["y"], ["z"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "main", ports[:1], ports[1:]))

    half = convert_float_to_float16(model, keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)
    add_pre_process_metadata(half)

    assert [node.op_type for node in half.graph.node] == ["Cast", "Neg", "Exp", "Cast"]
    assert {port.type.tensor_type.elem_type for port in [*half.graph.input, *half.graph.output]} == {
        onnx.TensorProto.FLOAT
    }
    assert "onnx.quant.pre_process" in {entry.key for entry in half.metadata_props}
