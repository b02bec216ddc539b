"""Publish/subscribe and request/reply users.

    locust -f loadtest/locustfile.py --headless -u 50 -r 50 -t 30s --host nats://127.0.0.1:4222

Each user has `--arrivals` operations a second, so -u 50 --arrivals 10 is a load of 500 a second whatever the
server does. The last table is in microseconds; Locust's own tables are in whole milliseconds.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from locust import events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.client import Server, ServerError
from loadtest.nats_client import NatsClient
from loadtest.nats_user import EchoSubscription, NatsUser

SERVICE = "load.service"
SERVICE_QUEUE = "load-service"
# Messages on their way when the test stops get this long before they count as lost.
DRAIN_TIMEOUT_S = 2.0

services: list[NatsClient] = []


def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--arrivals", type=float, default=10.0, help="operations of one user a second")
    parser.add_argument("--payload-bytes", type=int, default=128, help="size of messages, at least 8")


def start_service(environment: Environment, **_: Any) -> None:
    """Answer requests: one responder in each Locust process, all in one queue group."""
    client = NatsClient(Server.from_url(environment.host or "nats://127.0.0.1:4222"), "load-service")
    client.subscribe(SERVICE, lambda message: client.publish(message.reply, message.payload), SERVICE_QUEUE)
    services.append(client)


def stop_service(environment: Environment, **_: Any) -> None:
    while services:
        services.pop().close()


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.test_start.add_listener(start_service)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(stop_service)  # type: ignore[no-untyped-call]


class PacedUser(NatsUser):
    """Rate and payload from the command line."""

    abstract = True

    def on_start(self) -> None:
        self.arrivals_per_s = self.environment.parsed_options.arrivals
        self.payload_bytes = max(8, self.environment.parsed_options.payload_bytes)
        super().on_start()


class PublishSubscribeUser(PacedUser):
    """Publishes to a subject of its own and checks that everything comes back."""

    weight = 1

    def on_start(self) -> None:
        super().on_start()
        self.echo = EchoSubscription(self.client, f"load.echo.{secrets.token_hex(8)}", self.report)

    def finish(self) -> None:
        # This reply comes after the echo of everything published before it. What is missing is reported
        # below, whether this works or not.
        with suppress(ServerError, TimeoutError):
            self.client.request(SERVICE, b"drain", DRAIN_TIMEOUT_S)
        self.echo.report_lost()

    @task
    def publish(self) -> None:
        self.echo.publish(self.arrivals.take(), self.payload_bytes)


class RequestUser(PacedUser):
    """Sends requests one after the other; those that wait for their predecessor are late, and count so."""

    weight = 1

    @task
    def request(self) -> None:
        due_ns = self.arrivals.take()
        failure: Exception | None = None
        size = 0
        try:
            size = len(self.client.request(SERVICE, b"?" * self.payload_bytes).payload)
        except (ServerError, TimeoutError) as error:
            failure = error
        self.report("NATS", "request/reply", due_ns, size, failure)
