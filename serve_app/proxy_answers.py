"""What Serve's proxy puts around every request, also those that it answers itself: an overload, a lost replica.

``heimdex up`` names ``middlewares`` to Ray by ``ENVIRONMENT``, which every process of the node inherits.
"""

from starlette.middleware import Middleware

from serve_app.answer_headers import AnswerHeaders

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.proxy_answers:middlewares"}


def middlewares() -> list[Middleware]:
    """From the innermost to the outermost."""
    return [Middleware(AnswerHeaders)]
