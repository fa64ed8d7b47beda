"""Running an exported model on a device that has onnxruntime and nothing else of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.export.inference import Classifier, load_sample
from fedlp_edge.learning.export.metadata import OnnxMetadata, from_properties, to_properties

GREY = OnnxMetadata(
    model="m", depth=1, input_shape=(1, 2, 2), classes=("dark", "light", "odd", "none"), scale=1 / 255, mean=(0.5,),
    std=(0.5,),
)  # fmt: skip
COLOUR = msgspec.structs.replace(GREY, input_shape=(3, 2, 2), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))


def write_model(path: Path, properties: dict[str, str]) -> Path:
    """A model whose logits are the four pixels themselves."""
    nodes = [helper.make_node("Flatten", ["input"], ["logits"], axis=1)]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", to_properties(GREY, {"run": "demo"}))


def test_predict_names_the_three_most_probable_classes(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[0, 255], [128, 64]]], dtype=np.uint8))
    prediction = Classifier(model).predict(tmp_path / "a.npy")
    assert prediction.label == "light"
    assert [name for name, _ in prediction.top] == ["light", "odd", "none"]
    # Logits -1, 1, 1/255 and -127/255 after normalisation.
    logits = np.array([-1, 1, 1 / 255, -127 / 255])
    assert prediction.probability == pytest.approx(np.exp(1) / np.exp(logits).sum(), abs=1e-6)


def test_load_sample_makes_a_picture_grey_and_small(tmp_path: Path) -> None:
    Image.new("RGB", (10, 10), (255, 255, 255)).save(tmp_path / "a.png")
    sample, warning = load_sample(tmp_path / "a.png", GREY)
    assert sample.tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    assert warning is None


def test_load_sample_normalises_each_channel(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 255).save(tmp_path / "a.png")
    sample, _ = load_sample(tmp_path / "a.png", COLOUR)
    assert sample[:, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_load_sample_says_that_only_the_first_frame_is_used(tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), value) for value in (255, 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    sample, warning = load_sample(tmp_path / "a.gif", GREY)
    assert sample.flatten().tolist() == [1.0] * 4
    assert warning == f"{tmp_path / 'a.gif'}: only the first of its frames is used"


def test_load_sample_refuses_what_is_no_number(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((1, 2, 2), np.nan))
    with pytest.raises(DataError, match="not finite"):
        load_sample(tmp_path / "a.npy", GREY)


def test_load_sample_warns_when_it_stretches(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    _, warning = load_sample(tmp_path / "a.png", GREY)
    assert warning == f"{tmp_path / 'a.png'}: stretched from 30x20 to 2x2"


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n cut short"])
def test_load_sample_refuses_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    for name in ("a.png", "a.npy"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            load_sample(tmp_path / name, GREY)


def test_load_sample_refuses_a_missing_file_and_a_picture_for_a_sensor_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_sample(tmp_path / "none.png", GREY)
    with pytest.raises(DataError, match=r"takes samples of shape 16, not pictures"):
        load_sample(tmp_path / "none.png", msgspec.structs.replace(GREY, input_shape=(16,)))


def test_classifier_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no file"):
        Classifier(tmp_path / "none.onnx")
    (tmp_path / "run" / "onnx").mkdir(parents=True)
    (tmp_path / "run" / "onnx" / "net-depth-2.onnx").touch()
    with pytest.raises(ExportError, match=r"run is a directory: name an ONNX file first, such as .*net-depth-2\.onnx"):
        Classifier(tmp_path / "run")
    (tmp_path / "text.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="is not an ONNX model"):
        Classifier(tmp_path / "text.onnx")
    with pytest.raises(ExportError, match="was not exported by fedlp"):
        Classifier(write_model(tmp_path / "foreign.onnx", {}))


@pytest.mark.parametrize("spoiled", ["fedlp.mean", "fedlp.input_shape", "fedlp.depth"])
def test_from_properties_refuses_spoiled_metadata(spoiled: str) -> None:
    properties = to_properties(GREY, {})
    assert from_properties(properties, "file") == GREY
    for value in ("", "0", '"x"', "[[]]"):
        with pytest.raises(ExportError):
            from_properties({**properties, spoiled: value}, "file")


def test_inference_loads_no_torch(model: Path, tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    program = (
        "import sys; from pathlib import Path; from fedlp_edge.learning.export.inference import Classifier; "
        "Classifier(Path(sys.argv[1])).predict(Path(sys.argv[2])); "
        "print([m for m in ('torch', 'onnx', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_threads_are_as_many_as_the_cores_that_may_be_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # onnxruntime binds threads to cores only where it chooses their number.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5, 7})
    assert Classifier(model)._session.get_session_options().intra_op_num_threads == 3
    assert Classifier(model, 2)._session.get_session_options().intra_op_num_threads == 2
