"""docker/fargate.yaml as CloudFormation would see it, for one set of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cfnlint.decode.cfn_yaml import load

PATH = Path(__file__).parents[2] / "docker" / "fargate.yaml"
_ACCOUNT = "123456789012"
_PSEUDO = {
    "AWS::AccountId": _ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "orders",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()


class Grant(NamedTuple):
    action: str
    resource: str


class Template:
    """Resources with what depends on parameters filled in, and those left out whose condition does not hold.

    Names that AWS would make up (a bucket's, say) are the resource's own in small letters.
    """

    def __init__(self, **parameters: str) -> None:
        self.raw: dict[str, Any] = load(str(PATH))
        given = {"Application": "orders", "Target": "shop:Shop", "Stream": "orders", "Repository": "shop", "Tag": "1"}
        given |= {"Vpc": "vpc-1", "Subnets": "subnet-1"} | parameters
        defaults = {name: one["Default"] for name, one in self.raw["Parameters"].items() if "Default" in one}
        assert given.keys() <= self.raw["Parameters"].keys()
        self._values = _PSEUDO | defaults | given
        self._conditions = {name: self._holds(one) for name, one in self.raw["Conditions"].items()}
        self.resources: dict[str, dict[str, Any]] = {
            name: self.filled({key: value for key, value in one.items() if key != "Condition"})
            for name, one in self.raw["Resources"].items()
            if self._conditions.get(one.get("Condition", ""), True)
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by name."""
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}

    def grants(self, role: str) -> set[Grant]:
        """Every action and resource that a role is allowed."""
        (inline,) = (one["Policies"] for name, one in self.of_type("AWS::IAM::Role").items() if name == role)
        documents = [policy["PolicyDocument"] for policy in inline]
        documents += [
            policy["PolicyDocument"]
            for policy in self.of_type("AWS::IAM::Policy").values()
            if role.lower() in policy["Roles"]
        ]
        return {
            Grant(action, resource)
            for document in documents
            for statement in document["Statement"]
            for action in _list(statement["Action"])
            for resource in _list(statement["Resource"])
        }

    def filled(self, found: Any) -> Any:
        """With references, conditions and texts put together."""
        match found:
            case {"Ref": name}:
                return _NOTHING if name == "AWS::NoValue" else self._ref(name)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda hit: self._ref(hit[1]), text)
            case {"Fn::GetAtt": [name, attribute]}:
                return self._ref(f"{name}.{attribute}")
            case {"Fn::If": [condition, then, otherwise]}:
                return self.filled(then if self._conditions[condition] else otherwise)
            case dict():
                filled = {str(key): self.filled(value) for key, value in found.items()}
                return {key: value for key, value in filled.items() if value is not _NOTHING}
            case list():
                return [value for one in found if (value := self.filled(one)) is not _NOTHING]
        return found

    def _ref(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        resource, _, attribute = name.partition(".")
        kind = self.raw["Resources"][resource]["Type"]
        if attribute == "Arn" and kind == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{resource.lower()}"
        return f"arn:aws:made-up:us-east-1:{_ACCOUNT}:{resource.lower()}" if attribute == "Arn" else resource.lower()

    def _holds(self, condition: Any) -> bool:
        match condition:
            case {"Fn::Equals": [first, second]}:
                return bool(self.filled(first) == self.filled(second))
            case {"Fn::Not": [inner]}:
                return not self._holds(inner)
        raise AssertionError(f"a condition of a new kind: {condition}")


def every_metric(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """(alarm, what it looks at), for each metric of each alarm."""
    for name, alarm in template.of_type("AWS::CloudWatch::Alarm").items():
        if "MetricName" in alarm:
            yield name, alarm
        for one in alarm.get("Metrics", ()):
            if "MetricStat" in one:
                yield name, one["MetricStat"]["Metric"]


def _list(found: Any) -> list[str]:
    return found if isinstance(found, list) else [found]
