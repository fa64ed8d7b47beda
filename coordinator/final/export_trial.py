"""Finds out before the first round what could not be exported after the last one, hours or days later."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from coordinator.config import FleetConfig
from coordinator.limits import LIMITS
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import is_custom
from fedlp_edge.errors import FedLPError, SettingError
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.worker.jobs import ExportTried, TryExport
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger("fedlp.coordinator")

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages that write and check ONNX files."""


def try_export(config: FleetConfig, blueprint: Blueprint, directory: RunDirectory, worker: WorkerProcess) -> str:
    """Tries the export of a model of the user's own; all models that have names here are known to be exported.

    The worker process is ended, since the exporter leaves much in it that no round needs.

    Args:
        config: The fleet.
        blueprint: Blueprint of the model.
        directory: Directory of the run.
        worker: Worker process that has built the model.

    Returns:
        Warning for people where the trial itself came to nothing; empty otherwise.

    Raises:
        SettingError: The run would end without ONNX files that its settings ask for.
    """
    key = ("export", "depths")
    wanted = _wanted(config, blueprint)
    if not wanted:
        return ""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise SettingError(
            key,
            f'exporting needs {missing[0]}: {install_command("coordinator")}, or set depths = "none" to learn '
            "without ONNX files",
        )
    if not is_custom(config.model.name) and ":" not in config.model.task:
        return ""
    job = TryExport(
        model=config.model.without_weights, depths=wanted, directory=str(directory.onnx), answer=config.export.answer
    )
    try:
        tried = worker.call(job, timeout=LIMITS.trial_export_seconds)
    except FedLPError as error:
        log.warning("whether the model can be exported was not found out: %s", error)
        return f"whether the model can be exported was not found out before the first round: {error}"
    finally:
        worker.stop()
    if isinstance(tried, ExportTried) and tried.refused:
        left = tried.left_of(wanted)
        rest = f", or depths = {left}, which can be exported" if left else ""
        raise SettingError(
            key,
            f"{tried.reason}; a trial before the first round has shown that. Change the model, or set "
            f'depths = "none" to learn without ONNX files{rest}',
        )
    log.info("a trial has shown that the model can be exported")
    return ""


def _wanted(config: FleetConfig, blueprint: Blueprint) -> tuple[int, ...]:
    """Returns the depths of which there are to be ONNX files, made by the coordinator or by devices."""
    match config.export.depths:
        case "none":
            return ()
        case "full":
            return (blueprint.full_depth,)
        case "all":
            return tuple(blueprint.depths)
        case depths:
            return tuple(depth for depth in depths if depth in blueprint.depths)
