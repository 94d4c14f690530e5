"""Prompts on a cluster: Ray's actors make, wherever Ray has room for them.

Actors of our own, not ``map_batches`` of Ray Data. A dataset is read by tasks on the cluster, so
what is in the store here could not be left out before it is sent; a prompt that kills its actor is
tried again with all of its block until the whole run fails, with no word of which prompt it was;
and a dataset for each stretch of the input would load the model anew for each.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from pcompiler.errors import ConfigError, UserError
from pcompiler.scale.base import Entry
from pcompiler.scale.crew import Arrival, Crew
from pcompiler.scale.keeper import Keeper, Station

OBJECT_STORE_BYTES = 2**30  # of a cluster of our own; what is on its way is far smaller
CONNECT_S = 5.0
POLL_S = 0.005  # asking Ray what has come costs a fifth of a millisecond

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # asks another host
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or a local GPU is hidden

try:
    import ray
except ImportError as e:
    raise UserError(
        f"the engine ray needs Ray ({e}): pip install 'pcompiler[scale]', or --engine local."
    ) from None


class Ray(Crew):
    """An engine of Ray's actors.

    Args:
        keeper: of the store, which stays on this machine.
        processes: actors.
        address: of a cluster that runs, with the same pcompiler on all of its machines; none: one
            is started here, unless this process is connected already.
        threads: CPUs that each actor takes.
        gpus: GPUs, or the share of one, that each actor takes.

    Raises:
        ConfigError: more actors than the cluster has CPUs or GPUs for.
        UserError: no such cluster, or what actors cannot load.
    """

    def __init__(
        self,
        keeper: Keeper,
        processes: int = 1,
        address: str | None = None,
        threads: int = 1,
        gpus: float = 0.0,
    ) -> None:
        super().__init__(keeper, processes)
        self._needs = {"num_cpus": threads, "num_gpus": gpus}
        self._actors: list[Any] = [None] * processes
        self._calls: dict[Any, tuple[int, str]] = {}  # by reference, oldest first
        self._polled = 0.0
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(address, processes * threads)
        try:
            _check_room(processes, {"CPU": threads, "GPU": gpus})
        except ConfigError:
            self.close()
            raise
        self._begin()

    def close(self) -> None:
        """End the actors, and the cluster if it was started here; the store stays open."""
        for place, actor in enumerate(self._actors):
            if actor is not None:
                ray.kill(actor)
                self._actors[place] = None
        self._calls.clear()
        if self._connected:
            ray.shutdown()
            self._connected = False

    def _start(self, place: int) -> None:
        if self._actors[place] is not None:  # it may be only out of reach
            ray.kill(self._actors[place])
        # No tries of Ray's own: they would not tell which prompt it was.
        actor = ray.remote(Station).options(max_restarts=0, max_task_retries=0, **self._needs)
        self._actors[place] = actor.remote(self._keeper.recipe)
        self._calls[self._actors[place].load.remote()] = place, ""

    def _send(self, place: int, key: str, entry: Entry) -> None:
        call = self._actors[place].make.remote(entry.source, entry.queries)
        self._calls[call] = place, key

    def _arrivals(self, timeout_s: float | None) -> Iterator[Arrival]:
        if timeout_s == 0 and time.perf_counter() - self._polled < POLL_S:
            return
        came, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        self._polled = time.perf_counter()
        for call in came:
            arrival = self._received(call)
            if arrival.answer is None:
                yield from self._rest(arrival.place)
            else:
                del self._calls[call]
                yield arrival

    def _rest(self, place: int) -> Iterator[Arrival]:
        """Of an actor that ended: what it had answered, and then that."""
        calls = [call for call, (of, _) in self._calls.items() if of == place]
        arrivals = [self._received(call) for call in calls]
        for call in calls:
            del self._calls[call]
        yield from (arrival for arrival in arrivals if arrival.answer is not None)
        yield next(arrival for arrival in arrivals if arrival.answer is None)

    def _received(self, call: Any) -> Arrival:  # noqa: ANN401 - Ray's references
        place, key = self._calls[call]
        try:
            return Arrival(place, key, ray.get(call))
        except ray.exceptions.RayError as e:
            return Arrival(place, key, None, str(e).strip().splitlines()[0])


def _connect(address: str | None, cpus: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            check_address(address)
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",  # without it, whatever runs on this machine would be joined
                num_cpus=cpus + 1,  # one more than actors take: Ray has tasks of its own
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    except (ConnectionError, ValueError, RuntimeError, SystemExit) as e:  # it exits by itself
        raise _unreachable(address or "that is started here", e) from None


def check_address(address: str) -> None:
    """Refuse at once what nobody listens at: Ray would try for minutes, and then exit.

    Other forms than HOST:PORT, as ``auto``, are for Ray to look into. Raises UserError.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as e:
        raise _unreachable(address, e) from None


def _unreachable(address: str, why: BaseException) -> UserError:
    return UserError(
        f"cannot reach the Ray cluster {address}: {why}. "
        "Give --address HOST:PORT of one that runs, as 'ray start --head' tells it."
    )


def _check_room(actors: int, each: dict[str, float]) -> None:
    """Refuse what would wait for ever."""
    there = ray.cluster_resources()
    for name, needed in each.items():
        if actors * needed > there.get(name, 0.0):
            raise ConfigError(
                f"{actors} actors of {needed:g} {name} each are more than the cluster's "
                f"{there.get(name, 0.0):g}; give fewer --processes or --threads."
            )
