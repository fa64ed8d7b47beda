"""The tables of docs/architecture.md are held against the code, and what it uses of the system."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOTS = ("fedlp_edge", "coordinator", "device_agent")


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of each row of the first table below a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def part_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return first if first != "fedlp_edge" else rest.partition(".")[0]


def imports_of(package: str) -> set[str]:
    """The other parts that a package (or a module) imports from, its own functions' imports included."""
    place = ROOT / package
    found: set[str] = set()
    for path in [place] if place.is_file() else place.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOTS:
                names = [f"{node.module}.{alias.name}" for alias in node.names if node.module == "fedlp_edge"]
                found.update(map(part_of, names or [node.module]))
    own = package.removesuffix(".py").rpartition("/")[2]
    return found - {own, "__version__"}


PACKAGES = {
    cells[0].strip("`"): set(re.findall(r"`([\w.]+)`", cells[2])) for cells in rows("The house") if len(cells) == 3
}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_what_the_table_says(package: str) -> None:
    assert imports_of(package) == PACKAGES[package]


def test_table_names_every_package() -> None:
    inner = {f"fedlp_edge/{path.name}" for path in (ROOT / "fedlp_edge").iterdir() if (path / "__init__.py").exists()}
    assert set(PACKAGES) == inner | {"coordinator", "device_agent", "fedlp_edge/errors.py"}


@pytest.mark.parametrize("package", ["core", "learning"])
def test_layers_are_those_of_the_import_contract(package: str) -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [c for c in linter["contracts"] if c.get("containers") == [f"fedlp_edge.{package}"]]
    table = PAGE.split(f"| layers of `fedlp_edge/{package}`, from the top |\n|---|\n", 1)[1].split("\n\n", 1)[0]
    shown = [re.findall(r"`(\w+)`", line) for line in table.splitlines()]
    assert shown == [layer.split(" | ") for layer in contract["layers"]]


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:fedlp_edge|coordinator|device_agent|tests|benchmarks)/[\w./]+\.py)`", PAGE)
    named += [
        f"fedlp_edge/{path}"
        for path in re.findall(r"`((?:core|learning|wire|transport|simulation)/[\w./]+\.py)`", PAGE)
    ]
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_function_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:coordinator|device_agent)/[\w/]+\.py)`\s*\((`\w+`[^)]*)\)", PAGE)
    functions = [(file, name) for file, names in named for name in re.findall(r"`(\w+)`", names)]
    assert len(functions) >= 8
    assert [pair for pair in functions if f"def {pair[1]}(" not in (ROOT / pair[0]).read_text(encoding="utf-8")] == []


def test_picture_names_every_package() -> None:
    picture = (ROOT / "docs" / "images" / "house.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">((?:fedlp_edge/\w+)|coordinator|device_agent)</text>", picture))
    assert drawn == {package.removesuffix(".py") for package in PACKAGES}


ENTRY = "an entry point of a few lines, which tests start as a process"
TYPES = "types, used by all tests of reporting"
WORKER = "changes for good how its process allocates; tests/probe/test_calibrations.py has a worker process run it"

UNTESTED: dict[str, str] = {
    "coordinator/main.py": ENTRY,
    "fedlp_edge/cli/entry.py": ENTRY,
    "fedlp_edge/learning/profiling/calibrate.py": WORKER,
    "fedlp_edge/reporting/events.py": TYPES,
    "fedlp_edge/worker/main.py": ENTRY,
}
"""Modules that have behaviour and no test file of their name, each with the reason; a new one is not added."""


def has_behaviour(path: Path) -> bool:
    """Whether a module defines a function, or a class with methods that is no Protocol."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return True
            case ast.ClassDef(bases=bases) if not any("Protocol" in ast.unparse(base) for base in bases):
                if any(isinstance(inner, ast.FunctionDef) for inner in node.body):
                    return True
    return False


def own_test(path: Path) -> Path:
    """The test file of a module's name: ``fedlp_edge/wire/chunks.py`` has ``tests/wire/test_chunks.py``."""
    folders = path.parent.parts[1:] if path.parts[0] == "fedlp_edge" else path.parent.parts
    return Path("tests", *folders, f"test_{path.stem.lstrip('_')}.py")


def test_every_module_with_behaviour_has_a_test_file_of_its_name() -> None:
    modules = [path.relative_to(ROOT) for name in ROOTS for path in sorted((ROOT / name).rglob("*.py"))]
    untested = {
        str(path)
        for path in modules
        if path.stem not in ("__init__", "__main__")
        and has_behaviour(ROOT / path)
        and not (ROOT / own_test(path)).is_file()
    }
    assert untested - UNTESTED.keys() == set(), "write the test file of each"
    assert UNTESTED.keys() - untested == set(), "take these out of UNTESTED: they have their test file"


SOURCES = [path for root in ("fedlp_edge", "coordinator", "device_agent") for path in (ROOT / root).rglob("*.py")]
MODULES = frozenset({"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"})
NAMES = {
    "os": "O_CLOEXEC O_DIRECT O_DIRECTORY O_NOFOLLOW SCHED_IDLE chown copy_file_range fchmod fchown fork forkpty "
    "geteuid getloadavg getpgid getuid killpg lchown mkfifo nice pipe2 posix_fadvise posix_fallocate pread preadv "
    "pwrite pwritev sched_getaffinity sched_setaffinity sendfile set_blocking setsid statvfs sync sysconf umask uname "
    "wait waitpid",
    "signal": "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 pidfd_send_signal "
    "pthread_sigmask setitimer sigwait",
    "socket": "AF_UNIX SO_REUSEPORT TCP_QUICKACK recv_fds send_fds",
    "select": "epoll kqueue poll",
    "time": "CLOCK_BOOTTIME clock_settime",
    "ctypes": "CDLL",
    "tempfile": "NamedTemporaryFile",
}
"""Names of modules that Windows, or Windows and macOS, lack; ``CDLL``, which takes no None on Windows; and a
file that nobody else can open there."""

KNOWING = {
    "fedlp_edge/simulation/engines/channel.py": {"socket.send_fds"},  # for descriptors, which Windows does not pass
    "fedlp_edge/simulation/engines/local_worker.py": {"os.fork", "os.waitpid", "select.poll"},  # Linux alone runs it
    "fedlp_edge/simulation/engines/worker_starters.py": {"signal.SIGKILL"},  # in what Linux alone runs
    "fedlp_edge/simulation/shared_memory.py": {"os.posix_fallocate"},  # asks whether it is there
    "fedlp_edge/system/directories.py": {"os.geteuid", "os.statvfs", "pwd"},  # but for Windows
    "fedlp_edge/system/cores.py": {"os.sched_getaffinity"},  # asks, too
    "fedlp_edge/system/locks.py": {"fcntl"},
    "fedlp_edge/system/memory.py": {"os.sysconf"},  # where Linux hides /proc
    "fedlp_edge/system/processor_info.py": {"ctypes.CDLL"},  # after asking for an ARM core of Linux
    "fedlp_edge/transport/brokers/mosquitto.py": {"os.getuid"},  # asks, too
}


def foreign_names(path: Path) -> Iterator[str]:
    lacking = {f"{module}.{name}" for module, names in NAMES.items() for name in names.split()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (name := f"{node.value.id}.{node.attr}") in lacking:
                yield name
        elif isinstance(node, ast.Import):
            yield from MODULES.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from MODULES.intersection({node.module})
            yield from lacking.intersection(f"{node.module}.{alias.name}" for alias in node.names)


def test_only_those_who_know_use_what_a_system_lacks() -> None:
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith("fedlp_edge/system/portable/") and (names := set(foreign_names(path))):
            found[where] = names
    assert found == KNOWING


def test_text_files_name_their_encoding() -> None:
    # That of Windows is another one for every country.
    unnamed = []
    of_linux = ("fedlp_edge/system/cgroups.py", "fedlp_edge/probe/throttling.py")  # read and write files of its kernel
    for path in SOURCES:
        if path.relative_to(ROOT).as_posix() in of_linux:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            named = any(keyword.arg == "encoding" for keyword in node.keywords)
            before = {"read_text": 0, "write_text": 1}.get(node.func.attr, len(node.args))
            if len(node.args) <= before and not named and node.func.attr in ("read_text", "write_text"):
                unnamed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert unnamed == []
