"""ONNX files: what they say, that they compute the same, and that a file that does not is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.export import onnx as export_module
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights
from fedlp_edge.learning.export.inference import Classifier, load_sample
from fedlp_edge.learning.export.metadata import OPSET, OnnxMetadata
from fedlp_edge.learning.export.onnx import AnsweringModel, Verified, export, graph_of, with_decision, with_properties

DIGITS = load_data("digits", "test")
CARD = OnnxMetadata(
    model="small-cnn",
    depth=2,
    input_shape=(1, 8, 8),
    classes=DIGITS.classes,
    scale=DIGITS.scale,
    mean=DIGITS.mean,
    std=DIGITS.std,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.norm(self.conv(x)).relu(), 4)
        return self.head(x.flatten(1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    path = tmp_path_factory.mktemp("onnx") / "net-depth-2.onnx"
    return export(Net(), CARD, DIGITS, path, {"run": "demo-1", "round": "10"})


def test_export_writes_one_valid_file(exported: Verified) -> None:
    assert [file.name for file in exported.path.parent.iterdir()] == ["net-depth-2.onnx"]
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("input", "logits")
    assert given.type.tensor_type.shape.dim[0].dim_param
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim][1:] == [1, 8, 8]


def test_export_states_its_origin_and_nothing_of_the_machine(exported: Verified) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert properties["fedlp.run"] == "demo-1"
    assert properties["fedlp.depth"] == "2"
    assert properties["fedlp.classes"] == '["0","1","2","3","4","5","6","7","8","9"]'
    assert b".py" not in exported.path.read_bytes()


def test_file_asks_for_no_newer_onnxruntime_than_its_operators_do() -> None:
    helper = onnx.helper
    value = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "branch", [], [value])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    imports = [helper.make_opsetid(domain, version) for domain, version in (("", 18), ("com.microsoft", 1), ("ml", 5))]
    model = helper.make_model(helper.make_graph([choice], "g", [], []), opset_imports=imports, ir_version=10)
    with_properties(model, {})
    assert [entry.domain for entry in model.opset_import] == ["", "com.microsoft"]
    assert model.ir_version == 8, "which onnxruntime reads since 1.14, and version 10 only since 1.18"


def test_export_agrees_with_pytorch_for_any_batch(exported: Verified) -> None:
    assert exported.max_abs_diff <= 1e-4
    session = onnxruntime.InferenceSession(exported.path)
    model = Net().eval()
    for size in (1, 7, 64):
        x, _ = DIGITS.batch(slice(0, size))
        with torch.no_grad():
            np.testing.assert_allclose(session.run(["logits"], {"input": x.numpy()})[0], model(x), atol=1e-4)


def test_export_measures_accuracy_in_onnxruntime(exported: Verified) -> None:
    with torch.no_grad():
        x, y = DIGITS.batch(slice(0, len(DIGITS)))
        expected = (Net().eval()(x).argmax(1) == y).float().mean().item()
    assert exported.accuracy == pytest.approx(expected)


def test_export_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    export(Net(), CARD, DIGITS, tmp_path / "net.onnx", {})
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_export_refuses_a_file_that_computes_something_else(tmp_path: Path) -> None:
    class Moody(Net):
        """Computes one thing for the exporter and another when it is asked again."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + (0.0 if torch.compiler.is_exporting() else 0.01)

    (tmp_path / "net.onnx").write_bytes(b"the last good one")
    with pytest.raises(ExportError, match=r"net\.onnx is refused: onnxruntime differs from PyTorch by 1\.0e-02"):
        export(Moody(), CARD, DIGITS, tmp_path / "net.onnx", {})
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the last good one"]


def test_export_refuses_a_wrong_file_also_where_logits_are_in_the_thousands(tmp_path: Path) -> None:
    class Loud(Net):
        def forward(self, x: Tensor) -> Tensor:
            return 5000 * super().forward(x) + (0.0 if torch.compiler.is_exporting() else 20.0)

    with pytest.raises(ExportError, match=r"differs from PyTorch by 2\.0e\+01 on real samples"):
        export(Loud(), CARD, DIGITS, tmp_path / "net.onnx", {})


def test_export_refuses_what_is_not_a_number(tmp_path: Path) -> None:
    model = Net()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(ExportError, match="is refused"):
        export(model, CARD, DIGITS, tmp_path / "net.onnx", {})
    assert not list(tmp_path.iterdir())


def test_export_says_why_a_model_cannot_be_exported(tmp_path: Path) -> None:
    class Fickle(Net):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.sum()) > 1e9:
                raise ValueError("too bright")
            return super().forward(x.numpy() if torch.onnx.is_in_onnx_export() else torch.as_tensor(x.tolist()))

    with pytest.raises(ExportError, match="PyTorch cannot export this model to ONNX"):
        export(Fickle(), CARD, DIGITS, tmp_path / "net.onnx", {})


def test_export_falls_back_to_tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no graph")

    monkeypatch.setattr(export_module, "_export_by_graph", refuse)
    verified = export(Net(), CARD, DIGITS, tmp_path / "net.onnx", {})
    assert verified.max_abs_diff <= 1e-4


def test_classifier_agrees_with_the_export(exported: Verified, tmp_path: Path) -> None:
    classifier = Classifier(exported.path)
    assert classifier.onnx_metadata == CARD
    raw = DIGITS.stored()[3].numpy()
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "scaled.npy", raw.astype(np.float32) / 16)
    prediction = classifier.predict(tmp_path / "raw.npy")
    assert prediction.probability == pytest.approx(classifier.predict(tmp_path / "scaled.npy").probability, abs=1e-6)
    with torch.no_grad():
        expected = Net().eval()(DIGITS.batch(slice(3, 4))[0]).softmax(1)[0]
    assert prediction.label == str(int(expected.argmax()))
    assert prediction.probability == pytest.approx(float(expected.max()), abs=1e-5)
    assert len(prediction.top) == 3
    assert prediction.warning is None


def test_samples_of_the_data_set_are_prepared_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", DIGITS.stored()[5].numpy())
    sample, _ = load_sample(tmp_path / "raw.npy", CARD)
    np.testing.assert_allclose(sample, DIGITS.batch(slice(5, 6))[0][0], atol=1e-6)


def test_dataset_of_two_samples_is_enough_for_a_check(tmp_path: Path) -> None:
    tiny = Dataset.of_tensor(DIGITS.stored()[:1], DIGITS.y[:1], DIGITS.classes, DIGITS.scale, DIGITS.mean, DIGITS.std)
    assert export(Net(), CARD, tiny, tmp_path / "net.onnx", {}).accuracy in (0.0, 1.0)


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8), (1, 1, 8, 8)])
def test_load_sample_refuses_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype=np.float32))
    with pytest.raises(DataError, match="the model takes one sample of 1x8x8"):
        load_sample(tmp_path / "a.npy", CARD)


class Smooth(nn.Module):
    """Makes pictures smaller by an operator that older opsets lack."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.interpolate(input, size=(3, 3), mode="bilinear", antialias=True)


def test_says_which_opset_a_model_needs() -> None:
    with pytest.raises(ExportError, match="its operators need opset 18, and 17 was asked for: say --opset 18"):
        graph_of(Smooth(), torch.zeros(2, 1, 5, 5), ["logits"], "m", 17, weights=DetachedWeights())


class Decides(nn.Module):
    """Leaves out a part of its forward by what is in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x * 2
        return x


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Decides(), r"differs; its code decides by .* \(test_onnx\.py, line \d+\), and a file holds one dec"),
        (nn.ReLU(), "differs"),
        (nn.Linear(3, 1), "differs"),
        (AnsweringModel(nn.ReLU(), None), "differs"),
    ],
)
def test_a_decision_in_the_users_code_is_told_with_its_line(model: nn.Module, told: str) -> None:
    error = with_decision(ExportError("differs"), model, torch.zeros(2, 4))
    assert re.match(told, str(error))
    assert (error.args == ("differs",)) == (told == "differs")


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_that_a_forward_bounds_by_their_data_are_exported(in_place: bool) -> None:
    class Bounded(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if in_place:
                self.weight.data.clamp_(max=1)
            else:
                self.weight.data = self.weight.data.clamp(max=1)
            return super().forward(x)

    bounded = Bounded(3, 2, bias=False)
    nn.init.constant_(bounded.weight, 7)
    proto = graph_of(
        AnsweringModel(bounded, None).eval(), torch.zeros(2, 3), ["logits"], "it", weights=DetachedWeights()
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    assert session.run(None, {"input": np.ones((1, 3), np.float32)})[0].tolist() == [[3, 3]]
