"""Pictures beside the exported models, for a first inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from fedlp_edge.cli.demo.sample_pictures import classify_samples, write_pictures
from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.export.metadata import OnnxMetadata, to_properties


def samples(*classes: str) -> Samples:
    """Two pictures of each class, of one pixel that is as bright as the class's number."""
    y = np.repeat(np.arange(len(classes)), 2)
    x = (50 * y).astype(np.uint8)[:, None, None, None]
    return Samples(x, y, classes, 1 / 255, (0.0,), (1.0,))


def brightness(path: Path) -> int:
    with Image.open(path) as picture:
        assert picture.mode == "L"
        value = picture.getpixel((0, 0))
    assert isinstance(value, int)
    return value


def test_first_picture_of_each_of_three_classes_is_written(tmp_path: Path) -> None:
    paths = write_pictures(samples("dark", "grey", "light", "white"), tmp_path / "pictures")
    assert [path.name for path in paths] == ["dark.png", "grey.png", "light.png"]
    assert [brightness(path) for path in paths] == [0, 50, 100]


def test_class_whose_name_has_a_slash_is_one_file(tmp_path: Path) -> None:
    (path,) = write_pictures(samples("T-shirt/top"), tmp_path)
    assert path == tmp_path / "T-shirt-top.png"


def pixel_model(path: Path, answer: int) -> Path:
    """A model of pictures of 8x8 pixels that always answers the same digit."""
    logits = np.zeros((1, 10), np.float32)
    logits[0, answer] = 9.0
    nodes = [
        helper.make_node("ReduceSum", ["input", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "last"], ["column"]),
        helper.make_node("Add", ["column", "answer"], ["logits"]),
    ]
    held = {
        "axes": np.array([1, 2, 3]), "zero": np.zeros(1, np.float32), "last": np.array([1]), "answer": logits
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "pixel",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        initializer=[onnx.numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    names = tuple(str(digit) for digit in range(10))
    about = OnnxMetadata(
        model="pixel", depth=1, input_shape=(1, 8, 8), classes=names, scale=1 / 16, mean=(0.0,), std=(1.0,)
    )
    helper.set_model_props(model, to_properties(about, {}))
    onnx.save(model, path)
    return path


def test_deepest_model_says_what_the_pictures_show(tmp_path: Path) -> None:
    models = [pixel_model(tmp_path / f"depth-{answer}.onnx", answer) for answer in (1, 7)]
    said, command = classify_samples("digits", models, tmp_path / "pictures")
    assert said.startswith(
        "All 2 ONNX files run in onnxruntime; the deepest says of held-out pictures: 0.png: 7 (100 %), 1.png: 7"
    )
    assert command.endswith(f"infer {tmp_path / 'depth-7.onnx'} {tmp_path / 'pictures' / '0.png'}")
