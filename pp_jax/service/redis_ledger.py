"""The ledger in Redis or Valkey, shared by the replicas of many machines; every charge is one atomic script."""

import time
from collections.abc import Callable
from typing import Any

from pp_jax.service.ledger import EVERYBODY, Limits, Refused

_CHARGE = """
local n = tonumber(ARGV[1])
for i = 1, 4 do
  local limit = tonumber(ARGV[i + 1])
  if limit > 0 and tonumber(redis.call('GET', KEYS[i]) or '0') + n > limit then
    return {i, tonumber(redis.call('GET', KEYS[i]) or '0')}
  end
end
for i = 1, 4 do redis.call('INCRBY', KEYS[i], n) end
for i = 3, 4 do redis.call('EXPIRE', KEYS[i], ARGV[6]) end
return {0, 0}
"""
_REFUND = """
for i = 1, 4 do
  local had = tonumber(redis.call('GET', KEYS[i]) or '0')
  if had > 0 then redis.call('DECRBY', KEYS[i], math.min(had, tonumber(ARGV[1]))) end
end
"""
_WHAT = ("the account's budget", "the service's budget", "the account's rate", "the service's rate")


class RedisLedger:
    """A ledger in Redis; durable as far as that server is (`appendfsync`).

    Args:
        url: redis://host:port/number.
        clock: seconds since 1970, for windows; replicas need the same time, give or take.
        client: in place of one for the URL, for tests.

    Raises:
        ValueError: where the server does not answer.
        ImportError: without the package redis.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time, client: Any = None) -> None:
        try:
            import redis
        except ImportError as error:
            raise ImportError("a store in Redis needs: pip install 'pp-jax[redis]'") from error
        self._db = client or redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
        self._clock, self._latest = clock, 0.0
        try:
            self._db.ping()
        except redis.RedisError as error:
            raise ValueError(f"the store {url} does not answer ({error}): start it, or give another --store") from error
        self._charge = self._db.register_script(_CHARGE)
        self._refund = self._db.register_script(_REFUND)

    def charge(self, name: str, images: int, limits: Limits) -> Refused | None:
        """Charge images to an account, all or none; see `Ledger`."""
        now, keys = self._keys(name, limits)
        bounds = (limits.total, limits.everybody, limits.rate, limits.everybody_rate)
        place, had = self._charge(keys=keys, args=[images, *bounds, 2 * limits.window_s])
        if place == 0:
            return None
        limit, per_window = bounds[place - 1], place > 2
        wait = limits.window_s - int(now % limits.window_s) + 1 if per_window and images <= limit else None
        left = max(0, limit - int(had))
        return Refused(f"{images} images asked, but {left} of {_WHAT[place - 1]} of {limit} are left", wait)

    def refund(self, name: str, images: int, limits: Limits) -> None:
        """Give back images of which nothing was answered."""
        self._refund(keys=self._keys(name, limits)[1], args=[images])

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""
        return int(self._db.get(f"pp:spent:{name}") or 0)

    def keep(self, name: str, state: bytes) -> None:
        """Keep what is remembered of an account."""
        self._db.set(f"pp:kept:{name}", state)

    def kept(self, name: str) -> bytes | None:
        """What was kept of an account; None for nothing."""
        found = self._db.get(f"pp:kept:{name}")
        return found if isinstance(found, bytes) else None

    def close(self) -> None:
        """Close the connections."""
        self._db.close()

    def _keys(self, name: str, limits: Limits) -> tuple[float, list[str]]:
        """The time, which never goes back, and the four counters of a charge."""
        self._latest = now = max(self._clock(), self._latest)
        window = int(now // limits.window_s)
        places = (f"pp:spent:{who}" for who in (name, EVERYBODY))
        return now, [*places, *(f"pp:window:{window}:{who}" for who in (name, EVERYBODY))]
