"""JetStream: streams, publishing with acknowledgement, and reading what is stored."""
