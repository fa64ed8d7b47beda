"""This module makes one readable line of the errors of onnxruntime and of the exporters."""

from __future__ import annotations

import re

_RUNTIME_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .+? failed: ?")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NEWER_OPSET = re.compile(r"Opset (\d+) is under development.* support for domain ai\.onnx is till opset (\d+)")
_NEWER_FORMAT = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_FAKE_QUANTISATION = re.compile(r"fake_quant|_obs_fq_")
_QUANTISES = ", which fake quantisation calls; leave that out: int8 files are made of a model in float32"
_REMEDY = "update onnxruntime here, or export for an older one with --opset"
_MAX_REASON = 300


def runtime_reason(error: BaseException) -> str:
    """Returns the first line of the root cause of an error, without terminal colours, codes and paths."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _RUNTIME_PREFIX.sub("", _ESCAPES.sub("", str(error)).strip())
    line = text.partition("\n")[0].strip() or type(error).__name__
    if newer := _NEWER_OPSET.search(line):
        return f"it uses opset {newer[1]}, and this onnxruntime knows opsets up to {newer[2]}: {_REMEDY}"
    if newer := _NEWER_FORMAT.search(line):
        return f"it has IR version {newer[1]}, and this onnxruntime knows versions up to {newer[2]}: {_REMEDY}"
    if "Input initial_c must have shape" in line:
        return "ONNX has no LSTM with projections: leave proj_size out, and put a linear layer behind the LSTM"
    if line == "Protobuf parsing failed.":
        return "it is cut short, damaged or no ONNX file (Protobuf parsing failed)"
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", line):
        fake = _QUANTISES if _FAKE_QUANTISATION.search(operator[1]) else ""
        return f"there is no ONNX operator for {operator[1]}{fake}"
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]} ..."
