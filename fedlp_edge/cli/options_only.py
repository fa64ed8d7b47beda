"""This module makes commands that take no arguments say which option a stray one belongs to."""

from __future__ import annotations

import typer
from typer.core import TyperCommand

_OPTIONS = (("mqtt://", "--broker"), ("mqtts://", "--broker"), ("ws://", "--broker"), ("wss://", "--broker"))


class OptionsOnly(TyperCommand):
    """A command all of whose values have options, such as ``fedlp-coordinator --config fleet.toml``.

    The other commands take their file as it is, so ``fedlp-coordinator fleet.toml`` is the likeliest slip, and to hear
    that ``--config`` is missing helps nobody who has just named the file.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parses a command line.

        Raises:
            UsageError: Something stands there without an option before it.
        """
        if not set(args) & set(ctx.help_option_names):
            _, stray, _ = self.make_parser(ctx).parse_args(args=list(args))
            if stray:
                ctx.fail(f"{stray[0]!r} stands there without an option: {self._advice(stray[0])}")
        return super().parse_args(ctx, args)

    def _advice(self, stray: str) -> str:
        named = {name for parameter in self.params for name in parameter.opts}
        likely = [option for start, option in _OPTIONS if stray.startswith(start)]
        likely += ["--config"] if stray.endswith(".toml") else []
        fitting = [option for option in likely if option in named]
        return f"did you mean {fitting[0]} {stray}?" if fitting else "-h lists those that there are"
