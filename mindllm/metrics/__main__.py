"""The command line of the package: python -m mindllm.metrics plot RUN [RUN ...] key=value ..."""

import sys

from mindllm.cli import Verb, main
from mindllm.metrics.plot import PlotConfig, plot

VERBS = {"plot": Verb(PlotConfig, plot, words="runs")}

if __name__ == "__main__":
    sys.exit(main("python -m mindllm.metrics", VERBS))
