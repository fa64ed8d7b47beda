"""A fleet's repository with one fleet key and one online key, and a release of a model that has weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from coordinator.rollout.signed_orders import SignedOrders
from fedlp_edge.release.graph_maker import GraphMaker
from fedlp_edge.release.key_files import make_key, read_private_key
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.tensor_index import TensorIndex
from fedlp_edge.wire.tensors import pack

WEIGHTS = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
UNIT = pack({"w": WEIGHTS})
"""A unit of the model as a device has it in its cache."""

MODEL = "model-d1.onnx"


class SignedFleet:
    """The operator's side of a fleet that signs its releases.

    Attributes:
        repository: of the fleet.
        fleet: signs releases.
        online: signs who gets what.
        orders: what ``fedlp deploy`` signs with.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = ReleaseRepository(directory / "repo")
        make_key(directory / "fleet.key", "")
        make_key(directory / "online.key", "")
        self.fleet = read_private_key(directory / "fleet.key", lambda _: "")
        self.online = read_private_key(directory / "online.key", lambda _: "")
        self.repository.create([self.fleet.public_key], 1, self.online.public_key, [self.fleet])
        self.root = (directory / "repo/root.json").read_bytes()
        self.orders = SignedOrders(self.repository, directory / "online.key")

    def release(self, name: str, change: float = 0.0, *, graph: bool = True) -> Path:
        """Signs a model of these weights; returns its directory."""
        place = self.directory / name
        place.mkdir()
        tensors = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.float32([change]), "c")]
        model = helper.make_model(helper.make_graph([], name, [], [], tensors))
        onnx.save(model, str(place / MODEL))
        (place / "model-d1.selftest.npz").write_bytes(b"self-test")
        (self.directory / "unit").write_bytes(UNIT)
        made = GraphMaker(TensorIndex.of([self.directory / "unit"])).make(place / MODEL)
        if graph and made is not None:
            (place / f"{MODEL}.graph").write_bytes(made)
        result = self.repository.sign_release(name, sorted(place.iterdir()), [self.fleet])
        assert not result.missing
        return place
