"""This module is the library's entry to simulations: it runs an experiment in a run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.errors import ConfigError, FedLPError, OperatorError
from fedlp_edge.learning.foreign_code import module_being_imported
from fedlp_edge.learning.start_weights_file import with_digest
from fedlp_edge.reporting import events
from fedlp_edge.reporting.judged_rounds import JudgedRounds
from fedlp_edge.reporting.log import EventLog
from fedlp_edge.reporting.summary import Summary, load_if_there
from fedlp_edge.simulation.engines.base import Engine, SimulationStoppedError
from fedlp_edge.simulation.engines.local import LocalEngine
from fedlp_edge.simulation.experiment import Experiment, load_experiment
from fedlp_edge.simulation.runner import Simulation
from fedlp_edge.storage.incomplete_copies import check_continuable
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.storage.unlearned_runs import clear, has_learned
from fedlp_edge.system.files import replacing


def simulate(
    experiment: Experiment,
    directory: Path | str,
    *,
    engine: Engine | None = None,
    on_event: Callable[[events.AnyEvent], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    make_global_model: Callable[..., GlobalModel] = GlobalModel,
) -> Summary:
    """Runs an experiment to its end, or continues an interrupted one; a finished one is only read.

    Args:
        experiment: Experiment.
        directory: Run directory, made if missing.
        engine: Engine, which stays open; by default the engine that the experiment names, for this run alone.
        on_event: Callback for every event, which is also written to ``events.jsonl``.
        stopped: Function that returns whether the simulation shall stop, called regularly. The same call to
            ``simulate`` continues a stopped run.
        make_global_model: Class of the global model, or a function with its parameters; a subclass of
            ``GlobalModel`` makes another server step.

    Returns:
        Contents of ``summary.json``: accuracy and traffic of every round, and the digest of the final model.

    Raises:
        SimulationStoppedError: ``stopped()`` returned True.
        ConfigError: A module of the user's own calls this while it is imported.
        FedLPError: The experiment cannot be run, or the directory holds another one.
    """
    if module := module_being_imported():  # in a worker, where this would go on without end
        raise ConfigError(
            f"{module} starts a simulation as soon as it is imported, as each process must for its model or its data: "
            'put the start below a line  if __name__ == "__main__":'
        )
    experiment = with_weights_digest(experiment, Path(directory))
    place = RunDirectory.open(Path(directory))
    with ExitStack() as stack:
        place.lock()
        stack.callback(place.unlock)
        if (done := claim(place, experiment)) is not None:
            return done
        log = stack.enter_context(EventLog.open(place.events))

        def emit(event: events.AnyEvent) -> None:
            log.write(event)
            if on_event is not None:
                on_event(event)

        if engine is None:
            engine = make_engine(experiment)
            stack.callback(engine.close)
        journal = stack.enter_context(closing(Journal.open(place.journal)))
        simulation = Simulation(
            experiment,
            place,
            journal,
            engine,
            emit=emit,
            stopped=stopped or (lambda: False),
            make_global_model=make_global_model,
        )
        try:
            return simulation.run()
        except SimulationStoppedError:
            emit(events.RunStopped(time=time.time(), round=simulation.round, reason="signal"))
            raise
        except FedLPError as error:
            emit(events.RunStopped(time=time.time(), round=simulation.round, reason="error", detail=str(error)))
            raise


def with_weights_digest(experiment: Experiment, directory: Path | None = None) -> Experiment:
    """Returns an experiment with the digest of its file of start weights, which is part of what identifies the run.

    Args:
        experiment: Experiment.
        directory: Run directory, if it is known; where the run is finished there, the file may be gone by now.

    Raises:
        StartWeightsError: The file is missing, or is not the one whose digest the experiment states.
    """
    kept = None if directory is None else directory / "config.toml"
    earlier = load_experiment(kept).model if kept is not None and kept.exists() and experiment.model.weights else None
    return msgspec.structs.replace(experiment, model=with_digest(experiment.model, earlier))


def claim(directory: RunDirectory, experiment: Experiment) -> Summary | None:
    """Checks that a directory is new or holds this experiment.

    Returns:
        Summary of the run if it is finished; None otherwise.

    Raises:
        OperatorError: The directory holds another experiment, or one of another version of FedLP Edge.
    """
    check_continuable(directory)
    if directory.journal.exists():
        # This checks the version before the configuration is read, whose keys an earlier version may name otherwise.
        Journal.open(directory.journal).close()
    if directory.config.exists() and load_experiment(directory.config).identity != experiment.identity:
        if has_learned(directory):
            why = f"; another version may give the recipe {experiment.recipe} others" if experiment.recipe else ""
            raise OperatorError(
                f"{directory.path} holds a run with other settings (see its config.toml{why}); name another directory"
            )
        clear(directory)
    if directory.config.exists():
        summary = load_if_there(directory.summary)
        if summary is not None and summary.final and JudgedRounds(experiment.judging, summary.rounds).over:
            return summary
    with replacing(directory.config) as partial:
        partial.write_text(f"# Written by a simulation.\n{to_toml(experiment)}", "utf-8")
    return None


def make_engine(experiment: Experiment) -> Engine:
    """Makes the engine that an experiment names.

    Raises:
        OperatorError: Ray is not installed, or there is no cluster.
    """
    settings = experiment.simulation
    if settings.engine == "ray":
        from fedlp_edge.simulation.engines.ray import RayEngine  # noqa: PLC0415 - an extra

        return RayEngine(settings.workers)
    return LocalEngine(settings.workers)
