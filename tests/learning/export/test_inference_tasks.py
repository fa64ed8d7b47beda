"""Answers of exported models of every task, of graphs that take bytes, and of those that take one sample at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inference import Classifier, Prediction, Sample, as_input, load_sample
from fedlp_edge.learning.export.metadata import OnnxMetadata, ScoreHistogram, from_properties, to_properties

PAIR = OnnxMetadata(
    model="m", depth=1, input_shape=(2,), classes=("nut", "bolt"), scale=1.0, mean=(0.0,), std=(1.0,)
)  # fmt: skip
Node = tuple[str, list[str], list[str], dict[str, object]]


def write(
    path: Path,
    metadata: OnnxMetadata,
    nodes: list[Node],
    *,
    kind: int = TensorProto.FLOAT,
    batch: str | int = "batch",
    constants: dict[str, np.ndarray] | None = None,
    types: dict[str, int] | None = None,
) -> Path:
    """Writes a graph of these nodes whose outputs are those of the metadata."""
    types = types or {}
    graph = helper.make_graph(
        [helper.make_node(name, takes, gives, **attributes) for name, takes, gives, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("input", kind, [batch, *metadata.input_shape])],
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in metadata.outputs],
        initializer=[numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, to_properties(metadata, {}))
    onnx.save(model, path)
    return path


def answers(path: Path, *rows: object) -> list[Prediction | DataError]:
    model = Classifier(path)
    samples = [
        Sample(f"row {number}", as_input(np.asarray(row, np.float32), model.onnx_metadata, f"row {number}"))
        for number, row in enumerate(rows)
    ]
    return list(model.answer_all(samples))


def test_labels_above_one_half_are_named(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(PAIR, task="multi-label", outputs=("probabilities",))
    path = write(tmp_path / "m.onnx", metadata, [("Sigmoid", ["input"], ["probabilities"], {})])
    both, none = answers(path, [1, 2], [-1, -2])
    assert isinstance(both, Prediction)
    assert both.label == "nut, bolt"
    assert both.top[0] == ("bolt", pytest.approx(1 / (1 + np.exp(-2))))
    assert isinstance(none, Prediction)
    assert none.label == "none"


def test_numbers_have_their_units(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(
        PAIR, task="regression", outputs=("values",), classes=("load", "heat"), units=("kW",)
    )
    (answer,) = answers(write(tmp_path / "m.onnx", metadata, [("Neg", ["input"], ["values"], {})]), [1, 2.5])
    assert isinstance(answer, Prediction)
    assert answer.label == "load -1 kW, heat -2.5"
    assert answer.values == (("load", -1.0), ("heat", -2.5))
    assert answer.probability is None


def test_an_anomaly_is_named_with_its_score(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(
        PAIR, task="anomaly", classes=(), outputs=("score", "anomalous", "reconstruction"), threshold=1.0
    )
    nodes: list[Node] = [
        ("ReduceSumSquare", ["input"], ["score"], {"axes": [1], "keepdims": 0}),
        ("Greater", ["score", "limit"], ["anomalous"], {}),
        ("Identity", ["input"], ["reconstruction"], {}),
    ]
    path = write(
        tmp_path / "m.onnx",
        metadata,
        nodes,
        constants={"limit": np.float32(1.0)},
        types={"anomalous": TensorProto.BOOL},
    )
    normal, odd = answers(path, [0, 0.5], [2, 1])
    assert (normal, odd) == (
        Prediction("row 0", "normal", None, (), None, (("score", 0.25),)),
        Prediction("row 1", "anomalous", None, (), None, (("score", 5.0),)),
    )


def test_one_unknown_token_costs_its_own_answer_alone(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Cast", ["input"], ["tokens"], {"to": TensorProto.INT64}),
        ("Gather", ["embedding", "tokens"], ["found"], {}),
        ("ReduceSum", ["found", "axis"], ["logits"], {"keepdims": 0}),
    ]
    constants = {"embedding": np.eye(2, dtype=np.float32), "axis": np.array([1])}
    first, unknown, last = answers(write(tmp_path / "m.onnx", PAIR, nodes, constants=constants), [0, 0], [0, 9], [1, 1])
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert (first.label, last.label) == ("nut", "bolt")
    assert isinstance(unknown, DataError)
    assert str(unknown).startswith("row 1: the model does not run in onnxruntime: ")
    assert "\n" not in str(unknown)


def test_an_answer_that_is_no_number_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", PAIR, [("Sqrt", ["input"], ["logits"], {})])
    good, bad = answers(path, [1, 4], [1, -1])
    assert isinstance(good, Prediction)
    assert str(bad) == "row 1: the model computes numbers for it that are not finite"


def test_a_file_that_takes_one_sample_gets_one_at_a_time(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(PAIR, outputs=("logits",))
    path = write(tmp_path / "m.onnx", metadata, [("Identity", ["input"], ["logits"], {})], batch=1)
    found = answers(path, [1, 0], [0, 1], [3, 0])
    assert [answer.label for answer in found if isinstance(answer, Prediction)] == ["nut", "bolt", "nut"]


def test_a_graph_that_takes_bytes_gets_them_as_they_are(tmp_path: Path) -> None:
    raw = msgspec.structs.replace(
        PAIR, input_shape=(1, 1, 2), input_type="uint8", scale=1 / 255, mean=(0.5,), std=(0.5,)
    )
    nodes: list[Node] = [
        ("Cast", ["input"], ["numbers"], {"to": TensorProto.FLOAT}),
        ("Flatten", ["numbers"], ["logits"], {}),
    ]
    model = Classifier(write(tmp_path / "m.onnx", raw, nodes, kind=TensorProto.UINT8))
    model.try_zeros()
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "bytes.npy", np.array([[[7, 9]]], np.uint8))
    np.save(tmp_path / "floats.npy", np.array([[[7, 9]]], np.float64))
    for name in ("a.png", "bytes.npy", "floats.npy"):
        prediction = model.predict(tmp_path / name)
        assert (prediction.label, prediction.probability) == ("bolt", pytest.approx(1 / (1 + np.exp(-2))))
    for value in (0.5, 256, -1):
        np.save(tmp_path / "other.npy", np.array([[[7, value]]], np.float32))
        with pytest.raises(DataError, match="pixels are whole, from 0 to 255"):
            model.predict(tmp_path / "other.npy")


def test_what_later_versions_add_is_read_again() -> None:
    metadata = msgspec.structs.replace(
        PAIR, input_type="uint8", features=("a", "b"), confidence=ScoreHistogram(edges=(0.5,), shares=(0.25, 0.75))
    )
    properties = to_properties(metadata, {})
    assert from_properties(properties, "file") == metadata
    for name in ("input_type", "features", "confidence"):
        del properties[f"fedlp.{name}"]
    assert from_properties(properties, "file") == PAIR


def test_answers_pictures_tables_and_standard_input_where_torch_is_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        msgspec.structs.replace(PAIR, features=("x", "y")),
        [("Identity", ["input"], ["logits"], {})],
    )
    (tmp_path / "rows.csv").write_text("y,x\n1,0\n0,\n")
    program = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx', 'onnxscript', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "from fedlp_edge.cli.entry import run\n"
        "sys.argv[1:] = ['infer', '--json', *sys.argv[1:]]\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(tmp_path / "rows.csv"), "-"],
        input="[1, 0]\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert [msgspec.json.decode(line)["label"] for line in done.stdout.splitlines()] == ["bolt", "nut"]
    assert done.stderr == f"error: {tmp_path}/rows.csv:3: column 'x' has no value\n"
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((4, 1, 3, 2), ": save each sample in a file of its own"),
        ((3, 2, 1), ": channels come first, use numpy.moveaxis(sample, -1, 0)"),
        ((3, 2), ": add the channel with sample[None]"),
        ((5,), ""),
    ],
)
def test_numbers_of_another_shape_are_refused_with_what_to_do(shape: tuple[int, ...], hint: str) -> None:
    metadata = msgspec.structs.replace(PAIR, input_shape=(1, 3, 2))
    with pytest.raises(DataError) as caught:
        as_input(np.zeros(shape, np.float32), metadata, "x.npy")
    assert str(caught.value) == f"x.npy holds float32 {list(shape)}; the model takes one sample of 1x3x2{hint}"


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x.npy holds Python objects, which are never loaded: save the numbers"):
        load_sample(tmp_path / "x.npy", PAIR)
