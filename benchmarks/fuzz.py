"""A long fuzzing run of every decoder with atheris, guided by coverage.

    pip install --group fuzz
    python -m benchmarks.fuzz --seconds 60            every decoder for a minute
    python -m benchmarks.fuzz --only chunk --seconds 3600

Each decoder runs in a process of its own, on the honest examples of ``tests/hostile/decoders.py`` and whatever atheris
makes of them. What escapes a decoder, a process of more than a gigabyte, or one input that takes more than five
seconds ends the run with exit code 1 and leaves the input in ``--findings``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

RSS_LIMIT_MB = 1024
INPUT_SECONDS = 5
LONGEST_INPUT = 4096


def fuzz_one(name: str, corpus: Path, seconds: int, findings: Path) -> None:
    """Never returns: atheris ends the process."""
    import atheris  # noqa: PLC0415 - in the dependency group ``fuzz`` alone

    with atheris.instrument_imports(include=["fedlp_edge"]):
        from tests.hostile.decoders import READERS  # noqa: PLC0415 - instrumented while it is imported

    reader = READERS[name]
    for number, example in enumerate(reader.examples):
        (corpus / f"example-{number}").write_bytes(example)
    flags = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-timeout={INPUT_SECONDS}",
        f"-max_len={LONGEST_INPUT}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], reader.read)
    atheris.Fuzz()


def run_one(name: str, seconds: int, findings: Path) -> tuple[bool, str]:
    """Runs one decoder's process; returns whether all was well, and a line about it."""
    with tempfile.TemporaryDirectory(prefix="fedlp-fuzz-") as corpus:
        command = [sys.executable, "-m", "benchmarks.fuzz", "--child", name, "--corpus", corpus]
        command += ["--seconds", str(seconds), "--findings", str(findings)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        inputs = len(list(Path(corpus).iterdir()))
    runs = re.search(r"Done (\d+) runs", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    if done.returncode or runs is None:
        return False, f"{name:<18} FAILED\n{done.stderr[-3000:]}"
    return True, f"{name:<18} {int(runs[1]):>12,} inputs   {covered[-1] if covered else 0:>5} edges   {inputs:>5} kept"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes every decoder with atheris.")
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("--only", action="append", help="this decoder alone; repeatable")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="inputs that broke something")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    if options.child:
        fuzz_one(options.child, options.corpus, options.seconds, options.findings)

    from tests.hostile.decoders import READERS  # noqa: PLC0415 - children import it instrumented

    failures = 0
    for name in options.only or READERS:
        well, line = run_one(name, options.seconds, options.findings)
        failures += not well
        print(line, flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
