"""The description of the HTTP interface."""

from __future__ import annotations

import json
import re

from fedlp_edge.serving.openapi import openapi_document


def test_every_reference_leads_to_a_schema() -> None:
    document = openapi_document()
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert {"Prediction", "ServingReport", "Error"} <= named
    assert named <= document["components"]["schemas"].keys()
