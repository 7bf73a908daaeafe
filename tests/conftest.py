"""One thread for a test, and no time limits: pytest-xdist keeps the cores busy, and no test may fail for being slow."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch; tiny products are slower on two

from hypothesis import settings  # noqa: E402

settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")
