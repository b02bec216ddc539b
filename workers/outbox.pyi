"""Messages that this worker itself publishes; DataPlane.publish is its face to Python."""
