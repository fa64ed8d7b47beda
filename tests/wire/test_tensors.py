from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save, save_file

from fedlp_edge.errors import PeerError
from fedlp_edge.wire.tensors import Array, pack, pack_file, unpack, unpack_file

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def named_arrays(draw: st.DrawFn, types: Sequence[type[np.generic]] = (np.float32,)) -> dict[str, Array]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), max_size=5, unique=True))
    names = [name for name in names if name != "__metadata__" and name.isprintable()]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {name: np.asarray(20 * rng.random(draw(shapes)), draw(st.sampled_from(types))) for name in names}


@given(named_arrays())
def test_unpack_inverts_pack_and_agrees_with_the_library(tensors: dict[str, Array]) -> None:
    blob = pack(tensors)
    ours, theirs = unpack(blob), load(blob)

    assert ours.keys() == theirs.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert ours[name].shape == tensor.shape
        assert ours[name].tobytes() == theirs[name].tobytes() == tensor.tobytes()


@given(named_arrays())
def test_pack_makes_the_bytes_that_the_library_makes(tensors: dict[str, Array]) -> None:
    assert pack(tensors) == save(tensors)


@given(named_arrays(types=(np.float32, np.float16, np.int8, np.uint8)))
def test_pack_makes_the_bytes_that_the_library_makes_of_mixed_types(tensors: dict[str, npt.NDArray[Any]]) -> None:
    assert pack(tensors) == save(tensors)


@given(named_arrays(), st.randoms())
def test_pack_makes_the_same_bytes_whatever_the_order(tensors: dict[str, Array], random: object) -> None:
    names = list(tensors)
    random.shuffle(names)  # type: ignore[attr-defined]

    assert pack({name: tensors[name] for name in names}) == pack(tensors)


def test_pack_writes_literal_bytes() -> None:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '

    assert pack({"w": np.array([1.0, -2.0], dtype=np.float32)}) == (
        len(header).to_bytes(8, "little") + header + b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
    )


def test_pack_takes_views_that_are_not_contiguous_or_have_no_dimension() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    found = unpack(pack({"t": turned, "s": np.float32(3.0).reshape(())}))

    assert found["t"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert found["s"].shape == ()
    assert found["s"] == 3.0


def test_pack_refuses_other_types() -> None:
    with pytest.raises(ValueError, match="w is float64"):
        pack({"w": np.zeros(1)})


def test_unpack_returns_read_only_views_without_a_copy() -> None:
    blob = bytearray(pack({"w": np.array([1.0, 2.0], dtype=np.float32)}))
    array = unpack(blob)["w"]

    assert np.shares_memory(array, np.frombuffer(blob, dtype=np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5.0


def test_unpack_refuses_other_types() -> None:
    with pytest.raises(PeerError, match="tensor w is F64, not F32"):
        unpack(save({"w": np.zeros(1)}))


def test_pack_file_replaces_in_one_step_and_unpack_file_maps(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    pack_file({"w": np.array([1.0], dtype=np.float32)}, path)
    before = unpack_file(path)
    pack_file({"w": np.array([2.0], dtype=np.float32)}, path)

    assert before["w"].tolist() == [1.0]
    assert unpack_file(path)["w"].tolist() == [2.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_unpack_file_reads_chosen_names_among_other_types(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"w": np.ones(2, dtype=np.float32), "steps": np.array(7)}, path, metadata={"format": "pt"})

    assert list(unpack_file(path, names=["w"])) == ["w"]
    with pytest.raises(PeerError, match=r"state\.safetensors lacks b"):
        unpack_file(path, names=["w", "b"])
    with pytest.raises(PeerError, match="steps is I64"):
        unpack_file(path)


def test_unpack_file_refuses_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()

    with pytest.raises(PeerError, match="cut short"):
        unpack_file(path)
