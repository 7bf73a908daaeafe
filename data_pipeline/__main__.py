"""python -m data_pipeline VERB: raw pages to token shards, and a look at what happened on the way."""

import sys

from data_pipeline.clean import clean, refine
from data_pipeline.config import DataConfig
from data_pipeline.dedup import dedup
from data_pipeline.inspect import InspectConfig, inspect
from data_pipeline.report.page import report
from data_pipeline.shard import shard
from data_pipeline.train_quality import TrainQualityConfig, train_quality
from data_pipeline.verify import verify
from mindllm.cli import Verb, main

VERBS = {
    "clean": Verb(DataConfig, clean),
    "dedup": Verb(DataConfig, dedup),
    "refine": Verb(DataConfig, refine),
    "shard": Verb(DataConfig, shard),
    "verify": Verb(DataConfig, verify),
    "report": Verb(DataConfig, report),
    "inspect": Verb(InspectConfig, inspect, "file", "configs/data/sample.yaml"),
    "train-quality": Verb(TrainQualityConfig, train_quality),
}

if __name__ == "__main__":
    sys.exit(main("python -m data_pipeline", VERBS))
