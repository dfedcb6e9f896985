"""What CloudWatch takes for a line in its embedded metric format.

The rules are those of "Specification: Embedded metric format" in the CloudWatch user guide; units,
lengths and patterns are those of the CloudWatch API, as botocore has them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session
import jsonschema

_CLOUDWATCH = botocore.session.get_session().get_service_model("cloudwatch")


def _text(shape: str) -> dict[str, Any]:
    rules = _CLOUDWATCH.shape_for(shape).metadata
    made = {"type": "string", "minLength": rules["min"], "maxLength": rules["max"]}
    return made | ({"pattern": f"^{rules['pattern']}$"} if "pattern" in rules else {})


_METRIC = {
    "type": "object",
    "required": ["Name"],
    "additionalProperties": False,
    "properties": {
        "Name": _text("MetricName"),
        "Unit": {"enum": _CLOUDWATCH.shape_for("StandardUnit").enum},
        "StorageResolution": {"enum": [1, 60]},
    },
}
_DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "additionalProperties": False,
    "properties": {
        "Namespace": _text("Namespace"),
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "maxItems": 30, "uniqueItems": True, "items": _text("DimensionName")},
        },
        "Metrics": {"type": "array", "maxItems": 100, "items": _METRIC},
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 0},
                "CloudWatchMetrics": {"type": "array", "items": _DIRECTIVE},
            },
        }
    },
}


_LINE, _VALUE = jsonschema.Draft202012Validator(_SCHEMA), jsonschema.Draft202012Validator(_text("DimensionValue"))


def check_emf(line: str) -> dict[str, Any]:
    """The line's object, if CloudWatch makes metrics of it; and nothing in it is unused."""
    assert len(line.encode()) <= 256 * 1024
    found: dict[str, Any] = json.loads(line)
    _LINE.validate(found)
    used = {"_aws"}
    for directive in found["_aws"]["CloudWatchMetrics"]:
        names = [metric["Name"] for metric in directive["Metrics"]]
        assert len(names) == len(set(names)), "a metric is named twice"
        for name in names:
            value = found[name]
            assert isinstance(value, int | float), f"{name} is {value!r}: expected a number"
            assert not isinstance(value, bool), f"{name} is {value!r}: expected a number"
        for dimension in (one for those in directive["Dimensions"] for one in those):
            _VALUE.validate(found[dimension])
            assert re.fullmatch(r"[ -~]*[!-~][ -~]*", found[dimension]), "CloudWatch takes ASCII, and not blanks alone"
            used.add(dimension)
        used.update(names)
    assert set(found) == used
    return found
