"""``fedlp release`` from an exported model to a signed release, and what is withdrawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fedlp_edge.release.key_files import read_private_key
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.signed_assignment import SignedAssignment
from fedlp_edge.wire.tensors import pack
from tests.cli.signing.signing_place import fedlp, init, wrong
from tests.release.two_files import write_two_files


def test_from_keys_to_a_signed_release(place: Path) -> None:
    assert init() == (
        'root version 1 is signed\nrepo/root.json: copy it to each device, and name it in agent.toml: root = "FILE"\n'
    )
    assert fedlp("release", "sign", "repo", "spring", "--key", "anna.key") == (
        "m-d1.onnx  7 B\nm-d1.selftest.npz  11 B\ntargets version 1 is signed\n"
    )
    assert "assignments version 1 expires on " in fedlp("release", "refresh", "repo", "--online-key", "online.key")
    assert fedlp("release", "show", "repo").split() == [
        "release",
        "file",
        "size",
        "spring",
        "m-d1.onnx",
        "7",
        "B",
        "spring",
        "m-d1.selftest.npz",
        "11",
        "B",
    ]
    assert fedlp("keys", "show", "repo").count("none") == 0


def test_a_model_of_two_files_is_refused_before_anything_is_signed(place: Path) -> None:
    init()
    write_two_files(Path("spring/m-d2.onnx"))
    assert wrong("release", "sign", "repo", "spring", "--key", "anna.key") == (
        "spring/m-d2.onnx keeps its weights in m-d2.onnx.data, and a device gets one file: export --precision "
        "fp16,int8, or --depth N with a smaller depth, to another directory, and sign that"
    )
    assert fedlp("release", "show", "repo").split() == ["release", "file", "size"]
    assert not Path("spring/m-d2.selftest.npz").exists()


def test_second_signature_is_asked_for_and_given(place: Path) -> None:
    said = init("--fleet-key", "ben.key.pub", "--threshold", "2", "--key", "anna.key")
    assert said.startswith("root version 1 waits for 1 more signature, of: ")
    assert said.endswith(" (fedlp release cosign repo --key FILE)\n")
    assert wrong("release", "sign", "repo", "spring", "--key", "anna.key") == (
        "the first root waits for signatures: fedlp release cosign"
    )
    assert fedlp("release", "cosign", "repo", "--key", "ben.key") == "root version 1 is signed\n"
    assert "waits for 1 more signature" in fedlp("release", "sign", "repo", "spring", "--key", "ben.key")
    assert fedlp("release", "cosign", "repo", "--key", "anna.key") == "targets version 1 is signed\n"
    assert "nothing waits" in wrong("release", "cosign", "repo", "--key", "anna.key")


def test_weights_of_the_run_need_not_travel(place: Path) -> None:
    init()
    weights = np.arange(5000, dtype=np.float32)
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(weights, "w")])
    Path("run/onnx").mkdir(parents=True)
    Path("run/checkpoints").mkdir()
    Path("run/checkpoints/round-00000.safetensors").write_bytes(pack({"first": weights}))
    Path("run/checkpoints/round-00001.safetensors").write_bytes(pack({"w": weights}))
    onnx.save(helper.make_model(graph), "run/onnx/m-d1.onnx")
    Path("run/onnx/m-d1.selftest.npz").write_bytes(b"a self-test")

    said = fedlp("release", "sign", "repo", "run", "--key", "anna.key").splitlines()

    assert [line.split()[0] for line in said[:2]] == ["m-d1.onnx", "m-d1.onnx.graph"]
    assert Path("repo/targets/run/m-d1.onnx.graph").stat().st_size < 200
    sign = ("release", "sign", "repo", "spring", "--key", "anna.key")
    assert wrong(*sign, "--run", "spring") == "spring holds no checkpoint of a run; is it the directory of a run?"


def test_device_would_install_what_it_is_assigned(place: Path) -> None:
    init()
    fedlp("release", "sign", "repo", "spring", "--key", "anna.key")
    online = read_private_key(Path("online.key"), lambda _: "")
    assignment = SignedAssignment(device="pi-1", release="spring", model="spring/m-d1.onnx")
    ReleaseRepository(Path("repo")).assign({"pi-1": assignment}, online)
    verify = ("release", "verify", "repo", "pi-1", "--root", "repo/root.json")

    assert fedlp(*verify) == "pi-1 installs spring/m-d1.onnx\n"

    assert fedlp("release", "withdraw", "repo", "spring", "--key", "anna.key").startswith(
        "targets version 2 is signed\n"
    )
    fedlp("release", "refresh", "repo", "--online-key", "online.key")
    assert wrong(*verify) == "spring/m-d1.onnx is not signed"
    assert wrong("release", "verify", "repo", "pi-2", "--root", "repo/root.json") == "nothing is assigned to pi-2"
