"""nats-server's stream backups, read and written; see archive.py."""
