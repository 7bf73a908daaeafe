"""Export: the newest checkpoint of a run as a Hugging Face folder, checked against our own model before it is done.

The folder is loaded again with stock transformers; its logits must equal ours and its token ids those of our
tokenizer on probe texts in both languages. Memory: the weights in fp32 three times.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mindllm import checkpoint
from mindllm.cli import Verb, main
from mindllm.config import UserError, load
from mindllm.engine import load_weights
from mindllm.hf.export import load_exported, quiet, to_huggingface, write_export
from mindllm.models import MODELS
from mindllm.models.mindllm import MindLLM
from mindllm.pretrain import PretrainConfig
from mindllm.stage import Stage, hash_file, require
from mindllm.text import PII_MASKS
from mindllm.tokenizer import Tokenizer, load_tokenizer

PROBES = (
    "The lighthouse keeper wrote 1,024 letters; none of them was answered.",
    "山中相送罢，日暮掩柴扉。春草明年绿，王孙归不归？",
    "臺灣的夏天很熱，他們在港口修理舊船，花了３６天。",
    f"def area(r):\n    return 3.14 * r ** 2  # 圆的面积\n\n联系：{PII_MASKS[2]} 😀\t龘",
)
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.15}  # of logits; fp32 differs by the order of sums only


@dataclass
class ExportConfig:
    """A trained run as a Hugging Face folder.

    model: the run folder of a training.  out: the exported folder.  dtype: of the stored weights.
    """

    run: str = "runs/demo"
    model: str = "{run}/pretrain"
    tokenizer: str = "{run}/tokenizer"
    out: str = "{run}/export"
    dtype: Literal["float32", "bfloat16"] = "float32"
    force: bool = False


def export(config: ExportConfig) -> int:
    """Export a trained model so that stock transformers loads it, and check that it computes the same."""
    folder = checkpoint.latest(Path(config.model))
    if folder is None:
        raise UserError(f"{config.model}: no complete checkpoint here; train first: python -m mindllm.pretrain CONFIG")
    trained = require(config.model, "finish the training: python -m mindllm.pretrain CONFIG")
    tokenizer = load_tokenizer(config.tokenizer)
    if trained["inputs"]["tokenizer"] != tokenizer.fingerprint:
        raise UserError(
            f"{config.tokenizer}: tokenizer {tokenizer.fingerprint} is not the {trained['inputs']['tokenizer']} that "
            f"{config.model} was trained with; set tokenizer= to that one's folder"
        )
    inputs = {
        "checkpoint": {p.name: hash_file(p) for p in sorted(folder.glob("*.pt"))},
        "tokenizer": tokenizer.fingerprint,
    }
    stage = Stage(config.out, "export", {"dtype": config.dtype}, inputs)
    if not stage.start(config.force):
        return 0
    quiet()
    ours, settings = restore(folder, Path(config.model))
    model = to_huggingface(ours.config, ours.state_dict(), tokenizer.eos_id, tokenizer.pad_id)
    write_export(model, tokenizer.folder, stage.folder, config.dtype, settings.seq_len)
    worst = compare(ours, tokenizer, stage.folder, config.dtype)
    print(f"export: {type(model).__name__}, {ours.num_parameters() / 1e6:.2f}M parameters, "
          f"largest logit difference {worst:.1e}", flush=True)  # fmt: skip
    size = sum(p.stat().st_size for p in stage.folder.glob("*.safetensors"))
    stage.finish(**{"in": ours.num_parameters(), "out": size, "unit": "parameters -> bytes",
                    "class": type(model).__name__, "step": checkpoint.read_progress(folder).step,
                    "max_logit_difference": worst})  # fmt: skip
    return 0


def restore(folder: Path, run: Path) -> tuple[MindLLM, PretrainConfig]:
    """Our model with the weights of a checkpoint (fp32, CPU, eval mode), and the config of its run."""
    settings = load(PretrainConfig, run / "config.yaml")
    model = MODELS[settings.model.model_type](settings.model)
    model.load_state_dict(load_weights(folder, settings.train.zero_stage))
    return model.eval(), settings


@torch.no_grad()
def compare(ours: MindLLM, tokenizer: Tokenizer, folder: Path, dtype: str) -> float:
    """Largest difference of logits between our model and the exported one.

    Raises RuntimeError when logits or ids disagree.
    """
    theirs, their_tokenizer = load_exported(folder, dtype)
    differences: list[Tensor] = []
    for text, array in zip(PROBES, tokenizer.encode_batch(PROBES), strict=True):
        ids = array.tolist()
        their_ids: Any = their_tokenizer.encode(text, add_special_tokens=False)
        if their_ids != ids or their_tokenizer.decode(ids) != text:
            raise RuntimeError(f"export: the exported tokenizer disagrees on {text!r}: {ids} against {their_ids}")
        tokens = torch.tensor([ids[: ours.config.max_position_embeddings]])
        differences.append((ours(tokens) - theirs(tokens).logits.float()).abs().max())
    worst = float(torch.stack(differences).max())  # Python's max would drop a nan
    if not worst <= TOLERANCE[dtype]:
        raise RuntimeError(
            f"export: logits differ by {worst:.2e}, more than {TOLERANCE[dtype]} for {dtype}; nothing is marked as done"
        )
    return worst


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.export", Verb(ExportConfig, export)))
