"""This module gives a user without an account a name, which Windows always has.

In a container under a number, PyTorch before 2.13 otherwise fails where it compiles or traces: it names a directory
after the user.
"""

from __future__ import annotations

import os
import sys

_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""Environment variables in which ``getpass.getuser`` looks first."""


def name_this_user() -> None:
    """Names a user without an account, for this process and those that it starts."""
    if sys.platform == "win32" or any(os.environ.get(name) for name in _VARIABLES):
        return
    import pwd  # noqa: PLC0415 - Windows has no such module

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
