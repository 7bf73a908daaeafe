"""Weights and shape of a Hugging Face folder (stand-in: being written)."""

from __future__ import annotations

from pathlib import Path

from mindllm.models import LanguageModel, ModelConfig


def read_config(folder: str | Path) -> ModelConfig:
    """Our config of the model in a folder. Raises UserError, all reasons at once, for what we cannot compute."""
    raise NotImplementedError


def load_model(folder: str | Path) -> LanguageModel:
    """The model in a folder: fp32, CPU, eval mode."""
    raise NotImplementedError


def start_from(model: LanguageModel, folder: str | Path, tokenizer_folder: str | Path) -> None:
    """Fill `model` with a folder's weights; rows of new tokens as the enlarged tokenizer says."""
    raise NotImplementedError


def weights_fingerprint(folder: str | Path) -> str:
    """Hash of config.json and all weight files."""
    raise NotImplementedError
