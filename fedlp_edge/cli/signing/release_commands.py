"""This module implements ``fedlp release``: what was exported is signed, kept fresh, verified and withdrawn."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from fedlp_edge.cli.models.exported_run import exported_checkpoint
from fedlp_edge.cli.signing.key_commands import print_results
from fedlp_edge.cli.signing.self_test_files import SELF_TEST_SUFFIX, make_self_tests
from fedlp_edge.core.model_card import CARD_FILE, decode_card
from fedlp_edge.errors import ReleaseError, StorageError
from fedlp_edge.release.graph_maker import GraphMaker
from fedlp_edge.release.key_files import AskPassphrase, read_private_key
from fedlp_edge.release.onnx_tensors import files_of_weights
from fedlp_edge.release.release_client import ReleaseClient
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.signed_assignment import GRAPH_SUFFIX
from fedlp_edge.release.tensor_index import TensorIndex
from fedlp_edge.reporting.console import open_console, print_unwrapped
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.files import write_file
from fedlp_edge.system.path_hints import run_hint
from fedlp_edge.wire.concat_buffer import mapped

_SIGNED = (".onnx", GRAPH_SUFFIX, SELF_TEST_SUFFIX)


def run_release_sign(
    repository: Path, directory: Path, run: Path | None, name: str, sign: Sequence[Path], ask: AskPassphrase
) -> None:
    """Signs the ONNX files of a directory, and what belongs to them.

    Args:
        repository: Directory of the releases.
        directory: Directory of the exported files, or of a run.
        run: Directory of the run whose weights devices hold; each file then has a graph file made. None for the run
            that ``directory`` is of, if it is one.
        name: Name of the release; empty for that of the directory.
        sign: Fleet keys that sign now.
        ask: Returns the passphrase of a key.

    Raises:
        ReleaseError: There is nothing to sign, or a key is missing or wrong.
    """
    if not directory.is_dir():
        raise ReleaseError(f"{directory} is no directory; fedlp export RUN -o DIR makes one")
    name = name or directory.resolve().name
    if RunDirectory(directory).checkpoints.is_dir():
        run = run or directory
        directory = RunDirectory(directory).onnx
    _refuse_two_files(directory)
    signers = [read_private_key(path, ask) for path in sign]
    if run is not None:
        _make_graphs(directory, run)
    untested = make_self_tests(directory)
    files = sorted(path for path in directory.iterdir() if path.name.endswith(_SIGNED))
    if not any(path.suffix == ".onnx" for path in files):
        raise ReleaseError(f"{directory} holds no ONNX file; fedlp export RUN -o DIR makes them")
    result = ReleaseRepository(repository).sign_release(name, files, signers)
    for path in files:
        print(f"{path.name}  {format_bytes(path.stat().st_size)}")
    for file, why in untested.items():
        print(f"{file} has no self-test: {why}")
    print_results(repository, [result])


def _refuse_two_files(directory: Path) -> None:
    """Checks that the weights of each file stand in it: what is signed, and what devices get, is one file.

    Raises:
        ReleaseError: Those of one stand in another file.
    """
    for path in sorted(directory.glob("*.onnx")):
        try:
            weights = files_of_weights(mapped(path))
        except (OSError, ReleaseError):  # no ONNX file, which is found out elsewhere
            continue
        if weights:
            raise ReleaseError(
                f"{path} keeps its weights in {weights[0]}, and a device gets one file: export --precision fp16,int8, "
                "or --depth N with a smaller depth, to another directory, and sign that"
            )


def _make_graphs(directory: Path, run: Path) -> None:
    """Makes the graph files beside the ONNX files of a run."""
    maker = GraphMaker(TensorIndex.of([_released_weights(directory, run)]))
    # What is found in a float32 file helps with that in half precision.
    for path in sorted(directory.glob("*.onnx"), key=lambda path: ("-fp16" in path.name, path.name)):
        graph = path.with_name(path.name + GRAPH_SUFFIX)
        try:
            made = maker.make(path)
            if made is None:
                graph.unlink(missing_ok=True)
            else:
                write_file(graph, [made])
        except OSError as error:
            raise ReleaseError(f"{graph}: {error.strerror}") from None


def _released_weights(directory: Path, run: Path) -> Path:
    """Returns the weights that the files were exported of, which are those that devices hold: of no other round.

    Raises:
        ReleaseError: The run does not hold them any more.
    """
    try:
        number, path = exported_checkpoint(run)
    except StorageError:
        raise ReleaseError(f"{run} holds no checkpoint of a run{run_hint(run)}") from None
    card = directory / CARD_FILE
    if card.is_file() and (of_card := decode_card(card.read_bytes(), str(card)).round) not in (0, number):
        number, path = of_card, Checkpoints(RunDirectory(run).checkpoints).evaluated_path(of_card)
    if not path.is_file():
        raise ReleaseError(
            f"{run} does not hold round {number} any more, of which the files in {directory} are; export them again"
        )
    return path


def run_release_refresh(repository: Path, online: Path, ask: AskPassphrase) -> None:
    """Signs what the online key signs anew, so that it does not expire.

    Raises:
        ReleaseError: The key is missing or wrong, or what the fleet keys signed has expired.
    """
    releases = ReleaseRepository(repository)
    releases.assign({}, read_private_key(online, ask))
    for state in releases.states():
        if state.expires is not None:
            print(f"{state.role} version {state.version} expires on {state.expires:%Y-%m-%d}")


def run_release_withdraw(repository: Path, name: str, sign: Sequence[Path], ask: AskPassphrase) -> None:
    """Takes a release from what devices install.

    Raises:
        ReleaseError: There is no such release, or a key is missing or wrong.
    """
    result = ReleaseRepository(repository).withdraw(name, [read_private_key(path, ask) for path in sign])
    print_results(repository, [result])
    if not result.missing:
        print(f"devices hear of it with the next signatures: fedlp release refresh {repository} --online-key FILE")


def run_release_show(repository: Path) -> None:
    """Prints the signed files.

    Raises:
        ReleaseError: There is no repository.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("release", "file", "size"):
        table.add_column(column, no_wrap=True)
    for release, files in ReleaseRepository(repository).releases().items():
        for name, size in files.items():
            table.add_row(release, name, format_bytes(size))
    print_unwrapped(open_console(), table)


def run_release_verify(repository: Path, root: Path, device: str) -> None:
    """Does what a device does with what it is assigned, and says what it would install.

    Args:
        repository: Directory of the releases.
        root: Root of trust of the device.
        device: Id of the device.

    Raises:
        ReleaseError: Nothing is assigned to the device, or the root of trust cannot be read.
        UntrustedReleaseError: The device would refuse.
    """
    files = ReleaseRepository(repository).files(device)
    try:
        trusted = root.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{root}: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as directory:
        client = ReleaseClient.open(trusted, Path(directory), device, files)
        assignment = client.assigned()
        for name in assignment.names:
            client.fetch(name)
    choices = ", ".join(entry.model for entry in assignment.choices)
    print(f"{device} installs {assignment.model}" + (f", or by its own measurement {choices}" if choices else ""))
