"""Chooses the files of an update: what the worker wrote, or its encoding beside it.

The worker writes float32; how it travels is the agent's business. One unit is encoded at a time, so an update
never stands in memory as a whole.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.protocol.events import TrainRound
from fedlp_edge.wire.compression import encoded_pieces, rounding_seed
from fedlp_edge.wire.error_feedback import ErrorFeedback
from fedlp_edge.wire.tensors import unpack_file


def part_files(effect: TrainRound, directory: Path, feedback: ErrorFeedback | None = None) -> dict[str, Path]:
    """Returns the files that make up an update, in the order of the blueprint.

    Args:
        effect: Training that was asked for.
        directory: Holds a ``UNIT.safetensors`` of the worker for every retained unit.
        feedback: Residuals to add, and where those of this update are found afterwards; None for no error feedback.

    Returns:
        A path by unit.

    Raises:
        OSError: A file cannot be read or written.
        PeerError: The worker left a file that is not safetensors.
        RejectedUpdateError: With error feedback, the coordinator would refuse the update.
    """
    plain = {unit: directory / f"{unit}.safetensors" for unit in effect.order if unit in effect.sent}
    if effect.task.encoding == "none":
        return plain
    return {unit: _encode(effect, unit, path, feedback) for unit, path in plain.items()}


def _encode(effect: TrainRound, unit: str, path: Path, feedback: ErrorFeedback | None) -> Path:
    task = effect.task
    tensors, deltas = effect.tensors[unit], unpack_file(path)
    if feedback is None:
        seed = rounding_seed(task.seed, task.round, task.device, unit)
        parts = encoded_pieces(tensors, deltas, task.encoding, seed=seed)
    else:
        parts = [feedback.encode(unit, tensors, deltas, task.encoding)]
    encoded = path.with_suffix(".encoded")
    with encoded.open("wb") as file:
        file.writelines(parts)
    return encoded
