"""A build hook that ends an installation on a 32-bit system with one line, before anything is downloaded."""

from __future__ import annotations

import platform
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CheckPlatform(BuildHookInterface[Any]):
    """Hatchling calls it whenever a wheel is built, which pip does before it looks for the dependencies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # the hook's interface
        """Refuses a Python that can load no PyTorch.

        Raises:
            SystemExit: it is a 32-bit one, also on a 64-bit kernel (Raspberry Pi OS 32-bit), or one for Intel's Macs.
        """
        if sys.platform == "darwin" and platform.machine() == "x86_64":
            sys.exit(
                "error: FedLP Edge needs PyTorch 2.6 or newer, which has no builds for Macs with Intel processors; "
                "on a newer Mac use a Python for arm64, and on this one a virtual machine or a container with Linux"
            )
        if sys.maxsize < 2**32:
            sys.exit(
                f"error: FedLP Edge needs a 64-bit operating system, and this Python is a 32-bit one on "
                f"{platform.machine()}: PyTorch has no 32-bit builds. On a Raspberry Pi 3 or newer install the "
                f"64-bit Raspberry Pi OS."
            )
