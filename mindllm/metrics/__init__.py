"""What a run says about itself, and what can be read from it."""

from mindllm.metrics.flops import flops_per_token as flops_per_token
from mindllm.metrics.flops import mean_keys as mean_keys
from mindllm.metrics.peaks import peak_of as peak_of
from mindllm.metrics.peaks import peak_tflops as peak_tflops
from mindllm.metrics.read import read_metrics as read_metrics
from mindllm.metrics.read import untimed as untimed
from mindllm.metrics.record import Metrics as Metrics
