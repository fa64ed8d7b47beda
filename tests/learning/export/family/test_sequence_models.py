"""Files of models of sequences: recurrent networks, transformers with masks, 1-D convolutions; at several depths."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.family.model_family import FamilyOptions, ModelFamily
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.inference import Classifier, Sample
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.tasks.classification import Classification

WIDTH, CLASSES, VOCABULARY = 8, 3, 20


class Recurrent(nn.Module):
    """Three recurrent layers, of which the middle one looks in both directions."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.first = kind(4, WIDTH, batch_first=True)
        self.second = kind(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.third = kind(WIDTH, WIDTH, batch_first=True)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            x, _ = layer(x)
        return self.fc(x[:, -1])


class Encoder(nn.Module):
    """Token ids in three of torch's own encoder layers, with a mask of the padding (0) or of what comes later."""

    def __init__(self, length: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(torch.randn(1, length, WIDTH) / 10)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position
        if self.causal:
            later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=x.device).triu(1)
            return self.fc(self.encoder(x, mask=later)[:, -1])
        padding = tokens == 0
        x = self.encoder(x, src_key_padding_mask=padding)
        return self.fc((x * ~padding.unsqueeze(-1)).sum(1) / (~padding).sum(1, keepdim=True))


class Sensor(nn.Module):
    """1-D convolutions with a residual connection, for signals of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, WIDTH, 5, padding=2)
        self.blocks = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x.transpose(1, 2)))
        for block in self.blocks:
            x = functional.relu(x + block(x))
        return self.fc(x.mean(dim=2))


MODELS: dict[str, tuple[Callable[[int], nn.Module], bool, str]] = {
    "lstm": (lambda _: Recurrent(nn.LSTM), False, "DynamicQuantizeLSTM MatMulInteger"),
    "gru": (lambda _: Recurrent(nn.GRU), False, "MatMulInteger"),
    "padding mask": (lambda length: Encoder(length, causal=False), True, "MatMulInteger"),
    "causal mask": (lambda length: Encoder(length, causal=True), True, "MatMulInteger"),
    "convolutions": (lambda _: Sensor(), False, "QuantizeLinear"),
}
"""How a model for a length is made, whether it takes token ids, and operators of its int8 file by name."""


def samples(length: int, *, tokens: bool) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if not tokens:
        return torch.randn(12, length, 4, generator=generator)
    x = torch.randint(1, VOCABULARY, (12, length), generator=generator)
    for number in range(12):  # of all lengths but 0
        x[number, 1 + number % length :] = 0
    return x.float()


@pytest.mark.parametrize(("name", "length"), [(name, 9 if name == "padding mask" else 6) for name in MODELS])
def test_files_answer_as_pytorch_does_at_every_depth(tmp_path: Path, name: str, length: int) -> None:
    make, tokens, operators = MODELS[name]
    precisions = ("fp32", "int8")
    torch.manual_seed(0)
    x = samples(length, tokens=tokens)
    model = partition(make(length), x[:1].long() if tokens else x[:1]).eval()
    depths = tuple(model.depths)
    assert depths == (1, 2, 3)
    data = Dataset.of_tensor(x, torch.zeros(12, dtype=torch.int64), (), 1.0, (0.0,), (1.0,))
    options = FamilyOptions(name="m", precisions=precisions, labelled=False, tokens=tokens)  # type: ignore[arg-type]
    tasks = dict.fromkeys(depths, Classification(CLASSES))
    family = ModelFamily(exits_of(model, depths), tasks, data, data, tmp_path, options).write()
    assert family.refused == ()
    assert [(entry.depth, entry.precision) for entry in family.entries] == [(d, p) for d in depths for p in precisions]
    for entry in family.entries:
        session = onnxruntime.InferenceSession(tmp_path / entry.file)
        for size in (1, 3):
            with torch.no_grad():
                expected = model(x[-size:], depth=entry.depth).numpy()
            (got,) = session.run(["logits"], {"input": x[-size:].numpy()})
            allowed = 1e-5 if entry.precision == "fp32" else 0.05 * np.abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=allowed)
        if entry.precision == "int8":
            found = {node.op_type for node in onnx.load(tmp_path / entry.file).graph.node}
            assert found & set(operators.split()), found


def test_a_file_is_made_for_one_sample_by_the_tool_that_the_docs_name(tmp_path: Path) -> None:
    x = samples(6, tokens=False)
    model = partition(Recurrent(nn.GRU), x[:1]).eval()
    data = Dataset.of_tensor(x, torch.zeros(12, dtype=torch.int64), (), 1.0, (0.0,), (1.0,))
    options = FamilyOptions(name="m", precisions=("fp32", "int8"), labelled=False)
    family = ModelFamily(exits_of(model, (2,)), {2: Classification(CLASSES)}, data, data, tmp_path, options).write()
    assert [entry.file for entry in family.entries] == ["m-depth-2.onnx", "m-depth-2-int8.onnx"]
    for entry in family.entries:
        file, one = tmp_path / entry.file, tmp_path / "one.onnx"
        fixed = [sys.executable, "-m", "onnxruntime.tools.make_dynamic_shape_fixed", "--dim_param", "batch"]
        subprocess.run([*fixed, "--dim_value", "1", str(file), str(one)], check=True, capture_output=True)
        before, after = onnxruntime.InferenceSession(file), onnxruntime.InferenceSession(one)
        assert after.get_inputs()[0].shape == [1, 6, 4]
        assert after.get_outputs()[0].shape == [1, 3]
        assert after.get_modelmeta().custom_metadata_map == before.get_modelmeta().custom_metadata_map
        feed = {"input": x[:1].numpy()}
        np.testing.assert_allclose(after.run(None, feed)[0], before.run(None, feed)[0], rtol=1e-5, atol=1e-6)
        assert len(list(Classifier(one).answer_all([Sample(name=str(n), values=x[n].numpy()) for n in range(3)]))) == 3
