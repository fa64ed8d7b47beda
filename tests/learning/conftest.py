"""One thread: the figures of these tests must not depend on who else uses the machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
