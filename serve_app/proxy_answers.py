"""What Serve's proxy puts around every request, also those that it answers itself: an overload, a lost replica.

Serve calls ``middlewares`` in the process of its proxy, before that listens. Its controller, and with it the proxy, is
started with ``proxy_environment``, which ``serve.yaml`` repeats.
"""

from starlette.middleware import Middleware

from cluster.settings import PREFIX, Settings, as_environment, load_settings
from serve_app.answer_headers import AnswerHeaders
from serve_app.client_connections import ConnectionLimits, WithoutServesHeaders, watch_connections

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HERE = "serve_app.proxy_answers:middlewares"
SETTINGS = ("http_connections", "http_header_timeout_s", "http_body_timeout_s", "request_timeout_s")


def proxy_environment(settings: Settings) -> dict[str, str]:
    """The variables that the process of Serve's controller starts with, so that its proxy's has them too."""
    names = {f"{PREFIX}{name.upper()}" for name in SETTINGS}
    return {CALLBACK: HERE, **{name: value for name, value in as_environment(settings).items() if name in names}}


def middlewares() -> list[Middleware]:
    """From the innermost to the outermost; the server that is about to start watches its connections."""
    watch_connections(ConnectionLimits.of(load_settings()))
    return [Middleware(WithoutServesHeaders), Middleware(AnswerHeaders)]
