"""Chooses the encoding in which the model travels to the devices, where ``[update] broadcast`` is ``auto``.

The model is broadcast once for all devices, so the one with the slowest link decides. The choice is made when the first
round opens, from the plans of all devices that are there then, and stays for the run: the journal keeps it, and a
restarted coordinator publishes the same bytes.
"""

from __future__ import annotations

import logging

from coordinator.fleet.registry import Registry
from coordinator.run_context import RunContext
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.planning.planner import fleet_broadcast

log = logging.getLogger("fedlp.coordinator")


class BroadcastChoice:
    """The encoding of the broadcast of one run, chosen once.

    Args:
        context: Context of the run.
        registry: Plans of the devices.
        model: The global model.
        model_server: Serves the model; told the encoding from the start if that is chosen already.
    """

    def __init__(self, context: RunContext, registry: Registry, model: GlobalModel, model_server: ModelServer) -> None:
        self._context = context
        self._registry = registry
        self._model = model
        self._model_server = model_server
        dictated = context.config.update.broadcast
        chosen = context.journal.broadcast() if dictated == "auto" else dictated
        self._chosen = chosen is not None
        if chosen is not None:
            model_server.encoding = chosen
            registry.settle_broadcast(chosen)

    def settle(self) -> None:
        """Chooses, unless that was done before; call it before the first task is given."""
        if self._chosen:
            return
        # Who has left, perhaps in an earlier life of this coordinator, is not waited for either.
        plans = {device: member.plan for device, member in self._registry.members.items()}
        encoding = fleet_broadcast(plans.values(), self._context.blueprint)
        self._context.journal.put_broadcast(encoding)
        self._chosen = True
        self._registry.settle_broadcast(encoding)
        self._model_server.encoding = encoding
        self._model_server.put_weights(self._context.blueprint, self._model.weights)
        if encoding == "none":
            log.info("the model travels to the devices as float32: every link that is known bears it")
        else:
            need = sorted(device for device, known in plans.items() if known.depth and known.broadcast == encoding)
            names = f"{need[0]}{f' and {len(need) - 1} more' if need[1:] else ''}" if need else "the slowest devices"
            log.info("the model travels to the devices as %s: %s could not get it in time otherwise", encoding, names)
