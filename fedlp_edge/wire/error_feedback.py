"""This module encodes updates with error feedback: what rounding takes from one update is added to the device's next.

Seide et al. (Interspeech 2014) did so for one bit, Karimireddy et al. (arXiv 1901.09847) say why it converges: the
encoding must bring a value nearer, so integers are rounded to nearest here, and not at random. With deltas ``d``, the
residual ``e`` and the encoding ``Q``, a device sends ``Q(d + e)`` and keeps ``d + e - Q(d + e)``. Residuals exist for
trained values alone, since statistics travel exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedlp_edge.core.blueprint import TensorSpec, Unit
from fedlp_edge.core.settings import Encoding
from fedlp_edge.wire.admission import admit_part
from fedlp_edge.wire.compression import encode_unit
from fedlp_edge.wire.tensors import Array


class ErrorFeedback:
    """The residuals of one device while one update is encoded.

    Args:
        start: Residuals that the device's last update in the model has left, by tensor name; empty if there are none.

    Attributes:
        residuals: Residuals that this update leaves: those of tensors that are not sent stay as they were.
    """

    def __init__(self, start: Mapping[str, Array]) -> None:
        self._start = start
        self.residuals: dict[str, Array] = dict(start)

    def encode(
        self, unit: str, tensors: tuple[TensorSpec, ...], deltas: Mapping[str, Array], encoding: Encoding
    ) -> bytes:
        """Encodes one unit's part of an update, again in place of an earlier attempt.

        Args:
            unit: Id of the unit.
            tensors: Tensors of the unit that are sent, in the order of the blueprint.
            deltas: Deltas by tensor name, float32.
            encoding: Encoding that the task asks for.

        Raises:
            RejectedUpdateError: The coordinator would refuse the deltas.
        """
        wanted: dict[str, Array] = {}
        for spec in tensors:
            residual = self._start.get(spec.name)
            # A residual of another shape is of an earlier model.
            fits = residual is not None and spec.trainable and residual.shape == spec.shape
            wanted[spec.name] = deltas[spec.name] + residual if residual is not None and fits else deltas[spec.name]
        blob = encode_unit(tensors, wanted, encoding, nearest=True)
        sent = admit_part(Unit(unit, unit, "layer", 1, tensors), tensors, blob, encoding)
        for spec in tensors:
            self.residuals.pop(spec.name, None)
            if spec.trainable:
                self.residuals[spec.name] = wanted[spec.name] - sent[spec.name]
        return blob
