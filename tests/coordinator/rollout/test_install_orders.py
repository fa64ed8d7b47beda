"""What each device is ordered to install."""

from __future__ import annotations

from pathlib import Path

from coordinator.rollout.file_choice import FileWishes
from coordinator.rollout.install_orders import InstallOrders, RolloutFiles
from coordinator.rollout.ordered_files import OrderedFiles
from coordinator.rollout.release_files import ReleaseFile, find_release
from coordinator.rollout.rollout_directory import RolloutPlan
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.topics import Topics
from tests.coordinator.fleets import facts
from tests.fleets.rolled_out import write_release

PLAN = RolloutPlan(run="deploy-r", fleet="f", release="r", source="/d", config="/f.toml")


def orders(directory: Path, files: RolloutFiles, plan: RolloutPlan = PLAN) -> InstallOrders:
    publisher = WindowedPublisher(MemoryHub().transport("coordinator"), 4)
    flow = FlowLimits.for_queue(None, 1000)
    server = ModelServer(Topics("f"), publisher, 1000, lambda _what, _bytes: None, flow, lambda: 0.0)
    return InstallOrders(plan, files, directory / "self_tests", server)


def release(directory: Path, *depths: int) -> tuple[ReleaseFile, ...]:
    return find_release(write_release(directory / "release", b"model", depths=depths))


def test_order_names_the_file_that_was_chosen_and_its_self_test_by_their_contents(tmp_path: Path) -> None:
    made = orders(tmp_path, RolloutFiles(release(tmp_path, 1, 2), planned={"a": 1}))
    assert made.choose("a", facts()) == ""
    assert made.choose("b", facts()) == ""
    assert (made.file_name("a"), made.file_name("b")) == ("model-d1.onnx", "model-d2.onnx")

    order = made.order("a", facts())
    assert (order.run, order.device, order.release) == ("deploy-r", "a", "r")
    assert (order.model, order.self_test) == ("model-d1.onnx", "model-d1.selftest.npz")
    assert {file.name: file.version.digest for file in order.files} == {
        "model-d1.onnx": digest_of(b"model of depth 1"),
        "model-d1.selftest.npz": digest_of(b"self-test"),
    }
    assert made.order("a", facts()) is order


def test_device_that_no_file_suits_is_told_of_and_may_get_one_later(tmp_path: Path) -> None:
    (file,) = release(tmp_path, 3)
    made = orders(tmp_path, RolloutFiles((file,)), PLAN)
    assert made.choose("small", facts(memory=1)) == (
        "answers of the smallest file that is asked for take 16 B, and it has 1 B"
    )
    assert made.choose("small", facts(memory=10**9)) == ""
    assert made.choose("small", facts(memory=1)) == ""  # it keeps what was chosen once


def test_signed_order_has_the_files_that_the_signer_gives(tmp_path: Path) -> None:
    (file,) = release(tmp_path, 1)
    signature = tmp_path / "1.targets.json"
    asked: list[tuple[str, Path]] = []

    def sign(device: str, path: Path, _further: object) -> OrderedFiles:
        signature.write_bytes(b"for %d" % len(asked))
        asked.append((device, path))
        return OrderedFiles({"targets.json": signature, path.name: path}, path.name)

    made = orders(tmp_path, RolloutFiles((file,), signed=sign))
    for device in ("a", "b"):
        made.choose(device, facts())
    made.make_self_tests(["a", "b"])  # there are none: what is signed was tested when it was signed
    digests = [made.order(device, facts()).files[0].version.digest for device in ("a", "b")]
    assert digests == [digest_of(b"for 0"), digest_of(b"for 1")]  # metadata change under the same path
    assert asked == [("a", file.path), ("b", file.path)]


def test_devices_that_measure_choose_among_several_files(tmp_path: Path) -> None:
    plan = RolloutPlan(
        run="deploy-r", fleet="f", release="r", source="/d", config="/f.toml", wishes=FileWishes(measured=True)
    )
    made = orders(tmp_path, RolloutFiles(release(tmp_path, 1, 2)), plan)
    made.choose("a", facts())
    assert [(offer.model, offer.depth) for offer in made.order("a", facts()).offers] == [
        ("model-d2.onnx", 2),
        ("model-d1.onnx", 1),
    ]
