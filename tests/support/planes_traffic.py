"""Random traffic over several data planes, and what every client must have seen of it at the end.

A schedule is a seed: which client does what next, which plane runs next, how large the rings are. Planes run
in each other's rounds too, between any two operations, as processes would (log_trace must be on: the hook is
the policy's trace). The ledger keeps what was promised, in the order in which the clients could see it:

- A subscription is confirmed when its client has read the PONG that follows the SUB. Every message published
  later, by anybody on any plane, reaches it, once (the causality rule).
- A plain subscription sees one publisher's messages in order, and nothing that was sent after its UNSUB was
  confirmed.
- One member of a queue group gets each message, whatever member leaves while the message is on its way, as
  long as one stays.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from support.planes import Client, Host, Mesh
from support.sublist_model import subject_matches

SUBJECTS = (b"a.b", b"a.c", b"b", b"x.y.z")
PATTERNS = (*SUBJECTS, b"a.*", b"*.b", b"a.>", b">", b"x.*.z", b"*")
QUEUES = (b"q", b"r")
CLIENTS_MAX = 12
NEVER = float("inf")


@dataclass
class Published:
    """A message that was sent."""

    number: int
    publisher: int
    subject: bytes
    sent_at: int
    is_sure: bool = True
    """Whether it cannot have been lost with its publisher or the publisher's worker."""


@dataclass(eq=False)
class Subscription:
    """What a client asked for and what it got."""

    client: Client
    sid: bytes
    subject: bytes
    queue: bytes
    asked_at: int
    confirmed_at: float = NEVER
    ended_at: float = NEVER
    """When UNSUB was sent, or the client went away."""
    end_confirmed_at: float = NEVER
    is_cut_off: bool = False
    """Whether the client went away: what was sent to it may be lost."""
    received: list[int] = field(default_factory=list)

    def must_get(self, message: Published) -> bool:
        """Return whether it was there before the message was sent and to the end."""
        return (
            message.is_sure
            and self.confirmed_at < message.sent_at
            and self.ended_at == NEVER
            and subject_matches(self.subject, message.subject)
        )

    def may_get(self, message: Published) -> bool:
        """Return whether it was there at all while the message can have been on its way."""
        return self.end_confirmed_at > message.sent_at and subject_matches(self.subject, message.subject)


class Traffic:
    """One schedule."""

    def __init__(self, planes: Mesh, random: Random, *, payload_bytes_max: int, kills: int = 0) -> None:
        self.planes = planes
        self.random = random
        self.payload_bytes_max = payload_bytes_max
        self.kills_left = kills
        self.now = 0
        self.messages: list[Published] = []
        self.subscriptions: list[Subscription] = []
        self.of_client: dict[int, list[Subscription]] = defaultdict(list)
        self.by_sid: dict[tuple[int, bytes], Subscription] = {}
        self.sent: dict[int, list[Published]] = defaultdict(list)
        self.accepted: dict[int, int] = defaultdict(int)
        """How many of a client's messages came before a PING that was answered."""
        self.pings: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self.sids = itertools.count(1)
        self.running: list[Host] = []
        self.is_resting = False
        for host in planes.hosts:
            self._listen(host)

    # ---- planes

    def _listen(self, host: Host) -> None:
        host.policy.trace = self._interleave  # type: ignore[method-assign]

    def _interleave(self, client_id: int, line: bytes) -> None:
        """In the middle of a plane's round, let clients and other planes do something."""
        if not self.is_resting and len(self.running) < len(self.planes.hosts) and self.random.random() < 0.2:
            for _ in range(self.random.randrange(1, 6)):
                self._act()

    def _step(self, host: Host) -> None:
        if host not in self.running:
            self.running.append(host)
            host.step()
            self.running.remove(host)

    # ---- what clients do

    def _connect(self) -> None:
        ready = [host.index for host in self.planes.hosts if host.plane.is_synced]
        if len(self.planes.clients) < CLIENTS_MAX and ready:
            client = self.planes.connect(self.random.choice(ready), handshake=False)
            client.send(b'CONNECT {"verbose":false}\r\n')

    def _live(self, client: Client) -> list[Subscription]:
        return [each for each in self.of_client[client.client_id] if each.ended_at == NEVER]

    def _ping(self, client: Client) -> bytes:
        """Return a PING that confirms what the client has said so far."""
        mine = self.of_client[client.client_id]
        begun = [each for each in mine if each.confirmed_at == NEVER]
        ended = [each for each in mine if each.ended_at != NEVER and each.end_confirmed_at == NEVER]
        sent = len(self.sent[client.client_id])

        def confirm() -> None:
            for each in begun:
                each.confirmed_at = min(each.confirmed_at, self.now)
            for each in ended:
                each.end_confirmed_at = min(each.end_confirmed_at, self.now)
            self.accepted[client.client_id] = sent

        self.pings[client.client_id].append(confirm)
        return b"PING\r\n"

    def _subscribe(self, client: Client) -> None:
        sid = b"%d" % next(self.sids)
        queue = self.random.choice((b"", b"", *QUEUES))
        asked = Subscription(client, sid, self.random.choice(PATTERNS), queue, self.now)
        self.subscriptions.append(asked)
        self.of_client[client.client_id].append(asked)
        self.by_sid[client.client_id, sid] = asked
        line = b"SUB %b %b%b\r\n" % (asked.subject, queue + b" " if queue else b"", sid)
        client.send(line + (self._ping(client) if self.random.random() < 0.8 else b""))

    def _unsubscribe(self, client: Client) -> None:
        live = self._live(client)
        if live:
            leaving = self.random.choice(live)
            leaving.ended_at = self.now
            client.send(b"UNSUB %b\r\n" % leaving.sid + self._ping(client))

    def _publish(self, client: Client) -> None:
        block = b""
        for _ in range(self.random.choice((1, 1, 3, 30))):
            message = Published(len(self.messages), client.client_id, self.random.choice(SUBJECTS), self.now)
            self.messages.append(message)
            self.sent[client.client_id].append(message)
            is_large = self.random.random() < 0.05
            payload = b"%d " % message.number
            payload += b"." * self.random.randint(0, self.payload_bytes_max if is_large else 40)
            block += b"PUB %b %d\r\n%b\r\n" % (message.subject, len(payload), payload)
        client.send(block + (self._ping(client) if self.random.random() < 0.5 else b""))

    def _hang_up(self, client: Client) -> None:
        if self.random.random() < 0.2:
            for message in self.sent[client.client_id][self.accepted[client.client_id] :]:
                message.is_sure = False
            self._cut_off(client)
            self.planes.clients.remove(client)
            client.close()

    def _cut_off(self, client: Client) -> None:
        for each in self._live(client):
            each.ended_at = self.now
        for each in self.of_client[client.client_id]:
            if each.end_confirmed_at == NEVER:
                each.is_cut_off = True

    def _kill(self) -> None:
        """Let a worker die and start it anew; what its clients sent but did not see answered may be lost."""
        if not self.kills_left or self.random.random() < 0.9:
            return
        self.kills_left -= 1
        worker = self.random.randrange(len(self.planes.hosts))
        victims = [client for client in self.planes.clients if client.host is self.planes.hosts[worker]]
        ids = {client.client_id for client in victims}
        for client in victims:
            self._cut_off(client)
        for message in self.messages:
            message.is_sure = message.is_sure and message.publisher not in ids
        # A queue's message may have been on its way to the dead worker.
        for each in self.subscriptions:
            each.is_cut_off = each.is_cut_off or bool(each.queue)
        self.planes.kill(worker)
        self.planes.restart(worker)
        self._listen(self.planes.hosts[worker])

    # ---- what they see

    def _look(self, client: Client, bytes_max: int) -> None:
        client.flush()
        client.receive(bytes_max)
        for message in client.take_messages():
            number = int(message.payload.split(b" ")[0])
            self.by_sid[client.client_id, message.sid].received.append(number)
            assert message.subject == self.messages[number].subject
        for line in client.take_lines():
            if line == b"PONG":
                self.pings[client.client_id].pop(0)()
            else:
                assert line.startswith(b"INFO "), line

    # ---- the schedule

    def run(self, steps: int) -> None:
        """Let things happen in random order, then let them come to rest and check the ledger."""
        for _ in range(steps):
            if not self.planes.clients or self.random.random() < 0.05:
                self._connect()
            self._act()
            self._kill()
        self._come_to_rest()
        self._check()

    def _act(self) -> None:
        """Let a plane run, or a client do something."""
        self.now += 1
        if self.random.random() < 0.5:
            self._step(self.random.choice(self.planes.hosts))
        elif self.planes.clients:
            acts = {
                self._publish: 6,
                self._subscribe: 4,
                self._unsubscribe: 2,
                self._hang_up: 1,
                self._look_a_little: 8,
            }
            client = self.random.choice(self.planes.clients)
            self.random.choices(list(acts), list(acts.values()))[0](client)

    def _look_a_little(self, client: Client) -> None:
        self._look(client, self.random.choice((100, 1 << 16)))

    def _come_to_rest(self) -> None:
        self.is_resting = True
        for client in self.planes.clients:
            client.send(self._ping(client))
        for _ in range(3):  # what settle() received of one client may be news to the look at another
            self.planes.settle()
            self.now += 1
            for client in self.planes.clients:
                self._look(client, 1 << 20)
        for client in self.planes.clients:
            assert self.pings[client.client_id] == [], "a PING without PONG"

    def _check(self) -> None:
        for each in self.subscriptions:
            if not each.queue:
                self._check_plain(each)
            assert len(set(each.received)) == len(each.received), "a message twice"
            wrong = [number for number in each.received if not each.may_get(self.messages[number])]
            assert not wrong, f"{each} got {wrong}"
        for queue in QUEUES:
            members = [each for each in self.subscriptions if each.queue == queue]
            took = Counter(number for each in members for number in each.received)
            for message in self.messages:
                self._check_queue(message, members, took[message.number])

    def _check_plain(self, plain: Subscription) -> None:
        missing = {message.number for message in self.messages if plain.must_get(message)} - set(
            plain.received
        )
        assert not missing, f"{plain.client.host.index}: {plain} misses {sorted(missing)}"
        by_publisher: dict[int, list[int]] = defaultdict(list)
        for number in plain.received:
            by_publisher[self.messages[number].publisher].append(number)
        for numbers in by_publisher.values():
            assert numbers == sorted(numbers), "out of order"

    def _check_queue(self, message: Published, members: list[Subscription], took: int) -> None:
        assert took <= 1, f"{message} was taken by {took} members"
        if any(each.must_get(message) for each in members):
            may_be_lost = any(each.is_cut_off and each.may_get(message) for each in members)
            assert took == 1 or may_be_lost, f"{message} was taken by nobody"
