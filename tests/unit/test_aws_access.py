"""docs/aws-access.yaml, deployed to a simulated AWS account, and what Ray's launcher makes of cluster.yaml with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cfnlint.api import lint_file  # type: ignore[import-untyped]
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config

ROOT = Path(__file__).parents[2]
STACK = ROOT / "docs" / "aws-access.yaml"
LAUNCHER_FILE = ROOT / "cluster.yaml"
REGION = "us-east-1"
OPERATOR = "203.0.113.7/32"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty account, with a home directory for the key that Ray makes."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield


def _deploy(operator: str = OPERATOR) -> None:
    vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    parameters = {"Vpc": vpc, "OperatorCidr": operator, "ScenesBucket": "pictures", "UploadsBucket": "uploads"}
    boto3.client("cloudformation").create_stack(
        StackName="heimdex-access",
        TemplateBody=STACK.read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )


def test_stack_has_no_finding_of_cfn_lint() -> None:
    assert lint_file(STACK) == []


def test_launcher_with_the_stack_keeps_its_limits(account: None) -> None:
    _deploy()
    started = bootstrap_aws(prepare_config(yaml.safe_load(LAUNCHER_FILE.read_text())))
    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    assert _open_to_the_world(ec2) == []
    stack_roles = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    assert not any("ray-autoscaler" in role for role in stack_roles)
    (group,) = {
        group for kind in started["available_node_types"].values() for group in kind["node_config"]["SecurityGroupIds"]
    }
    assert group.startswith("sg-")
    profiles = {}
    for name, kind in started["available_node_types"].items():
        config = kind["node_config"]
        assert config["MetadataOptions"] == {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        }
        assert all(disk["Ebs"]["Encrypted"] for disk in config["BlockDeviceMappings"])
        profiles[name] = config["IamInstanceProfile"]["Arn"]
    assert profiles["media"] == profiles["gpu"] != profiles["head"]


def test_launcher_without_the_stack_makes_nothing(account: None) -> None:
    with pytest.raises(Exception, match="heimdex-"):
        bootstrap_aws(prepare_config(yaml.safe_load(LAUNCHER_FILE.read_text())))
    assert _open_to_the_world(boto3.client("ec2")) == []
    assert boto3.client("iam").list_roles()["Roles"] == []


def test_ray_defaults_open_ssh_and_full_access(account: None) -> None:
    """Ray's own defaults, which the checks above must be able to notice."""
    config = yaml.safe_load(LAUNCHER_FILE.read_text())
    for kind in config["available_node_types"].values():
        del kind["node_config"]["LaunchTemplate"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        bootstrap_aws(prepare_config(config))
    assert _open_to_the_world(boto3.client("ec2")) == [22]
    assert any("ray-autoscaler" in role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"])


def test_roles_name_what_they_may_touch() -> None:
    """No role may do everything to something, and only what is read may be on every resource."""
    statements = [
        statement
        for resource in _resources().values()
        for document in _policies(resource)
        for statement in document["Statement"]
    ]
    assert len(statements) >= 8
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions), statement
        if statement["Resource"] == "*":
            assert all(":Describe" in action for action in actions), statement


def test_ports_between_nodes_are_those_of_the_launcher() -> None:
    opened = {
        (rule["FromPort"], rule["ToPort"])
        for resource in _resources().values()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
        for rule in [resource["Properties"]]
    }
    assert opened == {(22, 22), (6379, 6385), (10002, 11999)}
    config = yaml.safe_load(LAUNCHER_FILE.read_text())
    for section in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in config[section] if "ray start" in command]
        fixed = dict(part.removeprefix("--").split("=") for part in start.split() if "-port=" in part)
        workers = range(int(fixed.pop("min-worker-port")), int(fixed.pop("max-worker-port")) + 1)
        assert (workers.start, workers.stop - 1) == (10002, 11999)
        assert sorted(map(int, fixed.values())) == list(range(6379 if "--head" in start else 6380, 6386))


def _open_to_the_world(ec2: Any) -> list[int]:
    return [
        rule.get("FromPort", 0)
        for group in ec2.describe_security_groups()["SecurityGroups"]
        for rule in group["IpPermissions"]
        if any(place["CidrIp"].endswith("/0") for place in rule.get("IpRanges", []))
    ]


class _Tags(yaml.SafeLoader):
    """CloudFormation's own tags, kept as text."""


_Tags.add_multi_constructor("!", lambda _, tag, node: f"{tag} {json.dumps(str(node.value))}")


def _resources() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(STACK.read_text(), _Tags)["Resources"]
    return loaded


def _policies(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    properties = resource["Properties"]
    if resource["Type"] == "AWS::IAM::ManagedPolicy":
        yield properties["PolicyDocument"]
    for policy in properties.get("Policies", []):
        yield policy["PolicyDocument"]
