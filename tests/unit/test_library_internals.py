"""Parts of libraries that their documentation does not promise, each named once, and the caps that keep them there.

A part that is gone fails here by its name, before whatever uses it fails in its own way.
"""

import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
INTERNALS = {
    "ray": [  # serve_app/loopback.py, serve_app/serve.yaml
        "ray.serve._private.replica:add_port_to_grpc_server",
        "ray.serve._private.constants:RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
    ],
    "uvicorn": [  # serve_app/client_connections.py
        "uvicorn.protocols.http.auto:AutoHTTPProtocol",
        *(
            f"uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.{name}"
            for name in (
                "connection_made", "connection_lost", "data_received", "on_message_begin", "on_headers_complete",
                "on_message_complete", "on_response_complete",
            )
        ),
    ],
    "faster-whisper": [  # cluster/models/whisper.py, log_mel.py; actors/stages/utterances.py, repetition.py
        "faster_whisper.transcribe:get_suppressed_tokens",
        "faster_whisper.transcribe:merge_punctuations",
        "faster_whisper.transcribe:get_compression_ratio",
        "faster_whisper.transcribe:WhisperModel.get_prompt",
        "faster_whisper.transcribe:WhisperModel.find_alignment",
        "faster_whisper.feature_extractor:FeatureExtractor",
        "faster_whisper.tokenizer:Tokenizer",
        "faster_whisper.vad:get_speech_timestamps",
        "faster_whisper.utils:download_model",
    ],
    "ctranslate2": ["ctranslate2:StorageView.from_array", "ctranslate2.models:Whisper.encode"],
    "open-clip-torch": [  # cluster/models/vision.py
        "open_clip.pretrained:download_pretrained_from_hf",
        "open_clip.transform:image_transform_v2",
        "open_clip.transform:PreprocessCfg",
    ],
    "huggingface-hub": ["huggingface_hub.utils:get_session", "huggingface_hub.constants:HF_HUB_OFFLINE"],
    "fastapi": ["fastapi.routing:APIRoute.get_route_handler"],  # serve_app/guards.py
    "starlette": ["starlette.routing:Match.PARTIAL", "starlette.routing:Route.matches"],  # serve_app/error_responses.py
    "pyjwt": ["jwt:PyJWKClient.get_signing_key", "jwt:PyJWT.decode_complete"],  # serve_app/public_keys.py, auth.py
}  # fmt: skip


@pytest.fixture(scope="module")
def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


@pytest.mark.parametrize("library", INTERNALS)
def test_library_with_used_internals_has_cap(library: str, declared: dict[str, Requirement]) -> None:
    specifier = declared[canonicalize_name(library)].specifier
    assert version(library) in specifier
    assert any(each.operator in ("<", "==", "~=") for each in specifier), f"{library} needs an upper bound"


@pytest.mark.parametrize("part", [part for parts in INTERNALS.values() for part in parts])
def test_library_internal_exists(part: str) -> None:
    module, _, path = part.partition(":")
    found: object = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
