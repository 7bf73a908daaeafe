"""python -m eval {harness,bpb,samples,report} CONFIG key=value ...: measure an exported model, show the run."""

import sys

from eval.bpb import bpb
from eval.config import EvalConfig
from eval.harness import harness
from eval.report import report
from eval.samples import samples
from mindllm.cli import Verb, main

VERBS = {
    "harness": Verb(EvalConfig, harness),
    "bpb": Verb(EvalConfig, bpb),
    "samples": Verb(EvalConfig, samples),
    "report": Verb(EvalConfig, report),
}

if __name__ == "__main__":
    sys.exit(main("python -m eval", VERBS))
