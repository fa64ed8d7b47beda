from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from coordinator.config import FleetConfig
from device_agent.config import AgentConfig
from fedlp_edge.config.toml import describe, load_toml, parse_toml
from fedlp_edge.core.settings import Count, ModelSettings, SchemeSettings, Share
from fedlp_edge.errors import ConfigError
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.wire.messages import Name


class Rounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: Count = 10
    quorum: Share = 0.5

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ValueError("13 rounds bring bad luck; take 12 or 14")


class Named(msgspec.Struct):
    fleet: Name


class Login(msgspec.Struct):
    password: str


class Protected(msgspec.Struct):
    login: Login


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fleet: str
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)] = 1883
    verbose: bool = False
    rounds: Rounds = Rounds()
    maybe: Rounds | None = None
    scheme: SchemeSettings = SchemeSettings()
    model: ModelSettings = ModelSettings()
    groups: dict[str, Rounds] = {}
    labels: dict[str, str] = {}


class Circle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="shape", tag="circle"):
    radius: Share


class Square(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="shape", tag="square"):
    side: Count


class Drawing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shapes: tuple[Circle | Square, ...] = ()
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        if self.rounds.count == 7 and self.shapes:
            raise ValueError("[rounds] count is 7, which is too much for a drawing")


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, Fleet, "fleet.toml")
    return str(caught.value)


def test_reads_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        'fleet = "demo"\n[rounds]\ncount = 3\n[model]\ninput = [3, 32, 32]\n[scheme]\nlpr = 1\ndepth = "full"\n'
    )

    fleet = load_toml(path, Fleet)

    assert fleet == Fleet(
        fleet="demo",
        rounds=Rounds(count=3),
        model=ModelSettings(input=(3, 32, 32)),
        scheme=SchemeSettings(lpr=1.0, depth="full"),
    )


def test_reads_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(b'\xef\xbb\xbffleet = "demo"\n')

    assert load_toml(path, Fleet).fleet == "demo"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Unknown and missing keys.
        ("[rounds]\ncount = 1\n", 'fleet.toml: the key "fleet" is missing; add it'),
        ('fleet = "a"\nflet = "b"\n', 'fleet.toml:2: unknown key "flet"; did you mean "fleet"?'),
        (
            'fleet = "a"\n[rounds]\n\n# more\ncuont = 1\n',
            'fleet.toml:5: unknown key "cuont" in [rounds]; did you mean "count"?',
        ),
        ('fleet = "a"\n[rounds]\nzzz = 1\n', 'fleet.toml:3: unknown key "zzz" in [rounds]; allowed: count, quorum'),
        ('fleet = "a"\nrounds.zzz = 1\n', 'fleet.toml:2: unknown key "zzz" in [rounds]; allowed: count, quorum'),
        ('fleet = "a"\n[maybe]\ncuont = 1\n', 'fleet.toml:3: unknown key "cuont" in [maybe]; did you mean "count"?'),
        # Keys in a wrong table.
        (
            '[rounds]\ncount = 3\nfleet = "a"\n',
            'fleet.toml:3: unknown key "fleet" in [rounds]; it belongs above the first [table]: what stands below a '
            "heading is part of that table",
        ),
        ('fleet = "a"\nquorum = 1\n', 'fleet.toml:2: unknown key "quorum"; it belongs into [rounds] or [maybe]'),
        ('fleet = "a"\n[rounds]\nlpr = 1\n', 'fleet.toml:3: unknown key "lpr" in [rounds]; it belongs into [scheme]'),
        # Types and values.
        ("fleet = 3\n", "fleet.toml:1: fleet is 3; it must be text in quotes"),
        ('fleet = "a"\nverbose = "yes"\n', 'fleet.toml:2: verbose is "yes"; it must be true or false'),
        (
            'fleet = "a"\nport = 70000\n',
            "fleet.toml:2: port is 70000; it must be a whole number (greater than 0, less than 65536)",
        ),
        (
            'fleet = "a"\n[rounds]\ncount = "ten"\n',
            'fleet.toml:3: rounds.count is "ten"; it must be a whole number (at least 1)',
        ),
        (
            'fleet = "a"\n[rounds]\ncount = 1.0\n',
            "fleet.toml:3: rounds.count is 1.0; it must be a whole number (at least 1)",
        ),
        ('fleet = "a"\nrounds = 3\n', "fleet.toml:2: rounds is 3; it must be a table with the keys count, quorum"),
        (
            'fleet = "a"\n[scheme]\nlpr = 1.5\n',
            'fleet.toml:3: scheme.lpr is 1.5; it must be a number (at least 0, at most 1) or "auto"',
        ),
        (
            'fleet = "a"\n[scheme]\nlpr = "aut"\n',
            'fleet.toml:3: scheme.lpr is "aut"; it must be a number (at least 0, at most 1) or "auto"',
        ),
        (
            'fleet = "a"\n[scheme]\ngranularity = "Layer"\n',
            'fleet.toml:3: scheme.granularity is "Layer"; it must be "layer" or "tensor"',
        ),
        ('fleet = "a"\n[scheme]\nlpr = nan\n', "fleet.toml:3: scheme.lpr is nan; use a finite number"),
        (
            'fleet = "a"\n[model]\nname = "mlp"\ninput = [\n  3,\n  32,\n  0,\n]\nclasses = 3\n',
            "fleet.toml:4: model.input[2] is 0; it must be a whole number (at least 1)",
        ),
        (
            'fleet = """\n[rounds]\ncount = 5\n"""\n[rounds]\ncount = 0\n',
            "fleet.toml:6: rounds.count is 0; it must be a whole number (at least 1)",
        ),
        # A struct's own check, and tables with free keys.
        ('fleet = "a"\n[rounds]\ncount = 13\n', "fleet.toml:2: rounds: 13 rounds bring bad luck; take 12 or 14"),
        ('fleet = "a"\n[groups.x]\ncuont = 1\n', "fleet.toml:2: groups: Object contains unknown field `cuont`"),
        ('fleet = "a"\n[labels]\nx = 1\n', "fleet.toml:2: labels: Expected `str`, got `int`"),
        # Syntax.
        ('fleet = "a"\nport =\n', "fleet.toml:2: not valid TOML: invalid value"),
        (
            'fleet = "a"\nfleet = "b"\n',
            "fleet.toml:2: not valid TOML: cannot overwrite a value (the key stands twice: remove one)",
        ),
        (
            "fleet = \u201ca\u201d\n",
            'fleet.toml:1: not valid TOML: invalid value (write " as quotes)',
        ),
        (
            "fleet\u00a0= 1\n",
            "fleet.toml:1: not valid TOML: expected '=' after a key in a key/value pair "
            "(a no-break space: type an ordinary one)",
        ),
        (
            'fleet = "C:\\Users"\n',
            "fleet.toml:1: not valid TOML: invalid hex value (write a path with /, or in single quotes)",
        ),
        ("port = True\n", "fleet.toml:1: not valid TOML: invalid value (truth values are true and false)"),
        (
            "fleet: a\n",
            "fleet.toml:1: not valid TOML: expected '=' after a key in a key/value pair "
            "(TOML has key = value in lines of their own, unlike YAML and JSON)",
        ),
        ('fleet = "a"\n\nport = """1', "fleet.toml:3: not valid TOML: unterminated string"),
    ],
)
def test_names_line_and_remedy_when_the_file_is_wrong(text: str, message: str) -> None:
    assert refusal(text) == message


def test_refuses_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file or directory$"):
        load_toml(tmp_path / "nowhere.toml", Fleet)


def test_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load_toml(tmp_path, Fleet)


def test_refuses_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(b'fleet = "\xff\xfe"\n')

    with pytest.raises(ConfigError, match=r"fleet\.toml: not UTF-8 text \(byte 9\)"):
        load_toml(path, Fleet)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_refuses_a_file_of_an_editor_that_saves_utf_16(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes('fleet = "shop"\r\n'.encode(encoding))

    with pytest.raises(ConfigError, match=r"fleet\.toml: it was saved as UTF-16; save the file as UTF-8"):
        load_toml(path, Fleet)


@given(st.text(alphabet="fleto rounds=[]{}\"'#.\n123", max_size=60))
def test_ends_in_one_line_whatever_the_text(text: str) -> None:
    message = "fleet.toml:"
    try:
        parse_toml(text, Fleet, "fleet.toml")
    except ConfigError as error:
        message = str(error)

    assert message.startswith("fleet.toml:")
    assert "\n" not in message


@given(blank_lines=st.lists(st.sampled_from(["", "# note", "verbose = true"]), max_size=5, unique=True))
def test_finds_the_line_wherever_it_stands(blank_lines: list[str]) -> None:
    text = "\n".join([*blank_lines, "port = 0", 'fleet = "a"'])

    assert refusal(text).startswith(f"fleet.toml:{len(blank_lines) + 1}: port is 0")


def test_parse_checks_what_was_filled_in():
    filled = parse_toml('fleet = "home"', Fleet, "fleet.toml", lambda document: {**document, "port": 7})
    assert (filled.fleet, filled.port) == ("home", 7)
    with pytest.raises(ConfigError, match="port is 0"):
        parse_toml('fleet = "home"', Fleet, "fleet.toml", lambda document: {**document, "port": 0})


def test_load_fills_in_a_recipe(tmp_path: Path):
    from coordinator.config import load_config

    path = tmp_path / "fleet.toml"
    path.write_text('fleet = "home"\nrecipe = "depthfl"\n[scheme]\nlpr = 0.5\n')
    config = load_config(path)
    assert (config.recipe, config.model.exits, config.training.objective.distillation) == ("depthfl", "all", 1.0)
    assert config.scheme.lpr == 0.5
    path.write_text('fleet = "home"\nrecipe = "depth-fl"\n')
    with pytest.raises(ConfigError, match=r"fleet.toml: unknown recipe 'depth-fl'; did you mean \"depthfl\""):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'shapes = [{ shape = "ring", radius = 1 }]',
            'drawing.toml:1: shapes[0].shape is "ring"; it must be "circle" or "square"',
        ),
        (
            'shapes = [{ shape = "circle", side = 1 }]',
            'drawing.toml:1: unknown key "side" in [shapes[0]]; allowed: radius',
        ),
        (
            '[[shapes]]\nshape = "square"\nside = 2\n[[shapes]]\nshape = "square"\nside = 0',
            "drawing.toml:6: shapes[1].side is 0; it must be a whole number (at least 1)",
        ),
        (
            "shapes = 3",
            "drawing.toml:1: shapes is 3; it must be a list in which each item is a table with the key shape, which "
            "says what else it has",
        ),
    ],
)
def test_names_the_keys_of_the_kind_of_table_that_a_tag_chooses(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, Drawing, "drawing.toml")
    assert str(caught.value) == message


def test_says_the_line_of_the_key_that_a_check_of_several_tables_names() -> None:
    text = 'shapes = [{ shape = "circle", radius = 1 }]\n[rounds]\nquorum = 0.5\ncount = 7'
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, Drawing, "drawing.toml")
    assert str(caught.value) == "drawing.toml:4: [rounds] count is 7, which is too much for a drawing"


def test_a_name_that_is_none_is_told_what_it_may_hold() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml('fleet = "Shop Floor"\n', Named, "fleet.toml")
    assert str(caught.value) == (
        'fleet.toml:1: fleet is "Shop Floor"; it must be 1 to 64 letters, digits, dots, dashes and underscores, '
        "in quotes"
    )


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        ("shop\u00a0", r"shop\xa0", ""),
        ("\u200bshop", r"\u200bshop", ""),
        ("sh\u043ep", "sh\u043ep", " (\u043e is a cyrillic small letter o)"),
        ("shop\u20131", "shop\u20131", " (\u2013 is a en dash)"),
    ],
)
def test_a_name_whose_letters_look_as_if_they_were_others_is_told_what_they_are(
    name: str, shown: str, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml(f'fleet = "{name}"\n', Named, "fleet.toml")
    assert str(caught.value) == (
        f'fleet.toml:1: fleet is "{shown}"; it must be 1 to 64 letters, digits, dots, dashes and underscores, '
        f"in quotes{why}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[login]\npassword = 4711\n", "f:2: login.password is no text; it must be text in quotes"),
        (
            'login = "mqtt://ada:47@11@host"\n',
            'f:1: login is "mqtt://***@host"; it must be a table with the keys password',
        ),
        ('[[login]]\npassword = "4711"\n', "f:1: login is a list of tables; it must be a table with the keys password"),
    ],
)
def test_no_message_shows_a_password(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, Protected, "f")
    assert str(caught.value) == message


def test_a_wrong_key_of_a_table_of_free_keys_is_named_with_what_is_allowed():
    with pytest.raises(ConfigError) as refused:
        parse_toml('fleet = "x"\n[scheme.lpr_of]\nL1 = 1.0\nlayer2 = 0.5\n', Fleet, "fleet.toml")
    assert str(refused.value) == (
        'fleet.toml:4: scheme.lpr_of has the key "layer2"; it must be the id of a layer or a head, such as L1 or H5'
    )


def described(kind: inspect.Type) -> Iterator[str]:
    """Yields the descriptions of all values that a file may set, keys of tables of free keys included."""
    match kind:
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from described(field.type)
        case inspect.DictType(key_type=key, value_type=value):
            yield from (describe(key), *described(value))
        case inspect.VarTupleType(item_type=item):
            yield from described(item)
        case inspect.UnionType(types=types) if any(isinstance(inner, inspect.StructType) for inner in types):
            for inner in types:
                yield from described(inner)
        case _:
            yield describe(kind)


@pytest.mark.parametrize("kind", [FleetConfig, AgentConfig, Experiment])
def test_no_value_is_explained_by_a_regular_expression(kind: type):
    words = list(described(inspect.type_info(kind)))
    assert len(words) > 20
    assert [text for text in words if "matching" in text] == []
