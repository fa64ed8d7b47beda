"""What the dynamic loader says of a library, and what a person does about it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from fedlp_edge.system.loading import loading_errors
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.loading.loading_errors import loading_failure, loading_remedy


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
            "start with LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libgomp.so.1 in the environment",
        ),
        ("ImportError: libtorch_cpu.so: failed to map segment from shared object", "raise that limit (ulimit -v"),
        (
            "OSError: libtorch_cpu.so: failed to map segment from shared object: Operation not permitted",
            "is mounted noexec",
        ),
        (
            "ImportError: libopenblas.so.0: cannot open shared object file: No such file or directory",
            "install the package of the system that has libopenblas.so.0",
        ),
        (
            "ImportError: /lib/libm.so.6: version `GLIBC_2.28' not found (required by libtorch_cpu.so)",
            "built for a newer system",
        ),
        (
            "ImportError: DLL load failed while importing onnxruntime_pybind11_state: a routine failed.",
            "install Microsoft's Visual C++ Redistributable (x64)",
        ),
        ("ImportError: /opt/_C.so: undefined symbol: _ZN2at", "built for another version of a library that it uses"),
        (
            "RuntimeError: NumPy was built with baseline optimizations: (X86_V2) but your machine doesn't support: "
            "(X86_V2).",
            "or install 'numpy<2.4'",
        ),
        ("RuntimeError: operator torchvision::nms does not exist", "install both anew in one command, from one index"),
        ("ImportError: numpy.core.multiarray failed to import", "built for another version of NumPy; update it"),
        ("ValueError: numpy.dtype size changed, may indicate binary incompatibility", "another version of NumPy"),
        ("OMP: Hint This means that multiple copies of the OpenMP runtime have been linked", "conda and of PyPI"),
        ("python: symbol lookup error: libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent", "install both anew"),
        ("Could not load library libcudnn_cnn_infer.so.8. Error: libcuda.so", "env -u LD_LIBRARY_PATH"),
    ],
)
def test_library_that_cannot_be_loaded_is_told_with_what_to_do(said: str, words: str) -> None:
    assert words in loading_remedy(said)


@pytest.mark.parametrize("said", ["", "giving up", "ImportError: cannot import name 'x'", "ValueError: failed to map"])
def test_other_last_words_have_no_remedy(said: str) -> None:
    assert loading_remedy(said) == ""


def test_installed_package_that_cannot_be_loaded_is_named() -> None:
    broken = ImportError("cannot import name '_imaging' from 'PIL'", name="PIL")
    assert loading_failure(broken) == (
        "pillow is installed, but cannot be loaded (ImportError: cannot import name '_imaging' from 'PIL'): "
        "pip install --force-reinstall pillow"
    )
    incomplete = ModuleNotFoundError("No module named 'PIL.absent'", name="PIL.absent")
    assert loading_failure(incomplete).endswith("pip install --force-reinstall pillow")


def test_package_of_a_user_that_is_missing_is_none_of_ours() -> None:
    missing = ModuleNotFoundError("No module named 'absent'", name="absent.part")
    assert loading_failure(missing) == f"absent is not installed for {sys.executable}: install it there"


def test_package_of_ours_that_is_missing_is_installed_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial_of_ours", None)
    module = Path(loading_errors.__file__).with_name("importing.py")
    with pytest.raises(ModuleNotFoundError) as raised:
        exec(compile("import serial_of_ours", module, "exec"))
    told = loading_failure(raised.value)
    assert told == f"serial_of_ours is not installed for {sys.executable}: {install_command('all')}"


def test_part_of_python_that_was_not_built_is_told_as_that() -> None:
    told = loading_failure(ModuleNotFoundError("No module named '_lzma'", name="_lzma"))
    assert told.startswith(f"this Python ({sys.executable}) was built without _lzma, ")


def test_package_is_found_where_the_error_does_not_name_it(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "old_native" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(
        "raise RuntimeError('NumPy was built with baseline optimizations: \\n(X86_V2) but yours:\\n(X86_V2).')"
    )
    with pytest.raises(RuntimeError) as raised:
        runpy.run_path(str(package))
    told = loading_failure(raised.value)
    assert told.startswith("old_native cannot be loaded (RuntimeError: NumPy was built")
    assert told.endswith("install 'numpy<2.4'")


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("of this program"),
        RuntimeError("of this program"),
        ImportError("cannot import name 'x' from 'fedlp_edge.core'", name="fedlp_edge.core"),
    ],
)
def test_defects_of_this_program_are_no_failures_to_load(error: Exception) -> None:
    assert loading_failure(error) == ""
