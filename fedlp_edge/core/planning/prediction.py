"""How much memory and time training a depth takes on a device: step table times calibration.

Measured peaks are of the worker's resident memory, on top of the idle worker; what they are made of and how close this
comes is told in ``docs/planning.md``.
"""

from __future__ import annotations

import math

from fedlp_edge.core.accounting import download_bytes, upload_bytes
from fedlp_edge.core.augment_settings import AugmentSettings
from fedlp_edge.core.blueprint import Blueprint, DepthCost
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import BroadcastEncoding, Encoding, TrainingSettings
from fedlp_edge.core.step_cost import StepCost, peak_bytes

MEMORY_FACTOR = 1.7
"""Without a step table: what a process takes over the sum of values, gradients, optimiser and saved activations."""

MEMORY_FLOOR = 1 << 20
"""Without a step table: bytes that any training step takes, however small the model."""

BACKWARD_AND_FORWARD = 3
"""Training MACs per forward MAC: the backward pass computes two products per forward one."""

ANY_DEVICE = Calibration()
"""For a device that has not calibrated itself: measured on x86-64, PyTorch 2.15, glibc 2.36, one thread."""

ON_CUDA = Calibration(exact=1.0, cached=1.0, operation_bytes=512.0, copies=0.0)
"""For a GPU, whose allocator counts tensors in blocks of 512 bytes; changes are written from the CPU's memory. Derived
from how PyTorch counts, not measured: workspaces of cuDNN come on top."""

STATE_TRAFFIC = 4
"""How often a step reads or writes the model's values, whatever the batch: gradients, momentum, the update."""

AUGMENTED_COPIES = 2
"""Copies of a batch that augmentation makes beside the batch itself, at most."""

TORCHVISION_BYTES = 180_000_000
"""What importing torchvision takes for good: 172 MB with torchvision 0.29 and PyTorch 2.14 on x86-64."""

_OPTIMIZER_SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}


def training_memory(cost: DepthCost, training: TrainingSettings, calibration: Calibration | None = None) -> int:
    """Bytes that training a depth takes on top of the idle worker, the model's values included.

    Args:
        cost: Cost of the depth.
        training: Batch size, optimizer and how memory is saved.
        calibration: Calibration of the device; None for the built-in one.
    """
    slots = 4 * cost.parameters * _slots(training)
    if cost.step is None:
        return _without_table(cost, training, slots)
    measured = calibration or ANY_DEVICE
    memory_saving = training.memory
    memory_points = cost.step.checkpointed if memory_saving.checkpointing else cost.step.memory_points
    live = peak_bytes(memory_points, _batch(training)) + slots
    factor = measured.exact if memory_saving.allocator == "exact" else measured.cached
    # The model's values were there before the first step and are taken once, whatever the allocator does.
    copies = measured.copies * cost.step.largest_parameter
    gaps = measured.operation_bytes * cost.step.operations
    return int(measured.base + gaps + cost.step.state_bytes + factor * live + copies)


def device_memory(
    blueprint: Blueprint, depth: int, training: TrainingSettings, calibration: Calibration | None = None
) -> int:
    """Bytes that a device needs on top of the idle worker at a depth: to build the model, then to train."""
    trained = training_memory(blueprint.costs[depth - 1], training, calibration)
    varied = 0
    if training.augment != AugmentSettings():
        # Whole batches are varied, however small the parts are in which they are trained.
        varied = AUGMENTED_COPIES * 4 * math.prod(blueprint.input_shape) * training.batch_size
    return max(blueprint.building.peak, library_memory(blueprint, training) + trained + varied)


def library_memory(blueprint: Blueprint, training: TrainingSettings) -> int:
    """Bytes that packages take for good: those that the model imports, and torchvision for transforms of pictures."""
    # A model of torchvision has imported it already.
    return max(blueprint.building.libraries, TORCHVISION_BYTES if training.augment.transforms else 0)


def epoch_seconds(
    cost: DepthCost, training: TrainingSettings, samples: int, speed: float, calibration: Calibration | None = None
) -> float:
    """Seconds of one pass over the samples.

    Args:
        cost: Cost of the depth.
        training: Batch size and how memory is saved.
        samples: Number of samples on the device.
        speed: Multiply-accumulates per second in training, for a device without a calibration; 0 if unknown.
        calibration: Calibration of the device.

    Returns:
        0 if nothing about the device's speed is known.
    """
    if cost.step is not None and calibration is not None and calibration.timed:
        return _timed(cost.step, training, samples, calibration)
    return BACKWARD_AND_FORWARD * cost.forward_macs * samples / speed if speed else 0.0


def training_seconds(blueprint: Blueprint, depth: int, training: TrainingSettings, facts: DeviceFacts) -> float:
    """Seconds of a round's training on a device; 0 if nothing about its speed is known."""
    cost, speed = blueprint.costs[depth - 1], facts.training_macs_per_second
    return training.epochs * epoch_seconds(cost, training, facts.samples, speed, facts.calibration)


def transfer_seconds(
    blueprint: Blueprint, depth: int, encoding: Encoding, rate: float | None, broadcast: BroadcastEncoding = "none"
) -> tuple[float, float]:
    """Seconds that a round's model keeps a link busy on its way down, and an update of everything on its way up.

    Both travel as they are, without base64 or other padding; what MQTT adds is in the measured rate.

    Args:
        blueprint: Blueprint of the model.
        depth: Depth of the submodel that is exchanged.
        encoding: Encoding of the update.
        rate: Bytes per second of the slower direction; None or 0 if unknown, which takes no time.
        broadcast: Encoding of the model.
    """
    units = blueprint.exchanged_by(depth)
    if not rate:
        return 0.0, 0.0
    down = sum(download_bytes(unit, broadcast) for unit in units)
    return down / rate, sum(upload_bytes(unit, encoding) for unit in units) / rate


def _timed(step: StepCost, training: TrainingSettings, samples: int, measured: Calibration) -> float:
    memory_saving = training.memory
    paced = [(work, measured.paces[kind]) for kind, work in step.work.items() if kind in measured.paces]
    one = sum(pace.sample(work) for work, pace in paced)
    each = sum(pace.step(work) for work, pace in paced)
    again = 1.0 + (step.recomputed_macs / max(1, step.macs) if memory_saving.checkpointing else 0.0)
    steps = -(-samples // _batch(training))
    seconds = again * (one * samples + each * steps) + measured.step * steps
    if "elementwise" in measured.paces:
        seconds += steps * STATE_TRAFFIC * step.state_bytes * measured.paces["elementwise"].moved
    return seconds * measured.correction * (measured.slowdown if memory_saving.allocator == "exact" else 1.0)


def _without_table(cost: DepthCost, training: TrainingSettings, slots: int) -> int:
    """Weights, their copy from before training, gradients, optimizer, and the activations of one batch."""
    state = 12 * cost.parameters + slots
    return int(MEMORY_FACTOR * (state + _batch(training) * cost.activation_bytes)) + MEMORY_FLOOR


def _batch(training: TrainingSettings) -> int:
    return min(training.batch_size, training.memory.micro_batch or training.batch_size)


def _slots(training: TrainingSettings) -> int:
    return _OPTIMIZER_SLOTS[training.optimizer] if training.optimizer != "sgd" or training.momentum else 0
