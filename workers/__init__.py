"""The processes that serve clients: protocol, subjects, routing."""
