"""One thread for a test: pytest-xdist keeps the cores busy already, and tiny products are many times slower on two."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
