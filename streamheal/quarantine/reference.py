"""The envelope's JSON Schema and its page in the docs, made of the structs and their docstrings.

python -m streamheal.quarantine.reference          writes both, from a checkout
python -m streamheal.quarantine.reference schema   prints the schema
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from streamheal.attempts import Attempt
from streamheal.quarantine.envelope import Code, Discard, Envelope, Replay

SCHEMA = Path(__file__).with_name("envelope.schema.json")
PAGE = Path("docs/envelope.md")

_STRUCTS: tuple[type[msgspec.Struct], ...] = (Envelope, Attempt, Code, Replay, Discard)

_INTRODUCTION = """\
# The envelope

<!-- Made by `python -m streamheal.quarantine.reference` from `streamheal/quarantine/envelope.py`. -->

A quarantined record is kept as one JSON object, its envelope: the record itself, every try of it, and on what
evidence it was set aside. In a folder and in S3 an envelope is a file,
`PREFIX/application=A/stream=S/date=YYYY-MM-DD/ID.json` (the day of `quarantined_at`, in UTC), so that Athena and
DuckDB read a quarantine as one partitioned table; in a Kinesis stream it is a record, under the original partition key.

Every field is always there, null where it does not apply. Later versions may add fields; readers should ignore those
they do not know. The JSON Schema ships in the package as `streamheal/quarantine/envelope.schema.json`;
`streamheal quarantine show ID --json` prints an envelope.
"""


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12), with every field required: they are always written."""
    (_, definitions) = msgspec.json.schema_components(_STRUCTS, ref_template="#/$defs/{name}")
    for struct in _STRUCTS:
        definition = definitions[struct.__name__]
        definition["description"] = _opening(struct)
        definition["required"] = list(definition["properties"])
        for field, text in descriptions(struct).items():
            definition["properties"][field]["description"] = text
    top = definitions.pop("Envelope")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamheal envelope",
        **{key: value for key, value in top.items() if key != "title"},
        "$defs": definitions,
    }


def page() -> str:
    """The reference, as Markdown."""
    parts = [_INTRODUCTION]
    made = schema()
    for struct in _STRUCTS:
        definition = made if struct is Envelope else made["$defs"][struct.__name__]
        heading = "Envelope" if struct is Envelope else f"{struct.__name__}"
        parts.append(f"## {heading}\n\n{_opening(struct)}\n\n| Field | Type | |\n|---|---|---|\n{_rows(definition)}")
    return "\n".join(parts)


def _rows(definition: dict[str, Any]) -> str:
    return "".join(
        f"| `{name}` | {_type(field)} | {field['description'].replace('|', chr(92) + '|')} |\n"
        for name, field in definition["properties"].items()
    )


def _type(field: dict[str, Any]) -> str:
    """In words: `string or null`, `list of Attempt`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{json.dumps(one)}`" for one in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "object":
        return f"object of {_type(field['additionalProperties'])}"
    return str(field["type"])


def _opening(struct: type[msgspec.Struct]) -> str:
    """The docstring up to its `Attributes:`."""
    text = inspect.getdoc(struct) or ""
    return " ".join(text.partition("Attributes:")[0].split())


def descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring's `Attributes:` says of each field."""
    text = (inspect.getdoc(struct) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", text, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in found}


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    if arguments == ["schema"]:
        print(schema_text(), end="")
        return 0
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
