"""Every command loads on a system that lacks what Windows lacks."""

from __future__ import annotations

import subprocess
import sys

from tests.test_architecture import MODULES, NAMES

COMMANDS = [
    "coordinator.command",
    "coordinator.rollout.rollout_command",
    "device_agent.command",
    "fedlp_edge.cli.main",
    "fedlp_edge.serving.serving_loop",
    "fedlp_edge.simulation.engines.local",
    "fedlp_edge.worker.main",
]

PROGRAM = """
import importlib, signal, socket, subprocess, sys, types
import asyncio, multiprocessing, ssl  # what knows the system that it runs on, before it is another one
import msgspec, numpy, paho.mqtt.client, psutil, rich.console, rich.live, typer
import os, select, time

system, names = sys.argv[1], {names}
for module in {modules}:
    sys.modules[module] = None
for module, lacking in names.items():
    if module not in ("ctypes", "tempfile"):
        for name in lacking.split():
            vars(globals().get(module) or importlib.import_module(module)).pop(name, None)
if system == "win32":
    sys.modules["msvcrt"] = types.ModuleType("msvcrt")
sys.platform = system
for module in {commands}:
    importlib.import_module(module)
print(len([name for name in sys.modules if name.startswith(("coordinator", "device_agent", "fedlp_edge"))]))
"""


def test_commands_load_on_windows() -> None:
    parts = {"names": NAMES, "modules": sorted(MODULES), "commands": COMMANDS}
    program = PROGRAM
    for name, value in parts.items():
        program = program.replace(f"{{{name}}}", repr(value))
    done = subprocess.run([sys.executable, "-c", program, "win32"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert int(done.stdout) > 100
