"""Subject transforms: a pattern, and a destination made of text, wildcards and functions.

    src   orders.*.*
    dest  by.$2.{{partition(8,1)}}.{{wildcard(1)}}

A token of the destination may be `$n` or one `{{function(arguments)}}`: wildcard, partition, split,
splitFromLeft, splitFromRight, sliceFromLeft, sliceFromRight, left, right, random. Numbers of wildcards count
the `*` of the pattern from 1. Sizes count bytes.

Source: nats-server server/subject_transform.go, and the error texts of server/errors.go.
"""

import random
import re
from collections.abc import Callable
from functools import partial

_Piece = Callable[[list[bytes]], bytes]

_INT32_MAX = (1 << 31) - 1
_INT64_MAX = (1 << 63) - 1
_UINT32_MASK = 0xFFFFFFFF
_FNV_OFFSET, _FNV_PRIME = 2166136261, 16777619

_INVALID = "invalid mapping destination"
_BAD_TEXT = f"{_INVALID}: invalid transform"
_UNKNOWN = f"{_INVALID}: unknown function"
_OUT_OF_RANGE = f"{_INVALID}: wildcard index out of range"
_TOO_FEW = f"{_INVALID}: not enough arguments passed to the function"
_TOO_MANY = f"{_INVALID}: too many arguments passed to the function"
_BAD_ARGUMENT = f"{_INVALID}: function argument is invalid or in the wrong format"

_SPACES = re.compile("[\t\n\f\r ]")
_COMMA = re.compile(r",[\t\n\f\r ]*")
# Function → how its name may be written; the order is the order in which nats-server tries them.
_NAMES = {
    "wildcard": "[wW]ildcard",
    "partition": "[pP]artition",
    "splitfromleft": "[sS]plit[fF]rom[lL]eft",
    "splitfromright": "[sS]plit[fF]rom[rR]ight",
    "slicefromleft": "[sS]lice[fF]rom[lL]eft",
    "slicefromright": "[sS]lice[fF]rom[rR]ight",
    "right": "[rR]ight",
    "left": "[lL]eft",
    "split": "[sS]plit",
    "random": "[rR]andom",
}
_FUNCTIONS = {
    name: re.compile(r"{{[\t\n\f\r ]*" + form + r"[\t\n\f\r ]*\((.*)\)[\t\n\f\r ]*}}")
    for name, form in _NAMES.items()
}


class TransformError(ValueError):
    """A transform that nats-server refuses; str() is its text."""


class SubjectTransform:
    """A transform that was found valid.

    Attributes:
        src: the pattern, ">" if none was given.
        dest: the destination as configured, not empty.
    """

    def __init__(self, src: str, dest: str, rng: random.Random | None = None) -> None:
        """Check and compile.

        Args:
            src: pattern, "" for everything.
            dest: destination; not empty, see make_transform.
            rng: where {{random()}} gets its numbers.
        Raises:
            TransformError: with nats-server's text.
        """
        self.src = src or ">"
        self.dest = dest
        self._rng = rng or random.Random()
        pattern, destination = self.src.split("."), dest.split(".")
        has_tail = pattern[-1] == ">"
        if (
            not _is_well_formed(pattern)
            or not _is_well_formed(destination)
            or "*" in destination
            or has_tail != (destination[-1] == ">")
        ):
            raise TransformError("invalid subject")
        self._pattern = [_encode(token) for token in pattern]
        self._is_identity = self.src == ">" and dest == ">"
        self._tail = len(pattern) - 1 if has_tail else -1
        wildcards = [index for index, token in enumerate(pattern) if token == "*"]
        is_plain = not wildcards and not has_tail
        body = destination[:-1] if has_tail else destination
        self._pieces = [self._piece(token, wildcards, is_plain) for token in body]

    def apply(self, subject: str) -> str | None:
        """Return the new subject, None if the pattern does not match or the subject is not literal."""
        changed = self.apply_bytes(_encode(subject))
        return None if changed is None else changed.decode("utf-8", "surrogateescape")

    def apply_bytes(self, subject: bytes) -> bytes | None:
        """As apply(), for a subject as it is on the wire."""
        if self._is_identity:
            return subject
        tokens = subject.split(b".")
        if not self._matches(tokens):
            return None
        changed = [piece(tokens) for piece in self._pieces]
        if self._tail >= 0:
            changed.extend(tokens[self._tail :])
        return b".".join(changed)

    def _matches(self, tokens: list[bytes]) -> bool:
        if any(not token or token in (b"*", b">") for token in tokens):
            return False
        pattern = self._pattern
        if self._tail >= 0:
            if len(tokens) <= self._tail:
                return False
        elif len(tokens) != len(pattern):
            return False
        # A pattern token that only begins with a star matches too, as in nats-server.
        return all(
            wanted in (b">", token) or wanted[:1] == b"*"
            for wanted, token in zip(pattern, tokens, strict=False)
        )

    def _piece(self, token: str, wildcards: list[int], is_plain: bool) -> _Piece:
        """Compile one token of the destination."""
        name, arguments = _read_token(token)
        if not name:
            text = _encode(token)
            return lambda tokens: text
        if name == "random":
            return partial(_random, _number(token, arguments[0]), self._rng)
        if name == "partition":
            return self._partition(token, arguments, wildcards, is_plain)
        if is_plain:
            _check_arguments(name, token, arguments)
            raise TransformError(f"{_OUT_OF_RANGE} in {token}")
        if name == "wildcard":
            return partial(_wildcard, _place(token, arguments[0], wildcards))
        if name == "split":
            separator = _check_arguments(name, token, arguments)
            return partial(_split, _place(token, arguments[0], wildcards), _encode(str(separator)))
        size = _check_arguments(name, token, arguments)
        assert isinstance(size, int)
        return partial(_SIZED[name], _place(token, arguments[0], wildcards), size)

    def _partition(self, token: str, arguments: list[str], wildcards: list[int], is_plain: bool) -> _Piece:
        count = _number(token, arguments[0])
        numbers = [_integer(token, argument) for argument in arguments[1:]]
        # Without wildcards in the pattern nats-server forgets the places and takes the whole subject.
        places = [] if is_plain else [_checked_place(token, number, wildcards) for number in numbers]
        return partial(_partition_of, count, places)


def make_transform(src: str, dest: str) -> SubjectTransform | None:
    """Return the transform, None if the destination is empty: nothing changes then.

    Raises:
        TransformError: with nats-server's text.
    """
    return SubjectTransform(src, dest) if dest else None


def check_mapping(src: str, dest: str) -> None:
    """Check a configured transform as nats-server's ValidateMapping does; an empty destination passes.

    Raises:
        TransformError: with nats-server's text.
    """
    if not dest:
        return
    is_over = False
    for token in dest.split("."):
        if not token or is_over:
            raise TransformError(f"{_BAD_TEXT} in {token}" if token else _BAD_TEXT)
        if _looks_like_function(token):
            if not any(form.search(token) for form in _FUNCTIONS.values()):
                raise TransformError(f"{_UNKNOWN} in {token}")
        elif token == ">":
            is_over = True
        elif _SPACES.search(token):
            raise TransformError(_BAD_TEXT)
    make_transform(src, dest)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_well_formed(tokens: list[str]) -> bool:
    return "" not in tokens and ">" not in tokens[:-1]


def _looks_like_function(token: str) -> bool:
    return len(_encode(token)) > 4 and token.startswith("{{") and token.endswith("}}")


def _read_token(token: str) -> tuple[str, list[str]]:
    """Take a destination token apart: function name ("" for text) and its arguments."""
    if len(token) > 1 and token[0] == "$":
        number = _parse_integer(token[1:])
        return ("", []) if number is None else ("wildcard", [token[1:]])
    if not _looks_like_function(token):
        return "", []
    for name, form in _FUNCTIONS.items():
        match = form.search(token)
        if match is not None:
            arguments = _COMMA.split(match[1])
            _check_arguments(name, token, arguments)
            return name, arguments
    raise TransformError(f"{_UNKNOWN} in {token}")


def _check_arguments(name: str, token: str, arguments: list[str]) -> int | str:
    """Check number and form of the arguments; return what follows the wildcard's number, if anything."""
    if name == "partition":
        _number(token, arguments[0])
        return 0
    wanted = 1 if name in ("wildcard", "random") else 2
    if len(arguments) < wanted or (name == "wildcard" and arguments == [""]):
        raise TransformError(f"{_TOO_FEW} in {token}")
    if len(arguments) > wanted:
        raise TransformError(f"{_TOO_FEW if name == 'random' else _TOO_MANY} in {token}")
    if name == "random":
        return _number(token, arguments[0])
    _integer(token, arguments[0])
    if name == "wildcard":
        return 0
    if name == "split":
        if " " in arguments[1] or "." in arguments[1]:
            raise TransformError(f"{_BAD_ARGUMENT} in {token}")
        return arguments[1]
    size = _integer(token, arguments[1])
    if not -_INT32_MAX - 1 <= size <= _INT32_MAX:
        raise TransformError(f"{_BAD_ARGUMENT} in {token}")
    return size


def _parse_integer(text: str) -> int | None:
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        return None
    number = int(text)
    return number if -_INT64_MAX - 1 <= number <= _INT64_MAX else None


def _integer(token: str, argument: str) -> int:
    number = _parse_integer(argument.strip(" "))
    if number is None:
        raise TransformError(f"{_BAD_ARGUMENT} in {token}")
    return number


def _number(token: str, argument: str) -> int:
    """Read a count; what does not fit 32 bits below zero wraps around, as Go's conversion does."""
    number = _integer(token, argument)
    if number > _INT32_MAX:
        raise TransformError(f"{_BAD_ARGUMENT} in {token}")
    return (number + _INT32_MAX + 1) % (1 << 32) - _INT32_MAX - 1


def _place(token: str, argument: str, wildcards: list[int]) -> int:
    return _checked_place(token, _integer(token, argument), wildcards)


def _checked_place(token: str, number: int, wildcards: list[int]) -> int:
    """Return the index of the pattern's token; numbers below 1 mean the first token, as in nats-server."""
    if number > len(wildcards):
        raise TransformError(f"{_OUT_OF_RANGE} in {token}: [{number}]")
    return wildcards[number - 1] if number > 0 else 0


def _wildcard(place: int, tokens: list[bytes]) -> bytes:
    return tokens[place]


def _random(ceiling: int, rng: random.Random, tokens: list[bytes]) -> bytes:
    return b"%d" % (rng.getrandbits(31) % abs(ceiling)) if ceiling else b"0"


def _partition_of(count: int, places: list[int], tokens: list[bytes]) -> bytes:
    if not count:
        return b"0"
    key = b"".join([tokens[place] for place in places]) if places else b".".join(tokens)
    return b"%d" % (_fnv1a(key) % (count & _UINT32_MASK))


def _fnv1a(key: bytes) -> int:
    value = _FNV_OFFSET
    for byte in key:
        value = ((value ^ byte) * _FNV_PRIME) & _UINT32_MASK
    return value


def _split(place: int, separator: bytes, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    if separator:
        parts = token.split(separator)
    else:
        parts = [character.encode() for character in token.decode("utf-8", "replace")]
    text = b""
    for index, part in enumerate(parts):
        text += part
        is_first_and_empty = index == 0 and not part
        if index + 1 < len(parts) and parts[index + 1] and not is_first_and_empty:
            text += b"."
    return text


def _split_from_left(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    return token[:size] + b"." + token[size:] if 0 < size < len(token) else token


def _split_from_right(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    return token[:-size] + b"." + token[-size:] if 0 < size < len(token) else token


def _slice_from_left(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    if not 0 < size < len(token):
        return token
    return b".".join([token[start : start + size] for start in range(0, len(token), size)])


def _slice_from_right(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    if not 0 < size < len(token):
        return token
    first = len(token) % size
    parts = [token[:first]] if first else []
    parts.extend(token[start : start + size] for start in range(first, len(token), size))
    return b".".join(parts)


def _left(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    return token[:size] if 0 < size < len(token) else token


def _right(place: int, size: int, tokens: list[bytes]) -> bytes:
    token = tokens[place]
    return token[-size:] if 0 < size < len(token) else token


_SIZED: dict[str, Callable[[int, int, list[bytes]], bytes]] = {
    "splitfromleft": _split_from_left,
    "splitfromright": _split_from_right,
    "slicefromleft": _slice_from_left,
    "slicefromright": _slice_from_right,
    "left": _left,
    "right": _right,
}
