"""Exported files answer raw pictures with onnxruntime, numpy and Pillow alone, by the script that the docs print."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.learning.export.family.model_family import FamilyResult
from fedlp_edge.learning.export.inputs.inference_inputs import infer
from fedlp_edge.learning.export.metadata import OnnxMetadata
from tests.learning.export.test_inference_tasks import Node, write

PAGE = Path(__file__).parents[4] / "docs" / "export.md"
ABSENT = ("torch", "torchvision", "fedlp_edge", "onnx", "msgspec", "psutil")


def requirements(*names: str) -> set[str]:
    """Names of packages with all that they need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = [need for need in distribution(name).requires or () if "extra" not in need]
            waiting += [re.split(r"[^\w.-]", need)[0] for need in needs]
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of packages that holds onnxruntime, numpy, Pillow and what these need, and nothing else."""
    directory = tmp_path_factory.mktemp("packages")
    for name in requirements("onnxruntime", "numpy", "pillow"):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (directory / top).exists():
                (directory / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    return directory


def alone(packages: Path, code: str, *arguments: str) -> str:
    """Runs Python without any packages but those, and returns what it prints."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(packages)!r})\n{code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def script() -> str:
    (found,) = re.findall(r"```python\n(# answer\.py.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def a_picture(path: Path, brightness: int) -> Path:
    noise = np.random.default_rng(brightness).integers(0, 30, (9, 7), dtype=np.uint8)
    Image.fromarray(noise + np.uint8(brightness)).save(path)
    return path


def test_no_other_package_is_there(packages: Path) -> None:
    code = f"from importlib.util import find_spec\nprint([name for name in {ABSENT!r} if find_spec(name)])"
    assert alone(packages, code) == "[]\n"


def test_every_file_answers_raw_pictures_as_fedlp_infer_does(
    packages: Path, script: str, written: tuple[Path, FamilyResult], tmp_path: Path
) -> None:
    directory, family = written
    files = [a_picture(tmp_path / "dark.png", 60), a_picture(tmp_path / "bright.png", 205)]
    kinds = [(entry.precision, bool(entry.exits)) for entry in family.entries if entry.depth == 2]
    assert sorted(kinds) == sorted((kind, exits) for kind in ("fp32", "fp16", "int8") for exits in (False, True))
    for entry in family.entries:
        model = directory / entry.file
        expected = [f"{answer.file}: {answer.label} {answer.probability:.3f}" for answer in infer(model, *files)]
        assert [line.split()[1] for line in expected] == ["dark", "bright"]
        assert alone(packages, script, str(model), *map(str, files)).splitlines() == expected


def test_files_that_take_normalised_samples_answer_too(packages: Path, script: str, tmp_path: Path) -> None:
    metadata = OnnxMetadata(
        model="m", depth=1, input_shape=(1, 2, 2), classes=("dark", "bright"), scale=1 / 255, mean=(0.5,), std=(0.25,)
    )  # fmt: skip
    weights = np.array([[-1.0, 1.0]] * 4, np.float32)
    nodes: list[Node] = [
        ("Flatten", ["input"], ["flat"], {}),
        ("MatMul", ["flat", "weights"], [metadata.outputs[0]], {}),
    ]
    model = write(tmp_path / "m.onnx", metadata, nodes, constants={"weights": weights})
    file = a_picture(tmp_path / "bright.png", 150)
    (answer,) = infer(model, file)
    assert alone(packages, script, str(model), str(file)) == f"{file}: bright {answer.probability:.3f}\n"
