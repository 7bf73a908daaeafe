"""The engine for Ray, on one machine: the same bytes as here, whatever dies. Skipped where Ray is not installed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from raw_inputs import read
from test_local_engine import gone, wait_for
from test_quarantine import KEPT, REASONS, contents, hostile_read, make_config, outcome

from data_pipeline import ray_engine, workers
from data_pipeline.clean import clean
from data_pipeline.config import DataConfig
from data_pipeline.document import Document
from data_pipeline.reading.input_shard import InputShard
from data_pipeline.workers import WorkersConfig
from mindllm.config import RunFailed, UserError, load

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra: ray")
ROOT = Path(__file__).resolve().parent.parent
RAY = WorkersConfig("ray", 2)


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """What the first test starts serves all; it is stopped at the end, though pytest may go on for long.

    One process of pytest at a time: of two Rays on a machine, `auto` joins the one that was started last.
    """
    with open(Path(tempfile.gettempdir()) / "mindllm-ray-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        if ray_engine._started:
            sys.modules["ray"].shutdown()
            ray_engine._started = None


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSES", (0.0,))


def square(number: int) -> int:
    if number == 3:
        raise ValueError("不 no threes")
    return number * number


@needs_ray
def test_results_keep_their_order_and_failures_their_trace() -> None:
    results, (failure,) = workers.run(square, range(6), RAY, "squares")
    assert results == [0, 1, 4, 16, 25]
    assert (failure.name, failure.reason, failure.attempts) == ("3", "ValueError: 不 no threes", 3)
    assert 'raise ValueError("不 no threes")' in failure.trace and "test_ray_engine.py" in failure.trace
    assert workers.run_all(square, [1, 2], WorkersConfig("ray", 1), "fewer workers") == [1, 4]


def refuse(number: int) -> int:
    if number:
        raise UserError("坏: wrong")
    return number


@needs_ray
def test_a_refusal_ends_the_run_and_ray_serves_the_next() -> None:
    with pytest.raises(UserError, match="坏: wrong"):
        workers.run(refuse, range(50), RAY, "refused")
    assert workers.run_all(refuse, [0, 0], RAY, "next") == [0, 0]


def write_here(name: str) -> tuple[str, int]:
    Path(name).write_text("雨 rain")
    return os.getcwd(), os.getpid()


@needs_ray
def test_relative_paths_mean_the_same_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (where, pid), _ = workers.run_all(write_here, ["out/甲", "out/b"], RAY, "relative")
    assert where == str(tmp_path) and pid != os.getpid() and (tmp_path / "out" / "甲").read_text() == "雨 rain"


def die(path: Path) -> str:
    """Kills its process as often as the file says."""
    left = int(path.read_text())
    path.write_text(str(left - 1))
    if left:
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


@needs_ray
def test_a_killed_worker_costs_an_attempt_of_its_item(tmp_path: Path) -> None:
    deaths = {"a": 0, "b": 1, "丙": 2, "d": 0}
    for name, number in deaths.items():
        (tmp_path / name).write_text(str(number))
    items = [tmp_path / name for name in deaths]
    results, (failure,) = workers.run(die, items, WorkersConfig("ray", 2, attempts=2), "deadly")
    assert results == ["a", "b", "d"] and (failure.name, failure.attempts) == ("丙", 2)
    assert failure.reason.startswith("the worker process died: killed from outside") and "Ray:" in failure.reason


@needs_ray
def test_quarantine_works_as_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_pipeline.clean.read", hostile_read)
    assert clean(make_config(tmp_path, "here", workers=WorkersConfig(num_workers=2))) == 0
    assert clean(make_config(tmp_path, "ray", workers=RAY)) == 0
    assert outcome(tmp_path / "ray" / "clean") == (KEPT, REASONS)
    assert contents(tmp_path / "ray" / "clean") == contents(tmp_path / "here" / "clean")
    assert not list(tmp_path.rglob(".*.tmp"))


def sample(folder: Path, settings: WorkersConfig) -> DataConfig:
    """The sample web, in several shards."""
    given = [f"run={folder}", f"sources.web.path={ROOT / 'samples' / 'web'}", "shard_bytes=50000"]
    return replace(load(DataConfig, ROOT / "configs" / "data" / "sample.yaml", given), workers=settings)


def deadly_read(shard: InputShard, mark: Path) -> Iterator[Document]:
    """`read`, but the process that comes to the tenth document of all first is killed."""
    for number, document in enumerate(read(shard)):
        if number == 10 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield document


@pytest.fixture(scope="module")
def sample_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the sample's clean stage, made by one local worker."""
    folder = tmp_path_factory.mktemp("sample")
    assert clean(sample(folder, WorkersConfig(num_workers=1))) == 0
    return contents(folder / "clean")


@pytest.mark.parametrize("settings", [WorkersConfig(num_workers=2), WorkersConfig(num_workers=4)])
def test_local_workers_change_no_byte(settings: WorkersConfig, tmp_path: Path, sample_bytes: dict[str, bytes]) -> None:
    assert len([name for name in sample_bytes if name.startswith("stats/")]) >= 5
    assert clean(sample(tmp_path, settings)) == 0
    assert contents(tmp_path / "clean") == sample_bytes


@needs_ray
@pytest.mark.parametrize("killed", [False, True])
def test_ray_changes_no_byte_nor_does_a_killed_worker(
    killed: bool, tmp_path: Path, sample_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if killed:
        reader = functools.partial(deadly_read, mark=tmp_path / "killed")
        monkeypatch.setattr("data_pipeline.clean.read", reader)
    assert clean(sample(tmp_path, RAY)) == 0
    assert (tmp_path / "killed").exists() == killed
    assert contents(tmp_path / "clean") == sample_bytes


def shipped(folder: Path, number: int) -> int:
    return number


@needs_ray
def test_a_folder_that_a_worker_cannot_see_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_folders", lambda function: [str(tmp_path / "nowhere")])
    with pytest.raises(RunFailed, match="nowhere does not exist on .*: all machines must share it"):
        workers.run(square, [1, 2], RAY, "unshared")


def test_folders_are_those_that_the_function_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    function = functools.partial(shipped, Path("out"), other=tmp_path, text="out", file=tmp_path / "file")
    assert ray_engine._folders(function) == [str(tmp_path / "out"), str(tmp_path)]
    assert ray_engine._folders(shipped) == []


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[ray\]'"):
        workers.run(square, [1], RAY, "no ray")


def test_a_cluster_that_cannot_be_joined_is_named() -> None:
    def init(address: str, **options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    with pytest.raises(UserError, match="workers.address: cannot join Ray at 'auto': ConnectionError: Could not find"):
        ray_engine._initialise(SimpleNamespace(init=init), 0, "auto")  # type: ignore[arg-type]


def test_ray_of_one_machine_keeps_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    ray_engine._keep_to_this_machine()
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    ray_engine._keep_to_this_machine()  # the user's own settings stay
    assert "RAY_AUTH_TOKEN" not in os.environ


NODES = """
import concurrent.futures, pathlib, ray, sys, test_ray_engine as t
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
nodes = [cluster.add_node(num_cpus=1)]
folder = pathlib.Path(sys.argv[1])
settings = t.WorkersConfig("ray", 0, cluster.address, attempts=2)
with concurrent.futures.ThreadPoolExecutor() as thread:  # a cluster's nodes are made and removed by the main thread
    run = thread.submit(t.workers.run_all, t.where, [folder / name for name in "abcd"], settings, "nodes")
    t.wait_for(lambda: t.seen(folder) == 2)
    nodes.append(cluster.add_node(num_cpus=1))
    t.wait_for(lambda: t.seen(folder) == 3)
    here = ray.get_runtime_context().get_node_id()  # of this driver; it would end with its node
    cluster.remove_node(*[node for node in nodes if node.node_id != here][:1], allow_graceful=False)
    (folder / "go").touch()
    print(*run.result())
"""


def where(path: Path) -> str:
    """Writes down the node that this runs on, as its raylet's process number, and waits for a sign to go on."""
    with open(path, "a") as file:
        print(os.getppid(), file=file)
    wait_for((path.parent / "go").exists)
    return path.name


def seen(folder: Path) -> int:
    """Number of nodes on which something has run."""
    return len({line for path in folder.glob("[a-d]") for line in path.read_text().split()})


@needs_ray
@pytest.mark.slow
def test_a_cluster_gets_a_node_and_loses_one(tmp_path: Path) -> None:
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    environment = {**os.environ, **secret, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    command = [sys.executable, "-c", NODES, str(tmp_path)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert "a b c d\n" in done.stdout  # Ray says there, too, that a node was lost
    tries = [len((tmp_path / name).read_text().split()) for name in "abcd"]
    assert sorted(tries) == [1, 1, 1, 2]  # the one that the lost node had


SLEEPERS = """
import pathlib, sys, test_local_engine as t
t.workers.run(t.sleep_long, [pathlib.Path(sys.argv[1]) / n for n in "ab"], t.WorkersConfig("ray", 2), "sleepers")
"""


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc to see processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_ray_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    command = [sys.executable, "-c", SLEEPERS, str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    pids = [wait_for(lambda path=tmp_path / name: path.exists() and int(path.read_text() or 0)) for name in "ab"]
    everyone = pids + children(parent.pid)  # the workers, Ray's raylet and other servers
    parent.send_signal(how)
    assert parent.wait(60) != 0
    for pid in everyone:
        wait_for(lambda pid=pid: gone(pid))


def children(parent: int) -> list[int]:
    """Processes that `parent` has started; two helpers of the raylet notice its death a minute later only."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
