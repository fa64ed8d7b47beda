"""Removes wrappers that change how a model runs and not what it computes, since the fleet learns the model inside."""

from __future__ import annotations

import logging
import sys

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fedlp_edge.errors import PartitionError

log = logging.getLogger("fedlp.learning")


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the module inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` wrappers.

    Args:
        model: A module, wrapped or not; a module without a wrapper is returned as it is.

    Raises:
        PartitionError: The module is TorchScript, whose code cannot be split.
    """
    while True:
        inner: object = None
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            inner = model.module
        elif type(model).__name__ == "OptimizedModule":  # Importing its class would load 150 MB of torch.
            inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            break
        log.info("%s is taken out of its %s: devices train it as it is", type(inner).__name__, type(model).__name__)
        model = inner
    if type(model).__name__ in ("RecursiveScriptModule", "TopLevelTracedModule", "ScriptModule"):
        raise PartitionError(
            "the model is TorchScript (torch.jit), which cannot be split; give the module that it was made from"
        )
    return model


def run_compiled_code_as_written() -> None:
    """Has functions that ``torch.compile`` wraps run without being compiled, for the rest of the process.

    Compiling needs a C++ compiler, which most devices lack, and a minute or more for each size of a batch. A recording
    would have the recorder compiled, too.
    """
    if "torch._dynamo" in sys.modules:  # which torch.compile imports; nobody else shall load its 150 MB
        torch.compiler.set_stance("force_eager")
