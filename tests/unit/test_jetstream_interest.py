"""When push consumers are asked whether somebody listens, counted; time is the test's own."""

from types import SimpleNamespace

from workers.jetstream.interest import NEW_NS, SECONDS, SOON_SECONDS, PushInterest


class Target:
    """A push consumer that counts how often it is asked, and begins or stops when told to look."""

    def __init__(self):
        self.asked = 0
        self.has_listener = self.is_active = False

    @property
    def is_wanted(self):
        self.asked += 1
        return self.has_listener

    def check_interest(self):
        self.is_active = self.has_listener


class Fixture:
    """A PushInterest with one timer at most."""

    def __init__(self):
        self.now_ns = NEW_NS
        self.plane = SimpleNamespace(interest_epoch=1)
        self.timer = None
        self.interest = PushInterest(self.plane, self.later, lambda: self.now_ns)

    def later(self, seconds, callback):
        assert self.timer is None
        self.timer = (seconds, callback)
        return SimpleNamespace(cancel=self.cancel)

    def cancel(self):
        self.timer = None

    def fire(self):
        """Let the time of the timer come; return how long it was set to."""
        seconds, callback = self.timer
        self.timer = None
        self.now_ns += int(seconds * 1e9)
        callback()
        return seconds

    def listener_comes(self, target):
        target.has_listener = True
        self.plane.interest_epoch += 1


def grown_old(*targets):
    it = Fixture()
    for target in targets:
        it.interest.add(target)
    while it.fire() == SOON_SECONDS:
        pass
    for target in targets:
        target.asked = 0
    return it


def test_a_new_consumer_is_looked_at_soon():
    it, target = Fixture(), Target()
    it.interest.add(target)
    it.fire()
    it.listener_comes(target)
    assert it.fire() == SOON_SECONDS
    assert target.is_active


def test_consumers_are_asked_only_when_interest_has_changed():
    target = Target()
    it = grown_old(target)
    for _ in range(5):
        assert it.fire() == SECONDS
    assert target.asked == 0
    it.listener_comes(target)
    it.fire()
    it.fire()
    assert (target.asked, target.is_active) == (1, True)


def test_old_consumers_are_not_asked_more_often_because_of_new_ones():
    old, new = Target(), Target()
    it = grown_old(old)
    it.interest.add(new)
    rounds = int(SECONDS / SOON_SECONDS)
    for _ in range(rounds):
        it.plane.interest_epoch += 1
        assert it.fire() == SOON_SECONDS
    assert old.asked <= 2
    assert new.asked >= rounds


def test_nothing_is_asked_when_all_have_gone():
    target = Target()
    it = grown_old(target)
    it.interest.remove(target)
    it.plane.interest_epoch += 1
    it.fire()
    assert (target.asked, it.timer) == (0, None)
