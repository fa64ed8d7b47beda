"""The Ray engine on a cluster of two nodes, each a set of processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError, OperatorError
from fedlp_edge.reporting.events import AnyEvent, UpdateAccepted, WorkerReplaced
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import LocalEngine, simulate
from tests.simulation.conftest import experiment

if TYPE_CHECKING:  # Ray takes seconds to load, and whoever collects tests for others need not do it
    from ray.cluster_utils import Cluster

    from fedlp_edge.simulation.engines.ray import RayEngine

OBJECT_STORE = 100 * 2**20  # bytes; Ray takes no less than 75 MB


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    from fedlp_edge.simulation.engines.ray import RayEngine  # isort: skip  # keeps Ray on the loopback device
    import ray  # isort: skip
    from ray.cluster_utils import Cluster  # isort: skip

    del RayEngine
    nodes = _two_nodes(Cluster)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def _two_nodes(make: type[Cluster]) -> Cluster:
    """A cluster; on a busy machine that reads Ray for the first time, a node may not be there within Ray's patience."""
    for attempt in (1, 2, 3):
        nodes = make()
        try:
            for _ in range(2):
                nodes.add_node(**_node())
        except Exception:
            nodes.shutdown()
            for child in psutil.Process().children(recursive=True):
                if any("/ray/" in word for word in child.cmdline()):  # of the node that is none
                    child.kill()
            if attempt == 3:
                raise
        else:
            break
    return nodes


def _node() -> dict[str, object]:
    return {
        "num_cpus": 1,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
    }


RUN = experiment(model=ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal"))


@pytest.fixture(scope="module")
def local(engine: LocalEngine, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return simulate(RUN, tmp_path_factory.mktemp("local"), engine=engine)


@pytest.fixture(scope="module")
def on_two_nodes(cluster: Cluster) -> Iterator[RayEngine]:
    from fedlp_edge.simulation.engines.ray import RayEngine

    with RayEngine() as started:
        yield started


@pytest.mark.timeout(600)  # the nodes are a dozen processes
def test_ends_with_the_model_of_the_local_engine(on_two_nodes: RayEngine, local: Summary, tmp_path: Path) -> None:
    assert on_two_nodes.workers == 2
    # A node has one processor, and so has an actor.
    import ray

    assert [node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"]] == [1.0, 1.0]
    distributed = simulate(RUN, tmp_path / "ray", engine=on_two_nodes)
    with pytest.raises(DataError, match="1x8x8"):
        simulate(experiment(model=ModelSettings(name="mlp", input=(1, 9, 9))), tmp_path / "bad", engine=on_two_nodes)
    assert distributed.final == local.final
    assert [entry.coverage for entry in distributed.rounds] == [entry.coverage for entry in local.rounds]


@pytest.mark.timeout(600)
def test_actor_that_is_killed_costs_nothing_of_the_model(
    on_two_nodes: RayEngine, local: Summary, tmp_path: Path
) -> None:
    """With the sum of the first update that was accepted, and while it works on another one."""
    seen: list[AnyEvent] = []

    def watch(event: AnyEvent) -> None:
        seen.append(event)
        if sum(isinstance(one, UpdateAccepted) for one in seen) == 1 and isinstance(event, UpdateAccepted):
            kill_an_actor()

    distributed = simulate(RUN, tmp_path / "ray", engine=on_two_nodes, on_event=watch)
    assert distributed.final == local.final
    assert {device.status for entry in distributed.rounds for device in entry.devices} == {"contributed"}
    (replaced,) = [event.reason for event in seen if isinstance(event, WorkerReplaced)]
    assert replaced.startswith("a worker process on the Ray cluster ended while it trained ")


def kill_an_actor() -> None:
    """As the kernel does when memory runs out."""
    actors = [p for p in psutil.process_iter(["cmdline"]) if "ray::_Worker" in " ".join(p.info["cmdline"] or ())]
    mine = [actor for actor in actors if actor.ppid() in {node.pid for node in raylets()}]
    mine[0].kill()


def raylets() -> list[psutil.Process]:
    """Those of this cluster alone: children of this process."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "raylet"]


def test_refuses_more_workers_than_the_cluster_has_processors(cluster: Cluster) -> None:
    from fedlp_edge.simulation.engines.ray import RayEngine

    with pytest.raises(OperatorError, match="2 processors, not 3"):
        RayEngine(3)


def test_a_node_that_is_slow_to_start_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedlp_edge.simulation.engines import ray as engine

    outcomes: list[Exception | None] = [Exception("The current node timed out during startup."), None]

    def init(**options: object) -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    stopped: list[bool] = []
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: stopped.append(True))

    engine._join_or_start()
    assert (outcomes, stopped) == ([], [True])

    outcomes = [Exception("The current node timed out during startup.")] * 2
    with pytest.raises(OperatorError, match=r"Ray cannot be started: The current node timed out .*; is this machine"):
        engine._join_or_start()

    outcomes = [ConnectionError("no cluster at 10.0.0.1:6379")]
    with pytest.raises(OperatorError, match="Ray cannot be reached or started: no cluster at"):
        engine._join_or_start()
