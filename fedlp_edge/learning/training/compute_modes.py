"""How the processor computes: the number format, and the order of the pixels in memory.

Plain float32 is right everywhere and fastest almost nowhere. What is faster depends on the processor, the model
and the batch: channels-last spares many CPUs a slow layout of convolutions and pooling, and bfloat16 halves the work
where the processor multiplies it natively. A *compute mode* names one combination; weights and their updates stay
float32 in all of them, so what is exchanged does not tell how it was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.system.processor_info import cpu_flags

_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one as ARM names it


@dataclass(frozen=True, slots=True)
class Compute:
    """One way to compute.

    Attributes:
        name: as in the configuration.
        bfloat16: whether layers compute in bfloat16 where autocast knows that it does no harm.
        channels_last: whether images and filters lie in memory with the channels of a pixel together.
    """

    name: ComputeMode
    bfloat16: bool
    channels_last: bool

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The block in which the forward pass and the loss of one step run."""
        return torch.autocast(device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    @contextmanager
    def prepared(self, model: nn.Module) -> Iterator[None]:
        """Within the block the model's filters are laid out this way; afterwards they are as they were."""
        if not self.channels_last:
            yield
            return
        filters = [(p, p.data) for p in model.parameters() if p.dim() == 4 and p.is_contiguous()]
        handles = [m.register_forward_hook(_align_gradient) for m in model.modules() if isinstance(m, nn.MaxPool2d)]
        try:
            for parameter, values in filters:
                parameter.data = _reordered(values)
            yield
        finally:
            for handle in handles:
                handle.remove()
            _lay_out_as_before(filters)


COMPUTE: dict[ComputeMode, Compute] = {
    "float32": Compute("float32", bfloat16=False, channels_last=False),
    "float32-channels-last": Compute("float32-channels-last", bfloat16=False, channels_last=True),
    "bfloat16": Compute("bfloat16", bfloat16=True, channels_last=False),
    "bfloat16-channels-last": Compute("bfloat16-channels-last", bfloat16=True, channels_last=True),
}
"""All compute modes, the most exact first."""


def candidates(model: nn.Module, device: torch.device) -> tuple[ComputeMode, ...]:
    """The modes that make sense for a model on a processor, plain float32 first."""
    has_images = any(parameter.dim() == 4 for parameter in model.parameters())
    native = has_bfloat16(device)
    return tuple(
        name
        for name, compute in COMPUTE.items()
        if (has_images or not compute.channels_last) and (native or not compute.bfloat16)
    )


def has_bfloat16(device: torch.device) -> bool:
    """Whether a processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(_NATIVE_BFLOAT16 & cpu_flags())


def _reordered(values: Tensor) -> Tensor:
    """The same filters [O, I, H, W] in the same memory, channels last: there may be no room for a second copy."""
    _, inputs, height, width = values.shape
    ordered = values.clone(memory_format=torch.contiguous_format)
    # Strides by hand: filters of one channel pass for laid out both ways, and convolutions would take the other.
    strides = (inputs * height * width, 1, width * inputs, inputs)
    return values.as_strided(values.shape, strides).copy_(ordered)


def _lay_out_as_before(filters: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Gives every parameter its own layout back, also where memory is too short to keep its values: those are lost."""
    failure: Exception | None = None
    for parameter, values in filters:
        try:
            values.copy_(parameter.data.clone(memory_format=torch.contiguous_format))
        except Exception as error:
            failure = error
        parameter.data = values
    if failure is not None:
        raise failure


def _align_gradient(_module: nn.Module, _inputs: Any, output: Any) -> None:
    # Behind a pool, flattening puts the gradient into the other layout, and the pool's own backward pass would copy
    # everything that it touches twice.
    if isinstance(output, Tensor) and output.requires_grad:
        output.register_hook(_channels_last)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
