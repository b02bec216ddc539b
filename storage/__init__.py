"""What keeps streams and consumers on disk and in memory."""
