"""What FedLP Edge does on an NVIDIA GPU, checked section by section in under five minutes.

    python -m benchmarks.cuda_check [--json FILE]

Each section runs in a process of its own with a time limit, so that a failure costs that section alone.
``--device cpu`` runs the same code on a CPU; what needs a GPU is skipped. Prints a table; ends with 1 if a section
failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.cuda_sections import SECTIONS, CheckError, Figure, Outcome, Processor
from benchmarks.results.pages import markdown_table
from fedlp_edge.system.processor_info import processor_name, torch_version


class Section(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        seconds: Wall time of the section's process, start included.
    """

    name: str
    status: Literal["pass", "fail", "skipped"]
    text: str
    figures: dict[str, Figure]
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """What was checked, and where.

    Attributes:
        device: Processor that was checked.
        card: Name of the GPU; empty if PyTorch finds none.
        driver: Version of its driver; empty if ``nvidia-smi`` does not tell.
        cuda: Version of CUDA that PyTorch was built for; empty for none.
        processor: Name of the CPU.
        problem: What PyTorch says of a GPU that it cannot use, in brackets; empty if it says nothing.
    """

    device: str
    card: str
    driver: str
    torch: str
    cuda: str
    processor: str
    cores: int
    system: str
    problem: str = ""
    sections: tuple[Section, ...] = ()

    @property
    def table(self) -> str:
        """The report for people, in Markdown."""
        card = f"{self.card or 'no GPU'}, driver {self.driver or 'unknown'}"
        torch = f"PyTorch {self.torch}, CUDA {self.cuda or 'none'}"
        where = f"{card}; {torch}; {self.processor}, {self.cores} cores; {self.system}; checked on {self.device}"
        rows = [(one.name, one.status, f"{one.seconds:.1f}", one.text.replace("|", "/")) for one in self.sections]
        return f"{where}\n\n{markdown_table(('section', 'result', 'seconds', 'what'), rows, left=4)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the report with all figures")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), default=list(SECTIONS), help="sections to run")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of the time limits, for a busy machine")
    parser.add_argument("--section", choices=tuple(SECTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        print(msgspec.json.encode(outcome_of(options.section, options.device)).decode(), flush=True)
        return
    report = describe_machine(options.device)
    with tempfile.TemporaryDirectory() as cache:
        for name in options.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            if options.device == "cuda" and not report.card:
                section = Section(name, "skipped", f"skipped: no GPU that PyTorch can use{report.problem}", {}, 0.0)
            else:
                limit = SECTIONS[name][1] * options.patience
                command = [sys.executable, "-m", "benchmarks.cuda_check", "--section", name, "--device", options.device]
                section = run_section(name, command, limit, {"FEDLP_CACHE_DIR": cache})
            report = msgspec.structs.replace(report, sections=(*report.sections, section))
            if options.json:  # after each, so that an interrupted check has told what it knows
                options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    print(report.table)
    sys.exit(any(one.status == "fail" for one in report.sections))


def outcome_of(name: str, processor: Processor) -> Outcome:
    """Runs a section in this process; whatever goes wrong in it is its outcome."""
    try:
        return SECTIONS[name][0](processor)
    except CheckError as error:
        return Outcome("fail", " ".join(str(error).split()))
    except Exception as error:  # what a GPU makes of a library is not known beforehand
        return Outcome("fail", f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


def run_section(name: str, command: list[str], limit: float, environment: dict[str, str]) -> Section:
    """Runs a section's command, and ends it and what it has started when its time is up.

    Args:
        name: Name of the section.
        command: Command whose last line of output is an ``Outcome`` in JSON.
        limit: Most seconds.
        environment: Variables beside those of this process.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        outcome = msgspec.json.decode(out.splitlines()[-1], type=Outcome)
    except subprocess.TimeoutExpired:
        outcome = Outcome("fail", f"took more than {limit:.0f} seconds (--patience allows more)")
    except (IndexError, msgspec.MsgspecError):
        last = " ".join(err.decode(errors="replace").split()[-40:])
        outcome = Outcome("fail", f"ended with {process.returncode}: {last}")
    finally:
        with contextlib.suppress(ProcessLookupError):  # the session is the section's own
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Section(name, outcome.status, outcome.text, outcome.figures, round(time.perf_counter() - begun, 1))


def describe_machine(device: str) -> Report:
    """What the figures depend on; PyTorch is asked in another process, which keeps no memory of the GPU."""
    asked = "import torch; from fedlp_edge.learning.torch_device import find_cuda; a, why = find_cuda()"
    asked += "; print(torch.version.cuda or ''); print(torch.cuda.get_device_name() if a else ''); print(why)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    cuda, card, problem = (*told.stdout.splitlines(), "", "", "")[:3]
    return Report(
        device=device,
        card=card,
        driver=_driver() if card else "",
        torch=torch_version(),
        cuda=cuda,
        processor=processor_name(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        problem=f" ({problem})" if problem else "",
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return ""
    return lines[0].strip() if lines else ""


if __name__ == "__main__":
    main()
