"""This module describes the HTTP interface of a served model as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

import msgspec

import fedlp_edge
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.learning.export.inference import Prediction

_REF = "#/components/schemas/{name}"


def openapi_document() -> dict[str, Any]:
    """Returns the document; the schemas of the answers are made from the types that are sent."""
    (answer, report), schemas = msgspec.json.schema_components((Prediction, ServingReport), ref_template=_REF)
    schemas["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    error = {"$ref": _REF.format(name="Error")}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "FedLP Edge model", "version": fedlp_edge.__version__},
        "paths": {
            "/v1/infer": {
                "post": {
                    "summary": "Answers one sample",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "image/*": binary,
                            "application/x-npy": binary,
                            "application/json": {
                                "schema": {"type": ["array", "object"], "description": "Numbers of one sample"}
                            },
                        },
                    },
                    "responses": {
                        "200": _response("The answer", answer),
                        "400": _response("The sample cannot be used", error),
                        "413": _response("The request is too large", error),
                        "500": _response("The model cannot be run", error),
                    },
                }
            },
            "/v1/statistics": {
                "get": {
                    "summary": "What the model has answered since it was loaded",
                    "responses": {"200": _response("Counts, latencies and drift", report)},
                }
            },
            "/health": {
                "get": {
                    "summary": "Whether the service is up, and with which model",
                    "responses": {"200": _response("Metadata of the model", {"type": "object"})},
                }
            },
        },
        "components": {"schemas": schemas},
    }


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
