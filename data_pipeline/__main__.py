"""python -m data_pipeline {clean,dedup,refine,shard} CONFIG key=value ...: raw pages to token shards."""

import sys

from data_pipeline.clean import clean, refine
from data_pipeline.config import DataConfig
from data_pipeline.dedup import dedup
from data_pipeline.shard import shard
from mindllm.cli import Verb, main

VERBS = {
    "clean": Verb(DataConfig, clean),
    "dedup": Verb(DataConfig, dedup),
    "refine": Verb(DataConfig, refine),
    "shard": Verb(DataConfig, shard),
}

if __name__ == "__main__":
    sys.exit(main("python -m data_pipeline", VERBS))
