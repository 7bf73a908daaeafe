"""Checkpoints of a training run: complete or absent, checked, kept by rule."""

from mindllm.checkpoint.save import Keep as Keep
from mindllm.checkpoint.save import Progress as Progress
from mindllm.checkpoint.save import Saver as Saver
from mindllm.checkpoint.save import damage as damage
from mindllm.checkpoint.save import folder_name as folder_name
from mindllm.checkpoint.save import latest as latest
from mindllm.checkpoint.save import read_progress as read_progress
from mindllm.checkpoint.save import resume as resume
from mindllm.checkpoint.save import run_differences as run_differences
from mindllm.checkpoint.save import save as save
