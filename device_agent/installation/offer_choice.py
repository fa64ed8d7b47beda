"""Chooses among the models that a roll-out offers, by what each costs on this device."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from device_agent.installation.target_source import FileWantedError
from device_agent.limits import LIMITS
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.core.planning.model_choice import AnswerLimits, MeasuredFile, choose_model
from fedlp_edge.errors import DeviceError, PeerError
from fedlp_edge.wire.messages import ModelOffer

log = logging.getLogger(__name__)
_LIMITS = LIMITS.installation


class _Measurement(msgspec.Struct):
    """What the measuring process prints: what a file costs, or why it does not run."""

    latency: MeasuredCost | None = None
    error: str = ""


def measured_cost(model: Path, threads: int = 1) -> MeasuredCost:
    """Measures a file in a process of its own: native code that crashes must not end the agent.

    Args:
        model: Path of the ONNX file.
        threads: Number of onnxruntime's threads; 0 for its default.

    Raises:
        DeviceError: The file does not run here.
    """
    words = [sys.executable, "-P", "-m", "fedlp_edge.learning.export.latency"]
    arguments = [str(model), str(threads), str(_LIMITS.measure_seconds), ""]
    try:
        done = subprocess.run(
            [*words, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMITS.exam_seconds,
            check=False,
        )
        found = msgspec.json.decode(done.stdout, type=_Measurement)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"it took more than {_LIMITS.exam_seconds:g} s") from None
    except msgspec.DecodeError:
        raise DeviceError(f"onnxruntime ended with exit code {done.returncode}") from None
    if found.latency is None:
        raise DeviceError(found.error)
    return found.latency


def choose_offer(
    offers: Sequence[ModelOffer],
    fetch: Callable[[str], Path],
    measure: Callable[[Path], MeasuredCost],
    limits: AnswerLimits,
    *,
    higher: bool,
) -> ModelOffer:
    """Measures each offer, and returns the one that suits this device; says in the log which, and why.

    Args:
        offers: Files of the release.
        fetch: Returns the path of a verified file by its name.
        measure: Measures a file.
        limits: What an answer may take.
        higher: Whether a higher value is a better one.

    Raises:
        DeviceError: None runs here.
        FileWantedError: Some have to be downloaded first.
    """
    _check_downloaded(offers, fetch)
    by_file: dict[str, ModelOffer] = {}
    files: list[MeasuredFile] = []
    for offer in offers:
        name = Path(offer.model).name
        try:
            cost = measure(fetch(offer.model))
        except PeerError as error:  # one that is not signed for this device
            log.info("%s is not considered: %s", name, error)
            continue
        except DeviceError as error:
            log.warning("%s is not considered, since it does not run here: %s", name, error)
            continue
        by_file[name] = offer
        files.append(
            MeasuredFile(
                file=name,
                depth=offer.depth,
                precision=offer.precision,
                value=offer.value,
                warning=offer.warning,
                cost=cost,
            )
        )
    choice = choose_model(files, limits, higher=higher)
    if choice is None:
        raise DeviceError(f"none of the {len(offers)} models that are offered runs here")
    log.log(
        logging.INFO if choice.fits else logging.WARNING, "of %d models: %s, %s", len(files), choice.file, choice.reason
    )
    return by_file[choice.file]


def permitted_offers(offers: Sequence[ModelOffer], self_tests: Mapping[str, str]) -> tuple[ModelOffer, ...]:
    """Returns the offers that this device may run, each with the self-test that it is assigned with.

    Args:
        offers: Files of the release, as the roll-out says.
        self_tests: Name of the self-test by the name of each file that this device may install.

    Raises:
        PeerError: It may run none of them.
    """
    permitted = []
    for offer in offers:
        if offer.model not in self_tests:
            log.warning("%s is offered and not assigned to this device: it is not run", offer.model)
            continue
        permitted.append(msgspec.structs.replace(offer, self_test=self_tests[offer.model]))
    if not permitted:
        raise PeerError("none of the models that are offered is assigned to this device")
    return tuple(permitted)


def _check_downloaded(offers: Sequence[ModelOffer], fetch: Callable[[str], Path]) -> None:
    """Asks for all files at once that have to be downloaded, before time is spent on measuring the others."""
    wanted: list[str] = []
    for offer in offers:
        try:
            fetch(offer.model)
        except FileWantedError as error:
            wanted += error.names
        except (PeerError, DeviceError):
            continue  # said when it is that file's turn
    if wanted:
        raise FileWantedError(wanted)
