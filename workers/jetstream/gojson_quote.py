"""Texts as Go's %q writes them."""

_SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str | bytes) -> str:
    """Return the text in double quotes, with escapes for what cannot be printed or is no UTF-8."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return '"' + "".join(map(_escaped, text)) + '"'


def quote_character(character: str) -> str:
    """Return one character in single quotes, as Go shows a character that it did not expect."""
    if character == "'":
        return "'\\''"
    if character == '"':
        return "'\"'"
    return f"'{_escaped(character)}'"


def _escaped(character: str) -> str:
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    if character == " " or (character.isprintable() and not 0xD800 <= code < 0xE000):
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
