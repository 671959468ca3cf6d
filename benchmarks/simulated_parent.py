"""A film's parent in virtual time: it drives the real dispatcher between a simulated server and store.

As `tasks/dispatch.py` does: a question to the server at every tick, a look into the store every 5 s and whenever a
child ended; a server or a store that does not answer costs the rest of the tick.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

from benchmarks.pool_simulation import AwayError, PoolSimulation
from fanreel.dispatch.children import Cancel, DispatchRules, Pool
from fanreel.dispatch.dispatcher import Dispatcher

__all__ = ["SimulatedParent"]

LOOK_SECONDS = 5.0
POOL_LOOK_SECONDS = 10.0
END_SECONDS = 20.0


class SimulatedParent:
    """One film's parent.

    Args:
        simulation: The world around it.
        film: What names the film.
        frame_counts: Of each of its segments.
        speeds: Frames a second that a child of each pool is thought to make, the preferred pool first.
        rules: Bounds of its dispatch.
        missing: Segments that it takes for missing; those that are when it starts if left out.
        tick_seconds: Gives the time to the next tick.
        lag_seconds: From its start to its first tick, and from its last segment to its end: flow, plan, join.

    Attributes:
        dispatcher: The real one; None before its first tick.
        started_at: When its first tick came.
        ended_at: When it ended; None as long as it has not.
        failure: Why its film failed; empty if it did not.
        given_up: The children it told to end, and why.
    """

    def __init__(
        self,
        simulation: PoolSimulation,
        film: str,
        frame_counts: Sequence[int],
        *,
        speeds: Mapping[str, float],
        rules: DispatchRules | None = None,
        missing: Collection[int] | None = None,
        tick_seconds: Callable[[], float] = lambda: 1.0,
        lag_seconds: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.film, self.failure, self.ended_at, self.started_at = film, "", None, 0.0
        self.dispatcher: Dispatcher | None = None
        self.given_up: dict[str, str] = {}
        self._simulation, self._frame_counts, self._speeds = simulation, frame_counts, speeds
        self._rules, self._missing, self._tick_seconds = rules or DispatchRules(), missing, tick_seconds
        self._lags = lag_seconds
        self._pools: list[Pool] = []
        self._pools_at = self._looked_at = float("-inf")
        self._is_killed = False
        simulation.frame_counts[film] = frame_counts
        simulation.at(simulation.now + lag_seconds[0], self._begin)

    def kill(self) -> None:
        """Have its process die; its children go on."""
        self._is_killed = True
        self.ended_at = self._simulation.now

    def _begin(self) -> None:
        there = self._simulation.store[self.film]
        missing = set(range(len(self._frame_counts))) - there if self._missing is None else set(self._missing)
        self.dispatcher = Dispatcher(self._frame_counts, missing, rules=self._rules)
        self.started_at = self._simulation.now
        self._tick()

    def _tick(self) -> None:
        if self._is_killed or self.dispatcher is None:
            return
        if self.dispatcher.is_done:
            self._simulation.at(self._simulation.now + self._lags[1], self._finish)
            return
        with contextlib.suppress(AwayError):
            self._ask(self._simulation.now, self.dispatcher)
        if self.dispatcher.failure:
            self.failure = str(self.dispatcher.failure)
            for child in self.dispatcher.living:
                self._simulation.cancel(self.film, child.key)
            self._finish()
            return
        self._simulation.at(self._simulation.now + self._tick_seconds(), self._tick)

    def _ask(self, now: float, dispatcher: Dispatcher) -> None:
        simulation = self._simulation
        looked_for = dispatcher.observe(now, simulation.list(self.film))
        if looked_for and (now - self._looked_at >= LOOK_SECONDS or dispatcher.has_ended):
            self._looked_at = now
            found = dispatcher.find_made(looked_for, lambda indices: simulation.look(self.film, indices))
            dispatcher.note_present(now, found)
        if now - self._pools_at > POOL_LOOK_SECONDS:
            self._pools, self._pools_at = simulation.pools(self._speeds), now
        for action in dispatcher.decide(now, self._pools):
            if isinstance(action, Cancel):
                self.given_up[action.child.key] = action.reason
                simulation.cancel(self.film, action.child.key)
            else:
                dispatcher.note_started(now, simulation.start(self.film, action))

    def _finish(self) -> None:
        self.ended_at = self._simulation.now
