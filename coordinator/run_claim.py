"""Checks that a run directory fits a configuration: it is new, or holds this very run."""

from __future__ import annotations

import contextlib
import logging
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from coordinator.config import FleetConfig, load_config
from coordinator.limits import LIMITS
from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.config.toml import place
from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.errors import ConfigError, OperatorError, StartWeightsError, StorageError
from fedlp_edge.learning.start_weights_file import with_digest
from fedlp_edge.reporting.judged_rounds import JudgedRounds
from fedlp_edge.reporting.summary import load_if_there
from fedlp_edge.storage.incomplete_copies import check_continuable
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.storage.unlearned_runs import clear, has_learned, has_model
from fedlp_edge.system.files import write_file
from fedlp_edge.system.lifecycle import own_command
from fedlp_edge.transport.broker_url import without_password

log = logging.getLogger("fedlp.coordinator")

UnfinishedRun = tuple[Path, list[str]]
"""The directory of a run that is not finished, and the settings in which it differs from a configuration."""

_WEIGHTS, _DIGEST = "[model] weights", "[model] weights_sha256"
_LEFT_OUT = "# The broker's password is left out of this copy: state it in the environment or with password_file.\n\n"
_OF_A_RECIPE = "# The settings of the recipe {} are written out, as they were when the run began.\n\n"


def begun_before(unfinished: Iterable[UnfinishedRun]) -> Path | None:
    """Returns the directory of an unfinished run of the same settings, whose name another version derived otherwise.

    A version with new settings gives the same file another name of the run, and would begin anew beside it.
    """
    found = [path for path, changed in unfinished if not changed]
    return found[0] if len(found) == 1 else None


def begins_beside(fleet: FleetConfig, unfinished: Iterable[UnfinishedRun]) -> str:
    """Returns a line on the last unfinished run of the fleet, whose settings differ; empty if there is none.

    Who changed none of them has a recipe that another version of FedLP Edge gives other settings.
    """
    learned = [(path, changed) for path, changed in unfinished if changed and _has_surely_learned(path)]
    if not learned:
        return ""
    path, changed = max(learned, key=lambda run: (run[0] / "config.toml").stat().st_mtime)
    why = f", perhaps of the recipe {fleet.recipe} in another version" if fleet.recipe else ""
    return f"{path} holds an unfinished run with other settings{why}: {_listed(changed)}. This run begins beside it"


def unfinished_runs(fleet: FleetConfig) -> list[UnfinishedRun]:
    """Reads which runs of a fleet are unfinished; none if this run has a directory of its own already."""
    own = Path("runs") / fleet.run_name
    if fleet.run is not None or own.exists():
        return []
    found = []
    for kept in sorted(Path("runs").glob(f"{fleet.fleet[:48]}-*/config.toml")):
        with contextlib.suppress(ConfigError, StorageError):
            summary = load_if_there(kept.with_name("summary.json"))
            if summary is None or summary.final is None:
                found.append((kept.parent, differences(load_config(kept), fleet)))
    return found


def _has_surely_learned(path: Path) -> bool:
    with contextlib.suppress(StorageError):
        return has_learned(RunDirectory(path))
    return False


def under_its_name(fleet: FleetConfig, directory: RunDirectory) -> FleetConfig:
    """Returns a configuration with the name under which devices know a run that goes on.

    A version with new settings derives another name from the same file, and devices keep finished updates and heads of
    their own under the name alone.
    """
    summary = load_if_there(directory.summary)
    if fleet.run is not None or summary is None or not summary.run:
        return fleet
    return msgspec.structs.replace(fleet, run=summary.run)


def claim(directory: RunDirectory, source: Path, fleet: FleetConfig, *, hand_out: bool = False) -> None:
    """Checks that the directory is new or holds this very run, and keeps a copy of the configuration.

    Args:
        directory: Directory of the run, locked. One of other settings that has learned nothing is cleared.
        source: The configuration's file.
        fleet: Configuration of the fleet.
        hand_out: Whether a run that is over is wanted, for its final models.

    Raises:
        OperatorError: The directory holds another run, or this one, which is over (or is not, with ``hand_out``), a
            run of another version of FedLP Edge, or only a part of a run.
    """
    check_continuable(directory)
    if directory.journal.exists():
        # Before its configuration is read, which an earlier version may have spelled otherwise.
        Journal.open(directory.journal).close()
    before = load_config(directory.config) if directory.config.exists() else fleet
    changed = differences(before, fleet)
    if changed and _is_free(directory, before, fleet):
        clear(directory)
    elif changed:
        raise OperatorError(
            f"{directory.path} holds a run with other settings: {_listed(changed)}. "
            "Set them back to go on with it, or name another directory with --out"
        )
    summary = load_if_there(directory.summary)
    done = len(summary.rounds) if summary is not None else 0
    finished = summary is not None and summary.final is not None
    judged = JudgedRounds(fleet.judging, summary.rounds if summary is not None else ())
    if hand_out and not (finished and judged.over):
        raise OperatorError(f"the run in {directory.path} is not finished: leave --hand-out away to go on with it")
    if summary is not None and finished and judged.over:
        if not hand_out and (summary.handed_over or not (summary.onnx or summary.delivered)):
            raise OperatorError(
                f"the run in {directory.path} is finished after {done} rounds ({own_command()} status "
                f"{directory.path}){f', since {judged.enough}' if judged.enough else ''}; "
                f"raise {'[evaluation] patience' if judged.enough else '[rounds] count'} to go on from there, name "
                "another directory with --out, or hand its models to devices that lack them with --hand-out"
            )
        log.info("the run is finished; its models are handed out")
    elif finished:
        log.info("the finished run goes on: %d rounds are done, %d wanted", done, fleet.rounds.count)
    if source.resolve() != directory.config.resolve():
        keep_copy(source, directory.config, fleet.model.weights_sha256)


def _is_free(directory: RunDirectory, before: FleetConfig, now: FleetConfig) -> bool:
    """Tells whether a run may be given up for another one: it learned nothing, and no device takes both for one."""
    return not has_learned(directory) and (before.run_name != now.run_name or not has_model(directory))


def with_weights_digest(fleet: FleetConfig, source: Path, directory: Path | None) -> FleetConfig:
    """Returns a configuration with the digest of the file of start weights, which is part of what identifies the run.

    Args:
        fleet: The configuration.
        source: Path of the source file.
        directory: Directory of the run, if it is named; where the run has begun there, the file may be gone by now.

    Raises:
        ConfigError: The file is missing, or is not the one that the configuration states.
    """
    if directory is None and fleet.run is not None:
        directory = Path("runs") / fleet.run
    kept = None if directory is None else directory / "config.toml"
    earlier = load_config(kept).model if kept is not None and kept.exists() and fleet.model.weights else None
    try:
        return msgspec.structs.replace(fleet, model=with_digest(fleet.model, earlier))
    except StartWeightsError as error:
        raise ConfigError(f"{place(source, ('model', 'weights'))}: {error}") from None


def differences(before: FleetConfig, now: FleetConfig) -> list[str]:
    """Returns the settings that make a run another one, each as ``[table] key is NEW and was OLD``."""
    old, new = (dict(_flat(config.deciding)) for config in (before, now))
    if new.get(_DIGEST) != old.get(_DIGEST) and old.get(_DIGEST) and new.get(_DIGEST):
        new[_WEIGHTS], old[_WEIGHTS] = (
            f"a file with the SHA-256 {str(table.pop(_DIGEST))[:16]}..." for table in (new, old)
        )
    return [
        f"{key} is {_shown(new.get(key))} and was {_shown(old.get(key))}"
        for key in (*new, *(key for key in old if key not in new))
        if new.get(key) != old.get(key)
    ]


def _listed(changed: list[str]) -> str:
    more = f" and {len(changed) - LIMITS.named_settings} more" if len(changed) > LIMITS.named_settings else ""
    return f"{'; '.join(changed[: LIMITS.named_settings])}{more}"


def keep_copy(source: Path, target: Path, weights_sha256: str = "") -> None:
    """Copies a configuration without the broker's password, so that a run directory can be given to others.

    A recipe is copied as its settings: a later version may have others under its name, and the run has these.

    Args:
        source: The configuration's file.
        target: Path of the copy.
        weights_sha256: Digest of the file of start weights, which the copy states; empty without one.
    """
    text = source.read_bytes().decode("utf-8-sig")
    document, heading, changes = tomllib.loads(text), "", False
    broker = document.get("broker", {})
    public = {key: value for key, value in broker.items() if key != "password"}
    if "url" in public:
        public["url"] = without_password(public["url"])
    if public != broker:
        document, heading = document | {"broker": public}, _LEFT_OUT
    if recipe := document.get("recipe"):
        document = {key: value for key, value in with_recipe(document).items() if key != "recipe"}
        heading += _OF_A_RECIPE.format(recipe)
    model = document.get("model", {})
    if weights_sha256 and model.get("weights_sha256") != weights_sha256:
        document, changes = document | {"model": model | {"weights_sha256": weights_sha256}}, True
    write_file(target, [(heading + to_toml(document) if heading or changes else text).encode()])


def _flat(tables: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for table, value in tables.items():
        keys = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
        if not isinstance(keys, Mapping):
            yield table, value
            continue
        for key, inner in keys.items():
            if isinstance(inner, msgspec.Struct):
                yield from _flat({f"{table}.{key}": inner})
            else:
                yield f"[{table}] {key}", inner


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode() if value is not None else "not set"
    return text if len(text) <= 80 else f"{text[:77]}..."
