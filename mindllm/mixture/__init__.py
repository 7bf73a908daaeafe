"""The data order: which sample of which source a run sees at step s, through phases; nothing of it is stored."""

from mindllm.mixture.mixture import Mixture as Mixture
from mindllm.mixture.mixture import MixtureBatches as MixtureBatches
from mindllm.mixture.mixture import Place as Place
from mindllm.mixture.mixture import Row as Row
from mindllm.mixture.past import past_differences as past_differences
from mindllm.mixture.phases import PhaseConfig as PhaseConfig
from mindllm.mixture.sizes import BatchSizes as BatchSizes
