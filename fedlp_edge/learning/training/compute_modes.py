"""Defines the compute modes: combinations of a number format and a memory layout of images.

Plain float32 is correct everywhere and rarely the fastest mode. Which mode is fastest depends on the processor, the
model and the batch size: channels-last avoids slow layouts of convolutions and pooling on many CPUs, and bfloat16
halves the work where the processor multiplies it natively. Weights and updates are float32 in all modes, so that the
exchanged values have one format.
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

_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""CPU flags, the last one on ARM, of processors that multiply bfloat16 natively."""


@dataclass(frozen=True, slots=True)
class Compute:
    """One compute mode.

    Attributes:
        name: Name in the configuration.
        bfloat16: Whether layers compute in bfloat16 where PyTorch's autocast allows it.
        channels_last: Whether images and filters are stored with the channels of a pixel together (NHWC).
    """

    name: ComputeMode
    bfloat16: bool
    channels_last: bool

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Returns the context in which the forward pass and the loss of a train step run."""
        return torch.autocast(device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    @contextmanager
    def prepared(self, model: nn.Module) -> Iterator[None]:
        """Stores the filters of a model in the layout of this mode within a block, and restores them afterwards."""
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
    """Returns the compute modes that may be fastest for a model on a device, plain float32 first.

    Args:
        model: Model to train; channels-last is only for models with 2-D convolutions.
        device: Device that trains; bfloat16 is only for devices that multiply it natively.
    """
    has_images = any(parameter.dim() == 4 for parameter in model.parameters())
    native = has_bfloat16(device)
    return tuple(
        name
        for name, compute in COMPUTE.items()
        if (has_images or not compute.channels_last) and (native or not compute.bfloat16)
    )


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device multiplies bfloat16 natively; emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(_NATIVE_BFLOAT16 & cpu_flags())


def _reordered(values: Tensor) -> Tensor:
    """Reorders filters [O, I, H, W] to channels-last in their own memory, which saves a lasting second copy."""
    _, inputs, height, width = values.shape
    ordered = values.clone(memory_format=torch.contiguous_format)
    # Explicit strides, since filters with one channel match both layouts and convolutions would choose the other one.
    strides = (inputs * height * width, 1, width * inputs, inputs)
    return values.as_strided(values.shape, strides).copy_(ordered)


def _lay_out_as_before(filters: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Restores the layout of every parameter; if memory runs out, a parameter loses its values and not its layout."""
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
    # A flattening after a pool gives the gradient the other layout, and the backward pass of the pool would then copy
    # its input and output.
    if isinstance(output, Tensor) and output.requires_grad:
        output.register_hook(_channels_last)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
