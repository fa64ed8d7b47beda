"""The documentation's commands are checked against the command line: each is parsed as a shell would hand it over."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from coordinator.command import app as coordinator
from coordinator.rollout.rollout_command import app as rollout
from device_agent.command import app as agent
from fedlp_edge.cli.main import app as fedlp
from tests.test_docs import FENCED, PAGES, ROOT

PROGRAMS = {"fedlp": fedlp, "fedlp-agent": agent, "fedlp-coordinator": coordinator}
SERVICES = {"coordinator": coordinator, "deploy": rollout, "agent": agent}
"""What ``fedlp NAME`` hands its arguments to."""
BEFORE = r"(?:\$ |sudo |[^|]* \| |(?:[\d*/]+ +){5})*(?:\S*/)?"
"""What may stand before a command: a prompt, a pipe, the times of cron, its directory."""
NAME = r"fedlp(?:-agent|-coordinator)?"
PAGES_OF_TODAY = [path for path in PAGES if path.name != "CHANGELOG.md"]


def commands_in_blocks(text: str) -> Iterator[str]:
    """Yields the whole commands that a page shows."""
    for block in FENCED.findall(text):
        if re.match(r" *```(\w*)", block)[1] in ("", "bash"):
            for line in re.sub(r" *\\\n *", " ", block).splitlines():
                if found := re.match(rf"{BEFORE}({NAME} .*?)(?:\s#.*)?$", line):
                    yield found[1].strip()


def commands_in_sentences(text: str) -> Iterator[str]:
    """Yields what a page's sentences say of a command, which is often a part of it."""
    for code in re.findall(r"`([^`]+)`", FENCED.sub("", text)):
        if re.match(rf"{NAME}(\s|$)", code):
            yield " ".join(code.partition(" &&")[0].split())


@cache
def command_of(app: typer.Typer) -> Any:
    return typer.main.get_command(app)


def command_and_arguments(line: str) -> tuple[Any, list[str]]:
    """Returns the command that a line names, and its arguments.

    Raises:
        ValueError: There is no such command.
    """
    program, *rest = shlex.split(line)
    command = command_of(PROGRAMS[program])
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if command is command_of(fedlp) and name in SERVICES:
            return command_of(SERVICES[name]), rest
        if name not in command.commands:
            raise ValueError(f"there is no command {name}")
        command = command.commands[name]
    return command, rest


def fault_of(line: str, whole: bool) -> str:
    """Says what the command line would not take of a command; empty if it takes all."""
    try:
        command, arguments = command_and_arguments(line)
        if whole and "..." not in arguments:
            command.make_context(line, list(arguments))
    except Exception as error:
        return f"{line}: {error}"
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    given = {argument.partition("=")[0] for argument in arguments if re.match("--?[a-z]", argument)}
    unknown = given - known - {"-h", "--help"}
    return f"{line}: {unknown}" if unknown else ""


@pytest.mark.parametrize("path", PAGES_OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_documentation_are_taken(path: Path) -> None:
    """Of whole commands types and what is required are checked as well; of others, that their flags exist."""
    text = path.read_text(encoding="utf-8")
    faults = [fault_of(line, True) for line in commands_in_blocks(text)]
    faults += [fault_of(line, False) for line in commands_in_sentences(text)]

    assert [fault for fault in faults if fault] == []


def commands_of(command: Any) -> Iterator[Any]:
    """Yields a command and all below it."""
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands_of(inner)


OPTIONS = {
    option
    for app in (fedlp, *SERVICES.values())
    for command in commands_of(command_of(app))
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}


OF_OTHER_PROGRAMS = {"--env-file", "--pids-limit", "--security-opt"}
"""Options of Docker that the pages name alone."""


def test_options_that_stand_alone_are_those_of_a_command() -> None:
    found = {
        (path.name, option)
        for path in (ROOT / "docs").rglob("*.md")
        for option in re.findall(r"`(--[a-z][\w-]*)", FENCED.sub("", path.read_text(encoding="utf-8")))
    }

    assert len(found) > 60
    assert sorted(pair for pair in found if pair[1] not in OPTIONS | OF_OTHER_PROGRAMS) == []


def test_roll_out_page_has_every_option_of_the_command() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")

    options = {parameter.opts[-1] for parameter in command_of(rollout).params if parameter.opts[-1].startswith("--")}
    assert sorted(option for option in options - {"--verbose"} if option not in page) == []


def test_roll_out_page_has_the_defaults_of_the_command() -> None:
    defaults = {parameter.opts[-1]: parameter.default for parameter in command_of(rollout).params}
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("| `--")]

    assert len(rows) == 9
    for _, option, shown, *_ in rows:
        default = defaults[re.findall(r"--[\w-]+", option)[0]]
        expected = "all" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        assert shown.strip() == expected, option


def test_commands_of_services_and_containers_are_taken() -> None:
    units = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy").glob("*.service"))
    started = re.findall(r"^ExecStart=\S*/(fedlp.*)$", units, re.MULTILINE)
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    started += [
        shlex.join(["fedlp", *map(str, service["command"])])
        for service in compose["services"].values()
        if "command" in service
    ]

    assert len(started) == 5
    assert [fault for line in started if (fault := fault_of(line, True))] == []


def test_commands_are_found_in_blocks_and_sentences() -> None:
    text = (
        "Say `fedlp plan\n  --json` or `fedlp-agent`, not `fedlp_edge`.\n```\n$ find . | fedlp infer a.onnx -  # all\n"
        "0 * * * *  fedlp-agent --once\nuseradd fedlp\nfedlp deploy pause|resume DIR\nsudo /opt/bin/fedlp keys new \\\n"
        "    a.key\n```\n"
    )

    assert list(commands_in_blocks(text)) == [
        "fedlp infer a.onnx -",
        "fedlp-agent --once",
        "fedlp deploy pause|resume DIR",
        "fedlp keys new a.key",
    ]
    assert list(commands_in_sentences(text)) == ["fedlp plan --json", "fedlp-agent"]
    everywhere = [line for path in PAGES_OF_TODAY for line in commands_in_blocks(path.read_text(encoding="utf-8"))]
    assert len(everywhere) > 60


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("fedlp plam", "no command plam"),
        ("fedlp deploy", "Missing parameter"),
        ("fedlp status runs/x --jason", "No such option"),
        ("fedlp demo --rounds many", "valid integer"),
        ("fedlp-agent ... --root-of-trust x", "--root-of-trust"),
        ("fedlp deploy runs/x --canari 5%", "No such option"),
    ],
)
def test_wrong_command_is_told(line: str, fault: str) -> None:
    assert fault in fault_of(line, True)


def test_planning_page_has_the_options_of_its_command() -> None:
    text = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8").partition("## What a machine has")[0]
    rows = "".join(re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE))

    command, _ = command_and_arguments("fedlp plan")
    options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert set(re.findall(r"--[\w-]+", rows)) == options - {"-h", "--help", "--techniques"}
