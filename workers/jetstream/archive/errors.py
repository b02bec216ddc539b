"""What an archive can be refused for."""


class ArchiveError(Exception):
    """The bytes are not a whole, sound archive; the text says what was met."""
