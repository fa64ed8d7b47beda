"""Arrays and functions as people have them: the right numbers, or one line that names the source."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import arrays
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec

X = np.arange(80, dtype=np.float32).reshape(20, 4)
Y = np.arange(20) % 2

Save = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Save:
    """Saves arrays, and loads what another process would see."""

    def saved(split: str = "train", **given: Any) -> Dataset:
        np.savez(tmp_path / "own.npz", **given)
        return load_data(f"npz:{tmp_path / 'own.npz'}#holdout=0", split, targets="class")  # type: ignore[arg-type]

    return saved


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        Y[:, None],
        Y[None, :],
        np.eye(2)[Y],
        np.eye(2, dtype=bool)[Y],
        Y.astype(float),
        Y.astype(bool),
        Y.astype(">i2"),
        Y.astype(np.uint64),
        Y.astype(str),
        Y.astype("S"),
    ],
)
def test_numbers_in_any_form_are_class_numbers(load: Save, labels: np.ndarray) -> None:
    data = load(x=X, y=labels)
    assert (data.classes, data.y.tolist()) == ((), Y.tolist())


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["on", "off"], ("off", "on")),
        ([b"on", b"off"], ("off", "on")),
        ([20240102, 20240101], ("20240101", "20240102")),
        ([10_000, 9_999], ("9999", "10000")),
        ([2**64 - 1, 2**64 - 2], ("18446744073709551614", "18446744073709551615")),
        ([1, -1], ("-1", "1")),
        (["007", "006"], ("006", "007")),
        (np.array(["2024-01-02", "2024-01-01"], "datetime64[D]"), ("2024-01-01", "2024-01-02")),
    ],
)
def test_other_labels_become_classes_by_their_sorted_values(load: Save, values: Any, names: tuple[str, ...]) -> None:
    data = load(x=X, y=np.asarray(values)[Y])
    assert (data.classes, data.y.tolist()) == (names, (1 - Y).tolist())


def test_gaps_are_classes_that_a_device_lacks(load: Save) -> None:
    data = load(x=X, y=np.array([3, 999])[Y])
    assert data.y.tolist() == np.array([3, 999])[Y].tolist()
    # Every number of a large vocabulary in use: they are class numbers, though there are many.
    many = np.arange(5000)
    assert load(x=np.zeros((5000, 1), np.uint8), y=many).y.tolist() == many.tolist()


def test_both_splits_number_words_alike(load: Save) -> None:
    words = np.array(["a", "b", "c"])
    arrays = {"x": X, "y": words[np.arange(20) % 3], "x_test": X[:2], "y_test": np.array(["c", "d"])}
    assert load(**arrays).classes == ("a", "b", "c", "d")
    test = load(split="test", **arrays)
    assert (test.classes, test.y.tolist()) == (("a", "b", "c", "d"), [2, 3])


def test_names_give_words_and_article_numbers_their_class_numbers(load: Save) -> None:
    data = load(x=X, y=np.array(["on", "off"])[Y], classes=np.array(["broken", "on", "off"]))
    assert (data.classes, data.y.tolist()[:2]) == (("broken", "on", "off"), [1, 2])
    data = load(x=X, y=np.array([4711, 815])[Y], classes=np.array(["815", "4711"]))
    assert data.y.tolist()[:2] == [1, 0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"y": Y + 0.5}, "sample 0 has 0.5; measurements are no classes"),
        ({"y": np.where(Y == 1, np.nan, 0)}, "sample 1 has nan"),
        ({"y": np.array(["on", ""])[Y]}, "sample 1 has no label"),
        ({"y": np.array([0, -1])[Y]}, "holds -1: remove unlabelled samples"),
        ({"y": np.ones((20, 3))}, "a sample has one class"),
        ({"y": Y + 1j}, "not complex128"),
        ({"y": Y[:19]}, r"\[20, 4\] and \[19\]"),
        ({"y": np.arange(20) % 4, "classes": np.array(["a", "b"])}, "y goes up to 3, but there are only 2 class names"),
        (
            {"y": np.array(["on", "off"])[Y], "classes": np.array(["on", "dim"])},
            "y holds off, but the 2 classes are on, dim",
        ),
        ({"y": Y, "classes": 2}, "classes must be a list of names, one a class, not the single value 2"),
        ({"y": Y, "classes": np.array(["a", "a "])}, "names 'a' twice"),
        ({"y": Y, "x": X + 1j}, "x must hold numbers, not complex64"),
        ({"y": Y, "x": X.astype("datetime64[s]")}, "x must hold numbers"),
        ({"y": Y, "x": X.astype(float) * 1e300}, "too large for float32, the first in sample 0"),
        ({"y": Y, "x": np.where(X == 42, np.nan, X)}, r"not finite \(NaN or infinite\), the first in sample 10"),
        ({"y": Y, "x": X[:, 0]}, r"must be \[N, ...\]"),
        ({"y": Y, "x": X[:, :0]}, "samples without values"),
        ({"y": Y[:0], "x": X[:0]}, "has no samples in its train split"),
        ({"y": Y, "x": np.zeros(20, [("t", "f4"), ("p", "f4")])}, r"structured array \(fields t, p\)"),
        ({"y": Y, "x_test": X}, "has x_test but no y_test"),
        ({"y": Y, "x_test": X[:, :2], "y_test": Y}, r"samples of x are \[4\], but those of x_test \[2\]"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(tmp_path: Path, load: Save, given: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(**{"x": X, **given})
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x89HDF\r\n\x1a\n", "is an HDF5 file: save its arrays"), (None, "is a single array: write npy:FILE for it")],
)
def test_files_of_other_kinds_are_told_what_to_write(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "own.npz"
    if content is None:
        with path.open("wb") as file:
            np.save(file, X)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_data(parse_spec(f"npz:{path}"), "train")


def test_measurements_for_labels_are_refused(load: Save) -> None:
    with pytest.raises(DataError, match="y holds 1,500 different values"):
        load(x=np.zeros((1500, 2)), y=20240101 + 7 * np.arange(1500))


# Samples


@pytest.mark.parametrize(
    ("x", "first"),
    [
        (X.astype(">f8"), [0, 1, 2, 3]),
        (np.asfortranarray(X), [0, 1, 2, 3]),
        (X[:, ::-1], [3, 2, 1, 0]),
        (X.astype(np.float16), [0, 1, 2, 3]),
        ((X - 40).astype(np.int8), [-40, -39, -38, -37]),
        (X > 1, [0, 0, 1, 1]),
        (X.astype(np.uint64), [0, 1, 2, 3]),
    ],
)
def test_numbers_of_any_type_reach_the_model_as_they_are(load: Save, x: np.ndarray, first: list[float]) -> None:
    samples, _ = load(x=x, y=Y).batch(slice(0, 1))
    assert samples.tolist() == [first]


def test_arrays_under_their_other_usual_names_are_found(load: Save) -> None:
    assert len(load(X=X, Y=Y)) == 20
    keras = {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3]}
    assert (len(load(**keras)), len(load(split="test", **keras))) == (20, 3)
    with pytest.raises(DataError, match=r"has no arrays x and y for the train split; its arrays are pixels, kinds"):
        load(pixels=X, kinds=Y)


@pytest.mark.parametrize(
    ("x", "y"),
    [("images", "labels"), ("data", "target"), ("features", "targets"), ("inputs", "outputs"), ("arr_0", "arr_1")],
)
def test_names_of_other_libraries_are_known(load: Save, x: str, y: str) -> None:
    assert load(**{x: X, y: Y}).y.tolist() == Y.tolist()


def test_splits_may_stand_first_in_the_names_of_arrays(load: Save) -> None:
    given = {"train_images": X, "train_labels": Y, "val_images": X, "test_images": X[:9], "test_labels": Y[:9, None]}
    assert load("train", **given).y.tolist() == Y.tolist()
    assert load("test", **given).y.tolist() == Y[:9].tolist()


def test_an_archive_that_is_torn_or_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100] + bytes(200) + whole[300:], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read .*a\.npz"):
            load_data(f"npz:{path}")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 4), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", (header % 2**58).ljust(127) + b"\n")
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match=r"cannot read .*a\.npz"):
        load_data(f"npz:{path}")


# Functions


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Dataset]:
    """Loads what an expression of the user's own module returns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the same file is written again within a second

    def loaded(returned: str, split: str = "train") -> Dataset:
        sys.modules.pop("own_field_data", None)
        (tmp_path / "own_field_data.py").write_text(
            "import collections.abc, decimal, sys, types, numpy as np, torch\n"
            "from PIL import Image\n"
            "x, y = np.arange(80, dtype='f4').reshape(20, 4), np.arange(20) % 2\n"
            "class Pairs(torch.utils.data.Dataset):\n"
            "    classes = ['off', 'on']\n"
            "    def __init__(self, split='train'): pass\n"
            "    def __len__(self): return 20\n"
            "    def __getitem__(self, i): return torch.tensor(x[i]), int(y[i])\n"
            "class Frame:\n"
            "    def __init__(self, values): self.values = values\n"
            "    def to_numpy(self): return self.values\n"
            "    columns = ['a']\n"
            "class Column(collections.abc.Sequence):\n"
            "    def __init__(self, values): self.values = values\n"
            "    def __len__(self): return len(self.values)\n"
            "    def __getitem__(self, i): return self.values[i]\n"
            "class Hub(Pairs):\n"
            "    classes, features = None, {'image': 0, 'label': types.SimpleNamespace(names=['off', 'on'])}\n"
            "def fail(error): raise error\n"
            f"def load(split):\n    return {returned}\n"
        )
        return load_data(parse_spec("own_field_data:load").whole(), split)  # type: ignore[arg-type]

    return loaded


@pytest.mark.parametrize(
    "returned",
    [
        "torch.tensor(x, requires_grad=True), torch.tensor(y)",
        "torch.tensor(x).to_sparse(), torch.tensor(y).to(torch.float16)",
        "torch.tensor(x).bfloat16(), torch.tensor(y)",
        "x.tolist(), y.tolist()",
        "[x, y]",
        "list(x), [torch.tensor(int(v)) for v in y]",
        "[torch.tensor(v) for v in x], list(y)",
        "x, np.array(list(y), dtype=object)",
        "x.astype(object), y.astype(float)",
        "Frame(x.astype(float)), Frame(y[:, None])",
        "{'x': x, 'y': y}",
        "{'data': x, 'target': y, 'DESCR': 'flowers'}",
        "{'train': Pairs(), 'test': None}",
        "((x, y), (x[:3], y[:3]))",
        "torch.utils.data.Subset(Pairs(), range(20))",
        "zip(x, y)",
        "((v, int(w)) for v, w in zip(x, y))",
        "[(v, w) for v, w in zip(x, y)]",
        "[{'image': v, 'label': w} for v, w in zip(x, y)]",
        "[print('loading'), (x, y)][1]",
        "np.ma.masked_array(x), y",
    ],
)
def test_what_functions_return_becomes_samples(
    own: Callable[..., Dataset], returned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = own(returned)
    assert np.array_equal(data.stored().numpy(), X)
    assert data.y.tolist() == Y.tolist()
    assert capsys.readouterr().out == ""


def test_a_torch_dataset_is_read_with_its_names(own: Callable[..., Dataset]) -> None:
    data = own("Pairs()")
    assert (data.classes, data.y.tolist()) == (("off", "on"), Y.tolist())
    assert np.array_equal(data.stored().numpy(), X)


def test_names_of_the_classes_of_subsets_and_of_hugging_face_are_taken(own: Callable[..., Dataset]) -> None:
    assert own("torch.utils.data.Subset(Pairs(), range(20))").classes == ("off", "on")
    assert own("Hub()").classes == ("off", "on")


def test_pictures_in_a_column_have_their_channels_first(own: Callable[..., Dataset]) -> None:
    assert own("Column([Image.new('RGB', (5, 4))] * 20), y").input_shape == (3, 4, 5)


def test_names_may_come_by_number_or_the_other_way_round(own: Callable[..., Dataset]) -> None:
    for names in ("{0: 'off', 1: 'on'}", "{'on': 1, 'off': 0}", "np.array(['off', 'on'], object)", "['off', 'on']"):
        assert own(f"x, y, {names}").classes == ("off", "on")


def test_words_are_numbered_alike_for_both_calls(own: Callable[..., Dataset]) -> None:
    returned = "(x[:2], ['b', 'c']) if split == 'train' else (x[:2], ['a', 'c'])"
    assert own(returned).y.tolist() == [1, 2]
    test = own(returned, "test")
    assert (test.classes, test.y.tolist()) == (("a", "b", "c"), [0, 2])


def test_days_are_named_as_they_are_written(own: Callable[..., Dataset]) -> None:
    day = date(2024, 1, 31)
    data = own("x[:2], [__import__('datetime').date(2024, 1, 31)] * 2")
    assert data.classes == (day.isoformat(),)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("None", r"must return \(x, y\) or \(x, y, class names\) for 'train', not nothing \(None\)"),
        ("x", r"not a value of type ndarray"),
        ("(x,)", r"must return \(x, y\)"),
        ("{'a': x}", r"must return \(x, y\)"),
        ("x, y[:19]", "20 samples and 19 labels"),
        ("x, None", r"y is nothing \(None\), not an array"),
        ("x, 3", "y is an int, not an array"),
        ("x, [None] + [0] * 19", "sample 0 has no label"),
        ("x, [object()] * 20", "not object objects"),
        ("[[1.0, 2.0], [3.0]], [0, 1]", r"samples of different shapes, \[1\] and \[2\]"),
        ("[x[0], x[0][:2]], [0, 1]", r"samples of different shapes, \[2\] and \[4\]"),
        ("np.ma.masked_equal(x, 5.0), y", "is masked, with 1 values missing"),
        ("x, y, 'off on'", "must be a list of names"),
        ("x, y, {1: 'on', 2: 'off'}", "numbered from 0 without gaps"),
        ("torch.utils.data.DataLoader(Pairs())", "is a DataLoader: return its .dataset"),
        ("Frame(x)", r"gave a Frame: return \(x, y\), its features and its labels"),
        (
            "[{'input_ids': v, 'attention_mask': v, 'labels': 1} for v in x]",
            "a dict of input_ids, attention_mask, labels",
        ),
        ("[(v, 1, 2) for v in x] * 2", "a tuple of 3 for sample 0"),
        ("(v for v in x)", r"gives a ndarray for sample 0, not \(sample, label\)"),
        ("torch.empty(20, 4, device='meta'), y", "failed: "),
        ("fail(KeyError('sensor'))", r"KeyError: 'sensor' \(own_field_data.py, line 19\)"),
        ("sys.exit('no camera')", r"ended with sys\.exit\('no camera'\)"),
        ("fail(MemoryError())", "takes more memory than there is"),
        ("fail(RecursionError('deep'))", "RecursionError: deep"),
        ("fail(GeneratorExit())", "GeneratorExit"),
        ("fail(ValueError('two' + chr(10) + 'lines'))", "ValueError: two lines"),
        ("np.empty((2**40, 2**10)), y", "(more memory than there is|failed)"),
    ],
)
def test_what_functions_do_wrong_is_one_line(own: Callable[..., Dataset], returned: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        own(returned)
    assert "own_field_data:load" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_generator_is_ended(own: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_ONE_BY_ONE", 100)
    with pytest.raises(DataError, match="gives more than 100 samples one by one"):
        own("((x[0], 0) for _ in iter(int, 1))")


def test_ctrl_c_in_a_function_stays_what_it_is(own: Callable[..., Dataset]) -> None:
    with pytest.raises(KeyboardInterrupt):
        own("fail(KeyboardInterrupt())")


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ("", "own_broken:load", "has no attribute 'load'"),
        ("import nowhere_at_all", "own_broken:load", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def load(:", "own_broken:load", "SyntaxError"),
        ("raise SystemExit(3)", "own_broken:load", r"ended with sys\.exit\(3\) \(own_broken.py, line 1\)"),
        ("", "own_broken.py:load", "name the module, not its file: own_broken:load"),
        ("load = 3", "own_broken:load", "is of type int, not a function"),
        (
            "load = lambda: 0",
            "own_broken:load",
            r"must return .* not a value of type int",
        ),
        ("def load(root, split): pass", "own_broken:load", "must take one argument"),
        ("", "own_elsewhere:load", "No module named 'own_elsewhere' in .*, nor installed, nor on PYTHONPATH"),
    ],
)
def test_modules_that_are_broken_or_elsewhere_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_broken", raising=False)
    (tmp_path / "own_broken.py").write_text(body)
    with pytest.raises(DataError, match=words):
        load_data(name)


def test_fedlp_data_finds_a_module_in_the_current_directory_and_keeps_its_answer_clean(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import numpy as np\nprint('importing')\ndef load(split):\n"
        "    print('loading', split)\n    return np.zeros((20, 2)), np.array(['[red]', 'b'])[np.arange(20) % 2]\n"
    )
    command = [sys.executable, "-P", "-m", "fedlp_edge", "data", "shop:load", "--devices", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[red]" in done.stdout
    assert "ing" not in done.stdout
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: shop:load: cannot import shop: No module named 'shop' in /, nor installed, nor on PYTHONPATH\n"
    )
