"""The only file that imports transformers: our weights as a folder that stock Hugging Face code loads, no remote code.

mindllm/hf/classes.py says which class computes what, mindllm/hf/names.py what its weights are. Memory: the stock model
shares the tensors that it is made from; in bfloat16 it has half as much of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from mindllm.hf.classes import huggingface_config, natural
from mindllm.hf.names import HEAD, embedding_name, to_theirs
from mindllm.hf.shape import CLASSES
from mindllm.models import ModelConfig
from mindllm.stage import read_json, write_json

# All that a tokenizer folder may have: the model file of its kind, and what is the same for both.
TOKENIZER_FILES = (
    "tokenizer.model", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy",
)  # fmt: skip


def to_huggingface(
    config: ModelConfig, weights: Mapping[str, Tensor], eos_id: int, pad_id: int, architecture: str = "",
    num_tokens: int = 0, dtype: str = "float32",
) -> Any:  # fmt: skip
    """A stock transformers model (eval mode) with our weights.

    architecture: "" takes the usual class.  num_tokens: rows to keep of a table that is padded; 0: all.
    """
    architecture, num_tokens = architecture or natural(config), num_tokens or config.vocab_size
    tables = (HEAD, embedding_name(config))
    kept = {name: weight[:num_tokens] if name in tables else weight for name, weight in weights.items()}
    kind, arguments = huggingface_config(architecture, config, num_tokens, eos_id, pad_id)
    settings = getattr(transformers, kind)(**arguments)
    model, report = getattr(transformers, CLASSES[architecture]).from_pretrained(
        None, config=settings, state_dict=to_theirs(architecture, config, kept), dtype=getattr(torch, dtype),
        output_loading_info=True,
    )  # fmt: skip
    lost = {key: sorted(map(str, names)) for key, names in report.items() if names}
    assert not lost, f"the weights do not cover the class: {lost}"
    return model.eval()


def write_export(
    model: Any, tokenizer_folder: Path, out: Path, max_length: int, max_shard_size: str = "5GB", chat_template: str = ""
) -> None:
    """config.json, safetensors, generation_config.json, tokenizer files: what AutoModel and AutoTokenizer expect.

    chat_template: "" leaves the tokenizer's own, if it has one.
    """
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id, max_length=max_length,
    )  # fmt: skip
    model.save_pretrained(out, max_shard_size=max_shard_size)
    _write_older_names(out / "config.json")
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, out / name)
    if chat_template:
        settings = read_json(out / "tokenizer_config.json")
        write_json(out / "tokenizer_config.json", {**settings, "chat_template": chat_template})


def _write_older_names(path: Path) -> None:
    """Rotary positions as transformers 4, vLLM and llama.cpp know them: without, they would take 10000 silently."""
    values = read_json(path)
    if rope := dict(values.get("rope_parameters") or {}):
        theta, plain = rope.pop("rope_theta"), rope["rope_type"] == "default"
        write_json(path, {**values, "rope_theta": theta, "rope_scaling": None if plain else rope})


def load_exported(folder: str | Path, dtype: str = "float32") -> tuple[Any, Any]:
    """(model in eval mode, fast tokenizer) of an exported folder, loaded as any user would. Never remote code."""
    kind = getattr(torch, dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=kind, trust_remote_code=False, local_files_only=True
    )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )


def opens_as_qwen2(folder: Path, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> bool:
    """Whether Qwen2's own tokenizer class, which splits text in its own way, gives these ids for these texts."""
    kind: Any = transformers.Qwen2Tokenizer
    theirs = kind.from_pretrained(folder, local_files_only=True)
    found = [theirs.encode(text, add_special_tokens=False) for text in texts]
    return found == [list(own) for own in ids]


def quiet() -> None:
    """Keep transformers' progress bars and advice off the screen; its errors still come."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
