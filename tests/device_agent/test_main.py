"""The command as a user meets it: errors are one line and code 2, stopping is code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "device_agent", *flags]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*flags), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--fleet", "f", "--data", "digits", "--broker", "tcp://hub"], "mqtt://"),
        (["--fleet", "f", "--data", "digits", "--profile", "raspberry-pi-44"], "did you mean raspberry-pi-4"),
        (["--data", "digits"], "--fleet"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--fleet", "f", "--data", "digitz"], "digitz"),
        (["--fleet", "f", "--data", "npz:/nowhere/x.npz"], "no file /nowhere/x.npz"),
        (["--fleet", "f", "--data", "imagefolder:/nowhere"], "no image directory /nowhere"),
    ],
)
def test_ends_with_one_line_and_code_2(flags: list[str], words: str):
    done = run(*flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("data", "scheme", "words"),
    [
        ("nowhere:samples", "mqtt", "nowhere:samples: cannot import nowhere"),
        ("digits", "mqtts", "does not speak TLS"),
    ],
)
def test_ends_without_a_traceback_when_it_cannot_take_part(
    tmp_path: Path, mosquitto: MosquittoBroker, data: str, scheme: str, words: str
):
    done = run(
        "--broker",
        mosquitto.url.replace("mqtt", scheme),
        "--fleet",
        "mainless",
        "--data",
        data,
        "--state",
        str(tmp_path),
        "--id",
        "x",
        "--no-calibrate",
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1]


def test_ends_with_code_4_where_no_coordinator_comes(tmp_path: Path, mosquitto: MosquittoBroker):
    flags = [
        "--broker",
        mosquitto.url,
        "--fleet",
        "deserted",
        "--data",
        "digits",
        "--state",
        str(tmp_path),
        "--id",
        "x",
    ]
    done = run(*flags, "--no-calibrate", "--once", "--wait", "1s")
    assert done.returncode == 4
    assert 'error: no coordinator of fleet "deserted" has answered for 1 s' in done.stderr.splitlines()[-1]


def test_ends_with_code_4_where_no_broker_comes(tmp_path: Path):
    flags = ["--broker", "mqtt://127.0.0.1:1", "--fleet", "dark", "--data", "digits", "--state", str(tmp_path)]
    done = run(*flags, "--no-calibrate", "--once", "--wait", "1s")
    assert done.returncode == 4
    assert "no broker yet, waiting for it: nothing listens at mqtt://127.0.0.1:1" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        'error: no coordinator of fleet "dark" has answered for 1 s, as long as --wait says, and the broker is not '
        "reached; nothing is lost, the next start goes on"
    )


@pytest.mark.parametrize(("number", "send"), [(signal.SIGTERM, os.kill), (signal.SIGINT, os.kill), (15, os.killpg)])
def test_stops_on_a_signal_and_says_how_to_go_on(
    tmp_path: Path, mosquitto: MosquittoBroker, number: int, send: Callable[[int, int], None]
):
    """Systemd sends it to all processes of the service at once, the worker included."""
    flags = [
        "--broker",
        mosquitto.url,
        "--fleet",
        "stopping",
        "--data",
        "digits",
        "--state",
        str(tmp_path),
        "--id",
        "x",
        "--no-calibrate",
    ]
    process = subprocess.Popen(command(*flags), stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    seen = ""
    while "connected (MQTT 5)" not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    send(process.pid, number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "start the same command again" in rest


def test_never_loads_torch():
    probe = "import sys, device_agent.main; print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
