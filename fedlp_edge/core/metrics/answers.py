"""This module names what models answer with, which is what they are judged by."""

from __future__ import annotations

from typing import Literal

AnswerMode = Literal["exit", "mean"]
"""What a model of a depth answers with: the exit of the depth, or the mean of the outputs of all exits up to it."""
WantedAnswer = Literal["auto", "exit"]
"""What exported models shall answer with: what the blueprint says, or the exit of their depth in any case."""
