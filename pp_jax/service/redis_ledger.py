"""The ledger in Redis or Valkey, shared by the replicas of many machines; every charge is one atomic script."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pp_jax.service.ledger import EVERYBODY, Charged, Limits, Refused, StoreError, refusal

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
        self._error, self._url = redis.RedisError, url
        self._clock, self._latest = clock, 0.0
        try:
            self._db = client or redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
            self._db.ping()
        except (redis.RedisError, ValueError) as error:
            raise ValueError(f"the store {url} does not answer ({error}): start it, or give another --store") from error
        self._charge = self._db.register_script(_CHARGE)
        self._refund = self._db.register_script(_REFUND)

    def agree(self, fingerprint: str) -> None:
        """Make sure that all replicas have the same secret key, without telling it.

        Args:
            fingerprint: of the key.

        Raises:
            ValueError: where the replicas that came before have another one.
        """
        with self._safely():
            self._db.set("pp:secret", fingerprint, nx=True)
            known = self._db.get("pp:secret")
        if known not in (fingerprint, fingerprint.encode()):
            raise ValueError(
                f"the replicas that share {self._url} have another secret key: copy the file `secret` of their folder, "
                "or the same image gets another response from each"
            )

    def charge(self, name: str, images: int, limits: Limits) -> Charged | Refused:
        """Charge images to an account, all or none; see `Ledger`."""
        self._latest = now = max(self._clock(), self._latest)
        charged = Charged(name, images, int(now // limits.window_s))
        bounds = (limits.total, limits.everybody, limits.rate, limits.everybody_rate)
        with self._safely():
            place, had = self._charge(keys=_keys(charged), args=[images, *bounds, 2 * limits.window_s])
        if place == 0:
            return charged
        left_s = int((charged.window + 1) * limits.window_s - now) + 1
        return refusal(place - 1, images, int(had), bounds[place - 1], left_s)

    def refund(self, charged: Charged) -> None:
        """Give back images of which nothing was answered."""
        with self._safely():
            self._refund(keys=_keys(charged), args=[charged.images])

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""
        with self._safely():
            return int(self._db.get(f"pp:spent:{name}") or 0)

    def keep(self, states: Mapping[str, bytes]) -> None:
        """Keep what is remembered of accounts."""
        with self._safely():
            self._db.mset({f"pp:kept:{name}": state for name, state in states.items()})

    def kept(self, name: str) -> bytes | None:
        """What was kept of an account; None for nothing."""
        with self._safely():
            found = self._db.get(f"pp:kept:{name}")
        return found if isinstance(found, bytes) else None

    def close(self) -> None:
        """Close the connections."""
        self._db.close()

    @contextlib.contextmanager
    def _safely(self) -> Iterator[None]:
        """What Redis cannot do as a `StoreError`."""
        try:
            yield
        except self._error as error:
            raise StoreError(f"the store {self._url} failed: {error}") from error


def _keys(charged: Charged) -> list[str]:
    """The four counters of a charge, in the order of `refusal`'s places."""
    who = (charged.name, EVERYBODY)
    return [*(f"pp:spent:{name}" for name in who), *(f"pp:window:{charged.window}:{name}" for name in who)]
