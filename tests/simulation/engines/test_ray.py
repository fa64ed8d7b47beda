"""The Ray engine on a cluster of two nodes, each a set of processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError, OperatorError
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.ray import RayEngine  # keeps Ray on the loopback device, so it comes before Ray
from tests.simulation.conftest import experiment

import ray  # isort: skip
from ray.cluster_utils import Cluster  # isort: skip

OBJECT_STORE = 100 * 2**20  # bytes; Ray takes no less than 75 MB


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args=_node())
    nodes.add_node(**_node())
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def _node() -> dict[str, object]:
    return {
        "num_cpus": 1,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
    }


@pytest.mark.timeout(600)  # the nodes are a dozen processes
def test_ends_with_the_model_of_the_local_engine(cluster: Cluster, engine: LocalEngine, tmp_path: Path) -> None:
    run = experiment(model=ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal"))
    local = simulate(run, tmp_path / "local", engine=engine)
    with RayEngine() as on_two_nodes:
        assert on_two_nodes.workers == 2
        # A node has one processor, and so has an actor.
        assert [node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"]] == [1.0, 1.0]
        distributed = simulate(run, tmp_path / "ray", engine=on_two_nodes)
        with pytest.raises(DataError, match="1x8x8"):
            simulate(
                experiment(model=ModelSettings(name="mlp", input=(1, 9, 9))), tmp_path / "bad", engine=on_two_nodes
            )
    assert distributed.final == local.final
    assert [entry.coverage for entry in distributed.rounds] == [entry.coverage for entry in local.rounds]


def test_refuses_more_workers_than_the_cluster_has_processors(cluster: Cluster) -> None:
    with pytest.raises(OperatorError, match="2 processors, not 3"):
        RayEngine(3)
