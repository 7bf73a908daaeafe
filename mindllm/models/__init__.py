"""The model families. MODELS maps `model_type` to the class; a model is a torch module made from its config alone."""

from mindllm.models.mindllm import MindLLM

MODELS: dict[str, type[MindLLM]] = {"mindllm": MindLLM}
