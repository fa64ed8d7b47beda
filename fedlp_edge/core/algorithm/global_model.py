"""Updates the global model during a run: its weights, and the state that server steps, rates and recycling need.

Coordinator and simulation both ask it for the layer-preserving rates of a device in a round (``rates``) and give it the
mean of the round (``step``). Its whole state is in ``weights`` and ``state`` (``server_state``), so a run is resumed by
loading these. With default settings, ``step`` is the plain server step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from fedlp_edge.core.accounting import upload_bytes
from fedlp_edge.core.algorithm import periods, recycling, relative_change, server
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.algorithm.rates import by_importance, within_budget
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.model_digest import model_digest
from fedlp_edge.core.settings import Encoding, SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.errors import ConfigError


class GlobalModel:
    """The global model of one run.

    Args:
        blueprint: Blueprint of the model.
        scheme: Rates, recycling and periods.
        settings: Settings of the server's step.
        weights: Global tensors by name; never modified, each step makes new ones. Constants may be among them.
        state: State of the last step; None before the first.
        update: Whose budget bounds the rates.
        seed: Seed of the run.

    Attributes:
        weights: Values that are exchanged and averaged, by tensor name.
        constants: Values that no training changes, by tensor name.
        state: State that the next server step starts from, beside the weights.

    Raises:
        ConfigError: The scheme names a unit that the model does not exchange, or recycles everything.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        scheme: SchemeSettings,
        settings: ServerSettings,
        weights: Mapping[str, Array],
        state: ServerState | None = None,
        *,
        update: UpdateSettings,
        seed: int,
    ) -> None:
        self._blueprint = blueprint
        self._scheme = scheme
        self._settings = settings
        self._upload_budget = update.budget
        self._seed = seed
        self._rates: dict[tuple[object, ...], dict[str, float]] = {}
        self.weights: dict[str, Array] = {name: w for name, w in weights.items() if name not in blueprint.constants}
        self.constants: dict[str, Array] = {name: w for name, w in weights.items() if name in blueprint.constants}
        state = state or ServerState()
        averages = {name: value for name, value in state.averages.items() if name not in self.constants}
        self.state: ServerState = replace(state, averages=averages)
        _check(blueprint, scheme)

    @property
    def evaluated(self) -> dict[str, Array]:
        """What is evaluated and exported: the running average if there is one, else the weights."""
        if not self._settings.ema:
            return self.weights
        return {name: self.state.averages.get(name, value) for name, value in self.weights.items()}

    @property
    def whole(self) -> dict[str, Array]:
        """The weights and what never changes: all that a checkpoint holds."""
        return self.weights | self.constants

    @property
    def digest(self) -> str:
        """Of the weights."""
        return model_digest(self.weights)

    def digest_of(self, stored: Mapping[str, Array]) -> str:
        """The digest of an earlier version of this model.

        Args:
            stored: Values that a checkpoint holds.
        """
        return model_digest({name: value for name, value in stored.items() if name in self.weights})

    def rates(self, round: int, depth: int, lpr: float, encoding: Encoding) -> dict[str, float]:
        """The rates of a device's units in a round that are not its plain one, by unit id.

        Args:
            round: Number of the round that the device works on, from 1.
            depth: Depth of its submodel.
            lpr: Layer-preserving rate of the device.
            encoding: Encoding of its update, for the bytes of each unit.
        """
        key = (round, depth, lpr, encoding)
        if key not in self._rates:
            rates = self._rates_of_task(round, depth, lpr, encoding)
            self._rates[key] = {unit: rate for unit, rate in rates.items() if rate != lpr}
        return self._rates[key]

    def recycled(self, round: int) -> frozenset[str]:
        """The units whose last update this round applies again."""
        return recycling.choose_recycled(self._changes(), self._scheme.recycle, seed=self._seed, round=round)

    def step(self, round: int, mean: LayerwiseMean) -> None:
        """Takes the model one round further.

        Args:
            round: Number of the round that ``mean`` sums up, from 1.
            mean: Mean of what the devices sent.
        """
        means = mean.means()
        silent = {name: mask for name in means if (mask := mean.unsent(name)) is not None}
        state = self.state
        if self._scheme.recycle or self._scheme.rates == "importance":
            changes = relative_change.relative_changes(self._blueprint.global_units, self.weights, means)
            # As a checkpoint keeps them, so that a restart draws alike.
            rounded = {unit: float(np.float32(value)) for unit, value in changes.items()}
            state = replace(state, changes=state.changes | rounded)
        if self._scheme.recycle:
            # Asynchronous devices may still send what others were told to leave out; what was sent counts.
            missing = [name for name in self._parameters(self.recycled(round)) if name not in means]
            means = means | recycling.recycled_deltas(state.last_updates, missing, self._scheme.recycle_decay)
            applied = {name: value for name, value in means.items() if name not in self._blueprint.statistics}
            state = replace(state, last_updates=state.last_updates | applied)
        self.weights, self.state = server.apply(
            self._settings, state, self.weights, means, self._blueprint.statistics, silent
        )
        if self._settings.ema:
            self.state = replace(self.state, averages=self._averaged(round))
        self._rates.clear()

    def problem(self) -> str:
        """Why these weights cannot be a model; empty if they can."""
        for unit in self._blueprint.global_units:
            for tensor in unit.tensors:
                value = self.weights[tensor.name]
                # Minimum and maximum are NaN if any element is.
                low, high = (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)
                if not (math.isfinite(low) and math.isfinite(high)):
                    return f"{tensor.name} holds a value that is not finite"
                if tensor.least is not None and low < tensor.least:
                    return f"{tensor.name} holds {low:.4g}, and cannot be below {tensor.least:g}"
        return ""

    def restore(self, weights: Mapping[str, Array], state: ServerState) -> None:
        """Goes back to what an earlier step had made."""
        self.weights, self.state = dict(weights), state
        self._rates.clear()

    def _rates_of_task(self, round: int, depth: int, lpr: float, encoding: Encoding) -> dict[str, float]:
        """The rate of every unit that a device of this depth exchanges."""
        scheme, recycled = self._scheme, self.recycled(round)
        units = self._blueprint.exchanged_by(depth)
        idle = recycled.union(periods.withheld_units(scheme.exchange_every, [unit.id for unit in units], round))
        nbytes = {unit.id: upload_bytes(unit, encoding) for unit in units}
        rates = {unit.id: scheme.lpr_of.get(unit.id, lpr) for unit in units if unit.id not in idle}
        if scheme.rates == "importance":
            # A rate that was given by name is meant as it is given.
            free = {unit: rate for unit, rate in rates.items() if unit not in scheme.lpr_of}
            rates |= by_importance(free, nbytes, self._changes())
        if self._upload_budget:
            rates = within_budget(rates, nbytes, self._upload_budget)
        return {unit.id: rates.get(unit.id, 0.0) for unit in units}

    def _changes(self) -> dict[str, float]:
        known = self.state.changes
        return {unit.id: known[unit.id] for unit in self._blueprint.global_units if unit.id in known}

    def _parameters(self, units: Iterable[str]) -> list[str]:
        return [t.name for unit in units for t in self._blueprint.by_id[unit].tensors if t.trainable]

    def _averaged(self, round: int) -> dict[str, Array]:
        """The running average after a round, without a share of the initial weights.

        After t rounds round s has the weight ``ema^(t-s) / (1 + ema + ... + ema^(t-1))``.
        """
        decay = self._settings.ema
        new = np.float32((1 - decay) / (1 - decay**round))
        averaged: dict[str, Array] = {}
        for name, value in self.weights.items():
            old = self.state.averages.get(name, value)
            averaged[name] = np.asarray(old + new * (value - old), dtype=np.float32)
        return averaged


def _check(blueprint: Blueprint, scheme: SchemeSettings) -> None:
    known = [unit.id for unit in blueprint.global_units]
    for key, table in (("lpr_of", scheme.lpr_of), ("exchange_every", scheme.exchange_every)):
        for unit in table:
            if unit not in known:
                raise ConfigError(
                    f"[scheme] {key}: {blueprint.model} exchanges no unit {unit}; it has {' '.join(known)}"
                )
    if scheme.recycle >= len(known):
        raise ConfigError(
            f"[scheme] recycle = {scheme.recycle}, but {blueprint.model} has {len(known)} units: take fewer"
        )
