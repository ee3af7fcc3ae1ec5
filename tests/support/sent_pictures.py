"""Pictures that Schemathesis sends where the OpenAPI document asks for one: on its own it knows no format but JSON."""

import schemathesis
from hypothesis import strategies

from tests.support.api_client import make_picture

for kind in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{kind}", strategies.just(make_picture(kind=kind.upper())))
