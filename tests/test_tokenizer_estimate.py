"""What learning needs: a refusal names a sample that fits; free memory is the machine's or the container's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.tokenizer.config import KINDS
from mindllm.tokenizer.estimate import COSTS, MARGIN, estimate, free_memory, peak_memory, refuse_too_much

SIZES = st.dictionaries(st.sampled_from(["zh", "en", "zh-Hant/web", "other", "en/books"]), st.integers(0, 10**10))


def test_every_kind_has_its_costs() -> None:
    assert set(COSTS) == set(KINDS)
    for kind in KINDS:
        assert estimate(kind, {"zh": 10**9}, 32_000).memory > estimate(kind, {}, 32_000).memory
    text = {"zh-Hant/web": 10**9, "en": 10**8}
    needs = estimate("sentencepiece", text, 125_700)
    assert needs == estimate("sentencepiece", {"zh": 10**9, "en/books": 10**8}, 125_700)
    assert needs.memory > 10**10 and f"{needs.memory / 1e9:.2f} GB of memory" in str(needs)


@given(planned=SIZES, kind=st.sampled_from(KINDS), entries=st.integers(400, 200_000), limit=st.integers(0, 10**12))
def test_what_is_said_to_fit_fits(planned: dict[str, int], kind: str, entries: int, limit: int) -> None:
    try:
        refuse_too_much(kind, planned, entries, 0.0, limit)
        assert estimate(kind, planned, entries).memory * MARGIN <= limit * (1 + 1e-9)
    except UserError as error:
        assert estimate(kind, planned, entries).memory * MARGIN > limit * (1 - 1e-9)
        _, found, suggestion = str(error).partition("this much would fit: 'sample_bytes=")
        if not found:
            assert "needed without any text" in str(error)
            return
        fitting = yaml.safe_load(suggestion.removesuffix("'"))
        assert fitting.keys() == planned.keys() and any(fitting.values())
        assert all(fitting[key] <= planned[key] for key in planned)
        refuse_too_much(kind, fitting, entries, 0.0, limit)


def test_the_limit_of_the_config_counts_before_what_is_free() -> None:
    text = {"zh": 10**9, "en": 3 * 10**9}
    refuse_too_much("sentencepiece", text, 32_000, 0.0, None)  # a system that does not say
    refuse_too_much("sentencepiece", text, 32_000, 1000.0, 1)
    with pytest.raises(
        UserError, match=r"max_memory_gb is 8\n.*would fit: 'sample_bytes={zh: [1-9]\d0+, en: [1-9]\d0+}'"
    ):
        refuse_too_much("sentencepiece", text, 32_000, 8.0, 10**15)
    with pytest.raises(UserError, match="0.01 GB are free here .* use a machine with more memory"):
        refuse_too_much("sentencepiece", text, 32_000, 0.0, 10**7)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2000 kB\n"} | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_of_the_machine(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    assert free_memory(machine(tmp_path, {})) == 2_048_000
    assert free_memory(machine(tmp_path, {"proc/self/cgroup": "0::/nowhere/deep\n"})) == 2_048_000


def test_free_memory_of_a_container(tmp_path: Path) -> None:
    top = "sys/fs/cgroup"
    two = {
        "proc/self/cgroup": "0::/jobs/one\n",
        f"{top}/jobs/memory.max": "1000000\n",
        f"{top}/jobs/memory.current": "900000\n",
        f"{top}/jobs/memory.stat": "anon 5\ninactive_file 300000\n",
        f"{top}/jobs/one/memory.max": "max\n",
        f"{top}/jobs/one/memory.current": "7\n",
    }
    assert free_memory(machine(tmp_path / "two", two)) == 400_000  # file cache can be had back
    assert free_memory(machine(tmp_path / "inside", {"proc/self/cgroup": "0::/\n", f"{top}/memory.max": "5"})) == 5
    one = {
        "proc/self/cgroup": "3:cpu,cpuacct:/x\n5:memory:/jobs\n0::/\n",
        f"{top}/memory/jobs/memory.limit_in_bytes": "600000\n",
        f"{top}/memory/jobs/memory.usage_in_bytes": "700000\n",
        f"{top}/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert free_memory(machine(tmp_path / "one", one)) == 0


def test_here() -> None:
    free = free_memory()
    assert (free is None or free > 10**6) and peak_memory() > 10**7
