"""Load generators and comparisons with nats-server."""
