"""The command line of the package: python -m mindllm.tokenizer VERB CONFIG key=value ..."""

import sys

from mindllm.cli import Verb, main
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.report import ReportConfig, report
from mindllm.tokenizer.train import train

VERBS = {"train": Verb(TokenizerConfig, train), "report": Verb(ReportConfig, report)}

if __name__ == "__main__":
    sys.exit(main("python -m mindllm.tokenizer", VERBS))
