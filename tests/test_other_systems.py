"""No module uses what Windows or macOS lacks, but for those whose task it is to know the difference."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [path for root in ("fedlp_edge", "coordinator", "device_agent") for path in (ROOT / root).rglob("*.py")]
MODULES = frozenset({"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"})
NAMES = {
    "os": "O_CLOEXEC O_DIRECT O_DIRECTORY O_NOFOLLOW SCHED_IDLE chown copy_file_range fchmod fchown fork forkpty "
    "geteuid getloadavg getpgid getuid killpg lchown mkfifo nice pipe2 posix_fadvise posix_fallocate pread preadv "
    "pwrite pwritev sched_getaffinity sched_setaffinity sendfile set_blocking setsid statvfs sync sysconf umask uname "
    "wait waitpid",
    "signal": "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 pidfd_send_signal "
    "pthread_sigmask setitimer sigwait",
    "socket": "AF_UNIX SO_REUSEPORT TCP_QUICKACK recv_fds send_fds",
    "select": "epoll kqueue poll",
    "time": "CLOCK_BOOTTIME clock_settime",
    "ctypes": "CDLL",
}
"""Names of modules that Windows, or Windows and macOS, lack; and ``CDLL``, which takes no None on Windows."""

KNOWING = {
    "fedlp_edge/simulation/engines/channel.py": {"socket.send_fds"},  # for descriptors, which Windows does not pass
    "fedlp_edge/simulation/engines/local_worker.py": {"os.fork", "os.waitpid", "select.poll"},  # Linux alone runs it
    "fedlp_edge/simulation/engines/worker_starters.py": {"signal.SIGKILL"},  # in what Linux alone runs
    "fedlp_edge/simulation/shared_memory.py": {"os.posix_fallocate"},  # asks whether it is there
    "fedlp_edge/system/directories.py": {"os.geteuid", "os.statvfs", "pwd"},  # but for Windows
    "fedlp_edge/system/cores.py": {"os.sched_getaffinity"},  # asks, too
    "fedlp_edge/system/locks.py": {"fcntl"},
    "fedlp_edge/system/memory.py": {"os.sysconf"},  # where Linux hides /proc
    "fedlp_edge/system/processor_info.py": {"ctypes.CDLL"},  # after asking for an ARM core of Linux
    "fedlp_edge/transport/brokers/mosquitto.py": {"os.getuid"},  # asks, too
}


def foreign_names(path: Path) -> Iterator[str]:
    lacking = {f"{module}.{name}" for module, names in NAMES.items() for name in names.split()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (name := f"{node.value.id}.{node.attr}") in lacking:
                yield name
        elif isinstance(node, ast.Import):
            yield from MODULES.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from MODULES.intersection({node.module})
            yield from lacking.intersection(f"{node.module}.{alias.name}" for alias in node.names)


def test_only_those_who_know_use_what_a_system_lacks() -> None:
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith("fedlp_edge/system/portable/") and (names := set(foreign_names(path))):
            found[where] = names
    assert found == KNOWING


def test_text_files_name_their_encoding() -> None:
    # That of Windows is another one for every country.
    unnamed = []
    of_linux = ("fedlp_edge/system/cgroups.py", "fedlp_edge/probe/throttling.py")  # read and write files of its kernel
    for path in SOURCES:
        if path.relative_to(ROOT).as_posix() in of_linux:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            named = any(keyword.arg == "encoding" for keyword in node.keywords)
            before = {"read_text": 0, "write_text": 1}.get(node.func.attr, len(node.args))
            if len(node.args) <= before and not named and node.func.attr in ("read_text", "write_text"):
                unnamed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert unnamed == []


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
    for name in lacking.split():
        vars(globals().get(module) or importlib.import_module(module)).pop(name, None) if module != "ctypes" else None
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
