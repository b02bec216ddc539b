"""What a stream's consumers cost its publishers, and how soon a message is delivered, on several servers."""
