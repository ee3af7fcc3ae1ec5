"""The file for ``serve deploy`` fits Ray's own schema and names what is really there."""

from importlib import import_module, resources
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import RayActorOptionsSchema, ServeDeploySchema

from cluster.contracts.errors import ConfigurationError
from serve_app.app import api_deployment, build_app


def read() -> ServeDeploySchema:
    text = resources.files("serve_app").joinpath("serve.yaml").read_text(encoding="utf-8")
    return ServeDeploySchema.model_validate(yaml.safe_load(text))


def test_it_deploys_the_application_that_up_deploys() -> None:
    (application,) = read().applications
    module, _, name = application.import_path.partition(":")
    assert getattr(import_module(module), name) is build_app
    (deployment,) = application.deployments
    assert deployment.name == api_deployment.name
    options = deployment.ray_actor_options
    assert isinstance(options, RayActorOptionsSchema)
    assert api_deployment.ray_actor_options is not None
    assert deployment.max_ongoing_requests == api_deployment.max_ongoing_requests
    assert options.num_cpus == api_deployment.ray_actor_options["num_cpus"]


def test_it_listens_on_this_machine_only() -> None:
    assert read().http_options.host == "127.0.0.1"


def test_it_is_refused_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEIMDEX_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="HEIMDEX_DATABASE_URL"):
        build_app({})


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_JWKS_URL"):
        build_app({"database_url": "postgresql://localhost/x", "jwks_url": "file:///keys"})


def test_rules_of_tokens_are_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for path, text in ((new, "n" * 40), (old, "o" * 40)):
        path.write_text(text + "\n")
        path.chmod(0o600)
    monkeypatch.setenv("HEIMDEX_JWT_PREVIOUS_SECRET_FILE", str(old))
    args = {"database_url": "postgresql://localhost/x", "jwt_secret_file": str(new), "clip_model": "bundled"}
    rules = {"jwt_issuer": "https://issuer.example.org", "jwt_max_lifetime_s": 600, "http_docs": False}
    config = build_app({**args, **rules})._bound_deployment.init_args[0]
    assert (config.auth.jwt_secret, config.auth.previous_secret) == ("n" * 40, "o" * 40)
    assert (config.auth.issuer, config.auth.max_lifetime_s) == ("https://issuer.example.org", 600)
    assert config.documented is False
    assert not any(secret in repr(config) for secret in ("n" * 40, "o" * 40))
