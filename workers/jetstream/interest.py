"""Who listens to the push consumers of one worker: looked for now and then, since nobody tells.

A round looks at every consumer only when anybody's interest has changed, and otherwise costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from workers.dataplane import DataPlane
    from workers.jetstream.push import PushTarget

SECONDS = 0.1
"""How often listeners are looked for."""
SOON_SECONDS = 0.002
"""The same for a consumer that is new: many clients create it first and listen then."""
NEW_NS = 1_000_000_000


class PushInterest:
    """The push consumers that are told when somebody begins or ceases to listen."""

    def __init__(
        self,
        plane: DataPlane,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        now_ns: Callable[[], int],
    ) -> None:
        """Begin with none."""
        self._plane = plane
        self._later = later
        self._now_ns = now_ns
        self._targets: dict[PushTarget, None] = {}
        # Until when each is new.
        self._new: dict[PushTarget, int] = {}
        self._epoch = self._new_epoch = 0
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_soon = False

    def add(self, target: PushTarget) -> None:
        """Tell one more, which is new."""
        self._targets[target] = None
        self._new.pop(target, None)
        self._new[target] = self._now_ns() + NEW_NS
        if not self._is_soon:
            self._set_timer()

    def remove(self, target: PushTarget) -> None:
        """Tell it no more."""
        self._targets.pop(target, None)
        self._new.pop(target, None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_soon = bool(self._new)
        if self._targets:
            self._timer = self._later(SOON_SECONDS if self._is_soon else SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        now_ns, epoch = self._now_ns(), self._plane.interest_epoch
        if epoch != self._new_epoch:
            self._new_epoch = epoch
            tell(self._new)
        # They are in the order of their times.
        while self._new and (target := next(iter(self._new))) and self._new[target] <= now_ns:
            del self._new[target]
        if now_ns >= self._due_ns and epoch != self._epoch:
            self._epoch = epoch
            # Half of it: a timer may be early.
            self._due_ns = now_ns + int(SECONDS * 5e8)
            tell(self._targets)
        self._set_timer()


def tell(targets: dict[PushTarget, None] | dict[PushTarget, int]) -> None:
    """Have those begin or stop for which it has changed whether somebody listens."""
    for target in [target for target in targets if target.is_wanted != target.is_active]:
        target.check_interest()
