"""How to install what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedlp_edge.system.loading.install_command import install_command


def test_a_missing_package_goes_into_the_environment_of_this_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "fedlp-edge"
    (prefix / "bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
    wanted = '"fedlp-edge[vision]"'
    assert install_command("vision") == f"pip install {wanted}"
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.13.9\n")
    assert install_command("vision") == f"uv pip install --python {prefix} {wanted}"
    (prefix / "bin" / "pip").touch(0o755)
    assert install_command("vision") == f"{prefix}/bin/pip install {wanted}"
    monkeypatch.setenv("PATH", f"{prefix}/bin")
    assert install_command("vision") == f"pip install {wanted}"
    (prefix / "pipx_metadata.json").touch()
    assert install_command("vision") == f"pipx runpip fedlp-edge install {wanted}"
