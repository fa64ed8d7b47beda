"""The torch device that is trained on."""

from __future__ import annotations

import warnings

import pytest
import torch

from fedlp_edge.errors import ModelError, WorkerError
from fedlp_edge.learning import torch_device


def test_the_processor_is_used_if_it_is_asked_for() -> None:
    assert torch_device.choose_device("cpu") == (torch.device("cpu"), "")


def test_a_machine_without_cuda_says_so_only_if_cuda_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device.choose_device("auto") == (torch.device("cpu"), "")
    with pytest.raises(WorkerError, match="no CUDA device"):
        torch_device.choose_device("cuda")


def test_a_gpu_whose_driver_pytorch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "(Triggered internally at CUDAFunctions.cpp:109.)"

    def too_old() -> bool:
        warnings.warn("an old habit", DeprecationWarning, stacklevel=1)
        warnings.warn(f"CUDA initialization: The NVIDIA driver is too old. {place}", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    note = "PyTorch cannot use a GPU (The NVIDIA driver is too old.): training on the CPU"
    assert torch_device.choose_device("auto") == (torch.device("cpu"), note)
    with pytest.raises(WorkerError, match=r"can use \(The NVIDIA driver is too old\.\): leave --device out"):
        torch_device.choose_device("cuda")


def test_a_cuda_device_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_device, "cuda_problem", lambda: "no kernel image")
    device, reason = torch_device.choose_device("auto")
    assert device.type == "cpu"
    assert "no kernel image" in reason
    with pytest.raises(WorkerError, match="say --device cpu"):
        torch_device.choose_device("cuda")


@pytest.mark.parametrize(
    ("error", "cuda"),
    [
        (RuntimeError("CUDA error: an illegal access"), True),
        (RuntimeError("HIP error: invalid device function"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_errors_of_the_device_are_told_from_those_of_the_job(error: Exception, cuda: bool) -> None:
    wrapped = ModelError("the model fails")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert torch_device.cuda_failure(one) is (error if cuda else None)


def test_an_error_of_the_job_that_names_cuda_is_not_of_the_device() -> None:
    assert torch_device.cuda_failure(ModelError("a layer has no kernel for CUDA")) is None


def test_an_error_is_its_first_line_or_its_type() -> None:
    assert torch_device.cuda_error_line(RuntimeError("CUDA error\nset CUDA_LAUNCH_BLOCKING")) == "CUDA error"
    assert torch_device.cuda_error_line(MemoryError()) == "MemoryError"
