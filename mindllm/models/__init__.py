"""The model families. MODELS maps `model_type` to the class; a model is a torch module made from its config alone."""

from typing import Any

from mindllm.models.base import LanguageModel
from mindllm.models.gpt_neo import GPTNeo, GPTNeoConfig
from mindllm.models.mindllm import MindLLM, MindLLMConfig

ModelConfig = MindLLMConfig | GPTNeoConfig
MODELS: dict[str, Any] = {"mindllm": MindLLM, "gpt_neo": GPTNeo}

__all__ = ["MODELS", "GPTNeo", "GPTNeoConfig", "LanguageModel", "MindLLM", "MindLLMConfig", "ModelConfig"]
