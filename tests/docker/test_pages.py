"""The commands of docs/fargate.md are ones that the AWS CLI knows, and parameters ones of the template."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from tests.docker.template import Template

PAGE = (Path(__file__).parents[2] / "docs" / "fargate.md").read_text()
_BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
_SAID = "\n".join(_BLOCKS).replace("\\\n", " ").splitlines() + re.findall(r"`(aws [^`]+)`", PAGE)
COMMANDS = [shlex.split(line.partition(" | ")[0]) for line in _SAID if line.count(" ") > 2 and line.startswith("aws ")]

# What is the CLI's own and no operation of a service (AWS CLI command reference).
_OF_THE_CLI = {
    ("cloudformation", "deploy"): {"stack-name", "template-file", "capabilities", "parameter-overrides"},
    ("ecr", "get-login-password"): set[str](),
    ("logs", "tail"): {"follow"},
}
_EVERYWHERE = {"query", "output"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[1:3]))
def test_a_command_and_its_options_are_known(command: list[str]) -> None:
    _, service, name, *rest = command
    options = {word.removeprefix("--") for word in rest if word.startswith("--")}
    if (service, name) in _OF_THE_CLI:
        assert options <= _OF_THE_CLI[service, name]
        return
    model = botocore.session.get_session().get_service_model(service)
    (operation,) = (one for one in model.operation_names if xform_name(one, "-") == name)
    shape = model.operation_model(operation).input_shape
    known = {xform_name(member, "-"): member for member in shape.members}
    assert options - _EVERYWHERE <= known.keys()
    assert set(shape.required_members) <= {known[option] for option in options - _EVERYWHERE}


def deployments() -> list[dict[str, str]]:
    found = []
    for command in COMMANDS:
        if command[1:3] == ["cloudformation", "deploy"]:
            words = command[command.index("--parameter-overrides") + 1 :]
            found.append(dict(word.split("=", 1) for word in words))
    return found


def test_the_first_deployment_gives_every_parameter_that_has_no_default() -> None:
    parameters = Template().raw["Parameters"]
    first, release, back = deployments()
    assert {name for name, one in parameters.items() if "Default" not in one} <= first.keys() <= parameters.keys()
    for name, value in first.items():
        assert re.fullmatch(parameters[name].get("AllowedPattern", ".*"), value), name
    # One word makes a release, and one takes it back.
    assert release.keys() == back.keys() == {"Tag"}
    assert back["Tag"] == first["Tag"] != release["Tag"]


def test_the_table_of_alarms_names_those_that_call_people() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.split("### To look")[1].split("###")[0], flags=re.MULTILINE))
    topic = "arn:aws:sns:us-east-1:123456789012:night"
    alarms = Template(AlarmTopicArn=topic).of_type("AWS::CloudWatch::Alarm")
    assert told == {name for name, alarm in alarms.items() if alarm["AlarmActions"] == [topic]}


def test_the_outputs_that_are_spoken_of_are_there() -> None:
    outputs = Template().raw["Outputs"]
    for name in ("TaskRoleArn", "SecurityGroupId", "QuarantineUrl"):
        assert name in outputs
