"""``fedlp deploy``: rolls a model out to the devices of a fleet, group by group, and steers a roll-out."""

from __future__ import annotations

import logging
import queue
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from coordinator.config import load_config
from coordinator.inbox import InboxItem, StopRequested
from coordinator.rollout.file_choice import FileWishes
from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.ordered_files import OrderFiles
from coordinator.rollout.release_files import ReleaseFile, find_release, list_files, release_name, two_files_line
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, RolloutStatus, Word, rollouts_in
from coordinator.rollout.rollout_loop import WORDS
from coordinator.rollout.rollout_service import Rollout
from coordinator.transfer.messenger import last_will
from fedlp_edge.cli.version import HELP_OPTIONS
from fedlp_edge.config.durations import seconds_of
from fedlp_edge.core.rollout.rollout_machine import RolloutMachine
from fedlp_edge.core.rollout.rollout_names import rollout_run
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.errors import OperatorError
from fedlp_edge.storage.journal import Journal
from fedlp_edge.system.lifecycle import EXIT_ERROR, EXIT_INCOMPLETE, EXIT_STOPPED, StopSignal, freeze_gc
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.log_file import LogFileHandler, plain_log
from fedlp_edge.system.path_hints import shown_path
from fedlp_edge.system.printable import counted
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.remembered import remembered_limits
from fedlp_edge.wire.messages import ShadowRules
from fedlp_edge.wire.topics import Topics

_CHOICES = tuple(
    name
    for name in RolloutPlan.__struct_fields__
    if name not in ("run", "source", "config", "repository", "online_key")
)
"""What a roll-out that is under way cannot change."""

_ROLLOUTS = Path("rollouts")
"""Directory in which roll-outs are made, unless told otherwise."""


def _time(least: float) -> Callable[[str], float]:
    """Returns what reads an option that stands for a time of some seconds at least."""

    def read(text: str) -> float:
        try:
            seconds = seconds_of(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if seconds < least:
            raise typer.BadParameter(f"{text} is too short; it must be {least:g} s at least")
        return seconds

    return read


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings=HELP_OPTIONS)
def deploy(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DIR|status|pause|resume|abort",
            help="directory of a run or of exported files; or what to do with a roll-out",
        ),
    ],
    rollout: Annotated[
        Path | None,
        typer.Argument(
            metavar="[ROLLOUT]",
            help="directory of the roll-out, after status, pause ... [default: in rollouts, the newest for status, "
            "the only one under way for the others]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the fleet's file, for its name and broker; default: the run's")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory of the roll-out [default: rollouts/RELEASE]")
    ] = None,
    canary: Annotated[str, typer.Option(metavar="N|P%", help="size of the first group; 0 for none")] = "1",
    canary_device: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="device of the first group, instead; repeatable")
    ] = None,
    groups: Annotated[
        str, typer.Option(metavar="N|P%,...", help="sizes of the next groups; the rest is the last")
    ] = "",
    success_threshold: Annotated[
        str, typer.Option(metavar="P%", help="of a group that must have installed before the next one begins")
    ] = "100%",
    error_threshold: Annotated[
        str, typer.Option(metavar="P%", help="of the devices tried; above it the roll-out stops")
    ] = "10%",
    min_tried: Annotated[int, typer.Option(metavar="N", help="devices tried before that counts", min=1)] = 1,
    parallel: Annotated[int, typer.Option(metavar="N", help="devices that install at one time", min=1)] = 32,
    patience: Annotated[
        float,
        typer.Option(metavar="TIME", parser=_time(1), help="(90, 10m) of silence after which a device has failed"),
    ] = 600.0,
    depth: Annotated[int | None, typer.Option(metavar="N", help="for all devices", min=1)] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|fp16|int8", help="of the files")] = "fp32",
    early_exit: Annotated[
        bool, typer.Option("--early-exit", help="the file that stops at the first sure exit")
    ] = False,
    measured: Annotated[
        bool,
        typer.Option(
            "--measured", help="devices get all files that may suit them, and install the one they measure best"
        ),
    ] = False,
    device: Annotated[list[str] | None, typer.Option(metavar="ID", help="only this device; repeatable")] = None,
    shadow_inputs: Annotated[
        int, typer.Option(metavar="N", help="inputs of a device that old and new model answer; 0 for none", min=0)
    ] = 64,
    min_agreement: Annotated[str, typer.Option(metavar="P%", help="of these, with the same answer")] = "50%",
    max_loss: Annotated[str, typer.Option(metavar="P%", help="of right answers that may be lost")] = "5%",
    probation: Annotated[
        float,
        typer.Option(
            metavar="TIME", parser=_time(0), help="(90, 5m) that a device watches the new model after the switch"
        ),
    ] = 10.0,
    repository: Annotated[
        Path | None, typer.Option(metavar="DIR", help="the fleet's signed releases; needed by devices with a root")
    ] = None,
    online_key: Annotated[Path | None, typer.Option(metavar="FILE", help="key that signs who gets what")] = None,
    gather: Annotated[
        float, typer.Option(metavar="TIME", parser=_time(0), help="in which devices are seen at first")
    ] = 5.0,
    verbose: Annotated[bool, typer.Option("--verbose", help="log to the terminal")] = False,
) -> None:
    """Rolls a model out to the devices of a fleet, or steers a roll-out."""
    if what in ("status", *WORDS):
        raise typer.Exit(_look_or_steer(what, rollout, gather, verbose=verbose))
    _check_one_directory(what, rollout)
    source = Path(what)
    wishes = FileWishes(depth=depth, precision=precision, early_exit=early_exit, measured=measured)
    files = _wanted_files(source, wishes)
    path = config or source / "config.toml"
    if config is None and not path.is_file():
        raise OperatorError("name the fleet's file with --config, for its name and broker")
    fleet = load_config(path)
    if (repository is None) != (online_key is None):
        raise OperatorError("--repository and --online-key go together; without either, files are not signed")
    release = release_name(files, source)
    try:
        settings = RolloutSettings(
            canary="" if canary == "0" else canary,
            groups=tuple(size.strip() for size in groups.split(",") if size.strip()),
            success_threshold=_share("--success-threshold", success_threshold),
            error_threshold=_share("--error-threshold", error_threshold),
            min_tried=min_tried,
            parallel=parallel,
            patience_seconds=patience,
        )
    except ValueError as error:
        raise OperatorError(str(error)) from None
    plan = RolloutPlan(
        run=rollout_run(release, secrets.token_hex(3)),
        fleet=fleet.fleet,
        release=release,
        source=str(source.absolute()),
        config=str(path.absolute()),
        settings=settings,
        wishes=wishes,
        shadow=ShadowRules(
            inputs=shadow_inputs,
            min_agreement=_share("--min-agreement", min_agreement),
            max_loss=_share("--max-loss", max_loss),
        ),
        probation_seconds=probation,
        devices=tuple(device or ()),
        canaries=tuple(canary_device or ()),
        repository=str(repository.absolute()) if repository else "",
        online_key=str(online_key.absolute()) if online_key else "",
    )
    directory = RolloutDirectory(out or _ROLLOUTS / release)
    _lock(directory)
    raise typer.Exit(_carry_out(directory, _taken_up(directory, plan), gather, verbose=verbose))


def _look_or_steer(what: str, rollout: Path | None, gather: float, *, verbose: bool) -> int:
    directory = _found_here(what) if rollout is None else RolloutDirectory(rollout)
    return _show(directory) if what == "status" else _steer(directory, what, gather, verbose=verbose)  # type: ignore[arg-type]


def _found_here(what: str) -> RolloutDirectory:
    """Returns the roll-out that is meant where none is named."""
    begun = rollouts_in(_ROLLOUTS)
    under_way = [one for one in begun if what == "status" or one.phase in ("running", "paused")]
    if not under_way:
        state = " under way" if begun else ""
        raise OperatorError(f"there is no roll-out{state} in {shown_path(_ROLLOUTS)}; name the directory of one")
    if what != "status" and len(under_way) > 1:
        paths = ", ".join(str(one.path) for one in under_way)
        raise OperatorError(f"several roll-outs are under way; name the one to {what}: {paths}")
    return under_way[0]


def _check_one_directory(what: str, second: Path | None) -> None:
    if second is not None and second.name in ("status", *WORDS):
        raise OperatorError(f"{second} stands before the directory: fedlp deploy {second} {what}")
    if second is not None:
        raise OperatorError(f"one directory is deployed at a time: leave {second} away")


def _taken_up(directory: RolloutDirectory, plan: RolloutPlan) -> RolloutPlan:
    """Begins a roll-out in its directory, or goes on with the one there; returns the plan that it has.

    Raises:
        OperatorError: Another roll-out was begun there.
    """
    if not (directory.exists and directory.events()):
        directory.put_plan(plan)
        return plan
    if directory.phase == "done":  # what devices run now may be something else again
        _check_same(directory, plan, ("fleet", "release"))
        print("this roll-out was over and begins anew; devices that still run its model say so at once")
        directory.begin_again(plan)
        return plan
    _check_same(directory, plan)
    if directory.phase in ("stopped", "aborted"):
        print(f"this roll-out stays {directory.phase}; to try it again, name another directory with --out")
    return msgspec.structs.replace(plan, run=directory.plan().run)


def _wanted_files(source: Path, wishes: FileWishes) -> tuple[ReleaseFile, ...]:
    """Returns the files that can be handed out, once it is sure that those that are wished for are among them."""

    def wished(file: ReleaseFile) -> bool:
        same = file.precision == wishes.precision and file.early_exit == wishes.early_exit
        return same and wishes.depth in (None, file.depth)

    for file in list_files(source):
        if file.weights_file and wished(file):
            raise OperatorError(two_files_line(file))
    files = find_release(source)
    if not any(wished(file) for file in files):
        have = ", ".join(sorted({f"depth {file.depth} {file.precision}" for file in files}))
        raise OperatorError(f"{source} has no such file; there are: {have}")
    return files


def _carry_out(directory: RolloutDirectory, plan: RolloutPlan, gather: float, *, verbose: bool = False) -> int:
    handlers: list[logging.Handler] = [LogFileHandler(directory.path / "rollout.log")]
    if verbose:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=logging.INFO, handlers=handlers)
    plain_log("%(asctime)s %(levelname)-7s %(message)s")
    fleet = load_config(Path(plan.config))
    files = find_release(Path(plan.source))
    if release_name(files, Path(plan.source)) != plan.release:
        raise OperatorError(f"the files in {plan.source} have changed since; deploy them anew, with another --out")
    inbox: queue.SimpleQueue[InboxItem] = queue.SimpleQueue()
    transport = MqttTransport(
        fleet.broker.address(),
        client_id=new_client_id("fedlp", fleet.fleet, "coordinator"),
        will=last_will(Topics(fleet.fleet), plan.run),
        remembered=remembered_limits(),
    )
    wanted = RolloutFiles(files, _planned(Path(plan.source)), _signed_orders(plan, files))
    service = Rollout(plan, wanted, directory, inbox, transport, _say)
    freeze_gc()

    def on_stop() -> None:
        inbox.put(StopRequested())
        transport.cancel_start()

    with StopSignal(on_stop):
        over = service.run(gather)
    if not over:
        print(f"Stopped; nothing is lost. Go on with: fedlp deploy resume {directory.path}")
        return EXIT_STOPPED
    return _show(directory)


def _signed_orders(plan: RolloutPlan, files: Sequence[ReleaseFile]) -> OrderFiles | None:
    """What signs the orders, once it is sure that there is something to be ordered."""
    if not plan.repository:
        return None
    try:
        from coordinator.rollout.signed_orders import SignedOrders  # noqa: PLC0415 - an extra
        from fedlp_edge.release.repository import ReleaseRepository  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise OperatorError(f"signing needs {missing}: {install_command('release')}") from None
    orders = SignedOrders(ReleaseRepository(Path(plan.repository)), Path(plan.online_key))
    for file in files:
        if file.precision == plan.wishes.precision and file.early_exit == plan.wishes.early_exit:
            orders.check(file.path)
    return orders


def _steer(directory: RolloutDirectory, word: Word, gather: float, *, verbose: bool) -> int:
    """Leaves a word for the process at work; without one, writes it down, and goes on after ``resume``."""
    plan = directory.plan()
    if not directory.lock():
        directory.say(word)
        print(f"the process that rolls {plan.release} out is told to {word}")
        return 0
    try:
        return _steer_alone(directory, plan, word, gather, verbose=verbose)
    finally:
        directory.unlock()


def _steer_alone(directory: RolloutDirectory, plan: RolloutPlan, word: Word, gather: float, *, verbose: bool) -> int:
    machine = RolloutMachine(plan.settings)
    machine.replay(directory.events(), 0.0)
    if machine.closed:
        print(f"the roll-out is over: {machine.phase}")
        return EXIT_ERROR
    event = WORDS[word]
    directory.append(event)
    if word == "resume":
        return _carry_out(directory, plan, gather, verbose=verbose)
    machine.take(event, 0.0)
    if directory.has_status:
        directory.put_status(msgspec.structs.replace(directory.status(), phase=machine.phase))
    print(f"the roll-out is {machine.phase}; no process carries it out now")
    return 0


def _show(directory: RolloutDirectory) -> int:
    """Prints where a roll-out stands."""
    plan = directory.plan()
    if not directory.has_status:
        print(f"release {plan.release} to fleet {plan.fleet}: not begun; no device has been seen")
        return 0
    status = directory.status()
    done = sum(standing.state == "installed" for standing in status.devices.values())
    print(
        f"release {plan.release} to fleet {plan.fleet}: {status.phase}"
        + (f" ({status.reason})" if status.reason else "")
    )
    have = f"{done} of {counted(len(status.devices), 'device')} {'has' if len(status.devices) == 1 else 'have'} it"
    print(f"{have}; group {status.open_groups} of {status.groups} has begun")
    for device, standing in sorted(status.devices.items(), key=lambda entry: (entry[1].group, entry[0])):
        figures = standing.shadow
        exam = f", agrees on {figures.agreement:.0%} of {figures.inputs}" if figures and figures.inputs else ""
        why = f": {standing.reason}" if standing.reason else ""
        print(f"  {standing.group}  {device:20} {standing.state:10} {standing.file}{exam}{why}")
    for device, why in sorted(status.left_out.items()):
        print(f"  -  {device:20} left out   {why}")
    return _exit_code(status)


def _exit_code(status: RolloutStatus) -> int:
    if status.phase in ("stopped", "aborted"):
        return EXIT_INCOMPLETE
    whole = all(standing.state == "installed" for standing in status.devices.values())
    return 0 if whole or status.phase in ("running", "paused") else EXIT_INCOMPLETE


def _lock(directory: RolloutDirectory) -> None:
    if not directory.lock():
        raise OperatorError(
            f"another process carries out the roll-out in {directory.path}; look with fedlp deploy status"
        )


def _check_same(directory: RolloutDirectory, plan: RolloutPlan, choices: Collection[str] = _CHOICES) -> None:
    """Refuses to go on with other choices than a roll-out was begun with."""
    before = directory.plan()
    changed = [name for name in choices if getattr(plan, name) != getattr(before, name)]
    if changed:
        raise OperatorError(
            f"{directory.path} holds a roll-out with other choices ({', '.join(changed)}); set them back to go on with "
            "it, or name another directory with --out"
        )


def _planned(source: Path) -> Mapping[str, int]:
    """The depth that each device had in a run; empty for a directory of files."""
    path = source / "journal.sqlite"
    if not path.is_file():
        return {}
    journal = Journal.open(path)
    try:
        return {device: plan.depth for device, (plan, _) in journal.plans().items() if plan.depth}
    finally:
        journal.close()


def _share(option: str, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise OperatorError(f'{option} is {text!r}; it must be a share such as "10%"')
    return share


def _say(line: str) -> None:
    print(line, flush=True)
