"""To and from Hugging Face folders. Of this project, only this package imports transformers, and only where needed."""

from mindllm.hf.load import load_model
from mindllm.hf.shape import read_config
from mindllm.hf.start import start_from
from mindllm.hf.weights import weights_fingerprint

__all__ = ["load_model", "read_config", "start_from", "weights_fingerprint"]
