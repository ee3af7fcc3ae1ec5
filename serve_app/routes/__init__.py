"""The routes, by what they are about. `serve_app.app` has the whole table."""
