"""The issuer's public keys: cached, looked up without a lock, and fetched in the background.

Owns when the key set is fetched and how long a request waits for it. Which key a token may be signed with
is ``auth``'s.
"""

import threading
import time

import jwt

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from serve_app.error_responses import KeysUnavailable

logger = EventLog(__name__)

LIFESPAN_S = 300.0
EARLY_S = 60.0
"""A cached set that expires within this time is fetched again while it is still in use."""
PATIENCE_S = 1.0
"""Longest wait of a token for a key that the cached set lacks, since that fetch began."""
ABANDONED_S = 60.0
"""A fetch that takes longer, from an issuer that sends byte by byte, keeps no other from beginning."""


class _Fetch:
    """One fetch of the key set; it has failed until it is over and brought one.

    ``all_wait``: nothing can be verified before it is over, so every token waits for it.
    """

    def __init__(self, all_wait: bool) -> None:
        self.all_wait = all_wait
        self.failed = True
        self.began_s = time.monotonic()
        self.ended_s: float | None = None
        self.done = threading.Event()

    def is_running(self) -> bool:
        return not self.done.is_set() and time.monotonic() - self.began_s < ABANDONED_S

    def ended_within(self, pause_s: float) -> bool:
        return self.ended_s is not None and time.monotonic() - self.ended_s < pause_s

    def wait(self, patience_s: float) -> None:
        """Wait until it is over, or ``patience_s`` after it began."""
        self.done.wait(max(0.0, self.began_s + patience_s - time.monotonic()))


class PublicKeys(jwt.PyJWKClient):
    """The issuer's public keys, cached for five minutes; safe to share between threads.

    A key of the cached set is found at once, whatever the issuer does. Another ``kid`` has the set fetched again, one
    fetch at a time and at most every ``pause_s``, and waits for that shortly; so are fetches that failed. Tokens with
    made-up key ids therefore cannot turn this server into a flood on the issuer, nor can an issuer that hangs keep
    requests waiting: one token waits at a time, unless there is no set yet that any token could be verified with.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, pause_s: float = 10.0) -> None:
        super().__init__(url, timeout=timeout_s, lifespan=LIFESPAN_S)
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._lock = threading.Lock()  # held for moments, never while the issuer is asked
        self._fetch: _Fetch | None = None
        self._one_waits = threading.Lock()

    def get_signing_key(self, kid: str) -> jwt.PyJWK:
        """The key of that id.

        Raises:
            KeysUnavailable: it may exist, but the issuer does not answer, or not with a key set; or it just did so.
            jwt.PyJWKClientError: the issuer has no such key.
        """
        found = self._cached(kid)
        if found is not None:
            if self._expires_within(EARLY_S):
                self._current_fetch()
            return found
        fetch = self._current_fetch()
        self._wait_for(fetch)
        found = self._cached(kid)
        if found is not None:
            return found
        if fetch.failed:
            raise KeysUnavailable
        raise jwt.PyJWKClientError("the issuer has no such key")

    def _cached(self, kid: str) -> jwt.PyJWK | None:
        """The key, if the cached set has it and has not expired."""
        cached = self.jwk_set_cache.get() if self.jwk_set_cache is not None else None
        keys = [] if cached is None else [key for key in cached.keys if key.public_key_use in ("sig", None)]
        return self.match_kid(keys, kid)

    def _expires_within(self, left_s: float) -> bool:
        """Whether there is no set, or one that expires so soon."""
        stamped = self.jwk_set_cache.jwk_set_with_timestamp if self.jwk_set_cache is not None else None
        return stamped is None or time.monotonic() > stamped.get_timestamp() + LIFESPAN_S - left_s

    def _current_fetch(self) -> _Fetch:
        """The fetch that runs, one that begins now, or during the pause the one that ended last."""
        with self._lock:
            last, lacks_keys = self._fetch, self._expires_within(0.0)
            if last is not None:
                is_pause = last.ended_within(self._pause_s) and (last.failed or not lacks_keys)
                if last.is_running() or is_pause:
                    return last
            fetch = self._fetch = _Fetch(all_wait=lacks_keys and (last is None or not last.failed))
        threading.Thread(target=self._run, args=(fetch,), daemon=True, name="public-keys").start()
        return fetch

    def _run(self, fetch: _Fetch) -> None:
        try:
            self.fetch_data()
            fetch.failed = False
        except Exception as error:  # whatever the issuer sends
            logger.warning(Event.KEYS_FETCH_FAILED, error=type(error).__name__)
        finally:
            fetch.ended_s = time.monotonic()
            fetch.done.set()

    def _wait_for(self, fetch: _Fetch) -> None:
        """Wait for it as long as a token may; raises KeysUnavailable when another token waits already."""
        if fetch.all_wait:
            fetch.wait(self._timeout_s)
        elif not fetch.done.is_set():
            if not self._one_waits.acquire(blocking=False):
                raise KeysUnavailable
            try:
                fetch.wait(PATIENCE_S)
            finally:
                self._one_waits.release()
