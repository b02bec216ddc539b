"""What a member of a JSON request may be: its Go type, its range, and the fast check of plain values.

take() is given what orjson parsed; Unfit sends the caller to gojson_reader, which finds the words for it.
"""

from dataclasses import dataclass, field

from workers.jetstream.gojson_time import TimeError, normalize_time

_INT64_MAX = (1 << 63) - 1


class Unfit(Exception):
    """The value needs the slow reader: wrong, or right in a way that plain parsing does not show."""


class Kind:
    """A kind of value.

    Attributes:
        go: the Go type as error texts name it.
        zero: what null inside an array stands for.
    """

    __slots__ = ()
    go: str
    zero: object = None

    def take(self, value: object) -> object:
        """Return the checked value; raise Unfit if it is not plainly right. Never called with None."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Text(Kind):
    go: str = "string"
    zero: object = ""

    def take(self, value: object) -> object:
        if type(value) is not str:
            raise Unfit
        return value


@dataclass(frozen=True, slots=True)
class _Bool(Kind):
    go: str = "bool"
    zero: object = False

    def take(self, value: object) -> object:
        if type(value) is not bool:
            raise Unfit
        return value


@dataclass(frozen=True, slots=True)
class Integer(Kind):
    """A whole number between two bounds, both inclusive."""

    go: str
    low: int
    high: int
    zero: object = 0

    def take(self, value: object) -> object:
        if type(value) is not int or not self.low <= value <= self.high:
            raise Unfit
        return value


@dataclass(frozen=True, slots=True)
class _Time(Kind):
    """RFC 3339 text, brought to the form in which Go writes it."""

    go: str = "time.Time"

    def take(self, value: object) -> object:
        if type(value) is not str:
            raise Unfit
        try:
            return normalize_time(value)
        except TimeError as error:
            raise Unfit from error


@dataclass(frozen=True, slots=True)
class Enum(Kind):
    """One word of a set.

    Attributes:
        words: wire text → value.
        refusal: the whole error text; empty: nats-server quotes what it met.
        unknown: what stands before the raw value in the error text; empty: the usual words.
        is_folding: capital letters do not matter.
    """

    words: dict[str, str]
    refusal: str = ""
    is_folding: bool = False
    unknown: str = ""
    go: str = "string"

    def take(self, value: object) -> object:
        if type(value) is not str:
            raise Unfit
        word = self.words.get(value)
        if word is None:
            raise Unfit
        return word


@dataclass(frozen=True, slots=True)
class Array(Kind):
    """A list of one kind; null inside becomes the kind's zero."""

    of: Kind
    go: str

    def take(self, value: object) -> object:
        if type(value) is not list:
            raise Unfit
        of = self.of
        return [of.zero if item is None else of.take(item) for item in value]


@dataclass(frozen=True, slots=True)
class Map(Kind):
    """An object of any keys whose values are of one kind; null inside becomes the kind's zero."""

    of: Kind
    go: str

    def take(self, value: object) -> object:
        if type(value) is not dict:
            raise Unfit
        of = self.of
        return {key: of.zero if item is None else of.take(item) for key, item in value.items()}


@dataclass(frozen=True, slots=True)
class Struct(Kind):
    """An object with known members.

    Attributes:
        go: Go type with its package, as `server.StreamConfigRequest`.
        members: canonical name → kind.
        zero: None where Go holds a pointer; {} where it holds the struct itself.
    """

    go: str
    members: dict[str, Kind]
    zero: object = None
    _folded: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folded", {fold(name): name for name in self.members})

    def find(self, key: str) -> str | None:
        """Return the canonical name for a key of any capitalisation, None if it is unknown."""
        return key if key in self.members else self._folded.get(fold(key))

    def take(self, value: object) -> object:
        return self.take_members(value)

    def take_members(self, value: object) -> dict[str, object]:
        """As take(), for the document itself."""
        if type(value) is not dict:
            raise Unfit
        members = self.members
        taken: dict[str, object] = {}
        for key, item in value.items():
            kind = members.get(key)
            if kind is None or (item is None and isinstance(kind, Enum)):
                # The slow reader knows what Go makes of odd capitals, and says what is unknown.
                raise Unfit
            if item is not None:
                taken[key] = kind.take(item)
        return taken


def fold(key: str) -> str:
    """Bring a key to the form in which Go compares names: capitals and the long s do not matter."""
    return key.lower().replace("\u017f", "s")


STRING = _Text()
BOOL = _Bool()
INT = Integer("int", -_INT64_MAX - 1, _INT64_MAX)
INT32 = Integer("int32", -(1 << 31), (1 << 31) - 1)
INT64 = Integer("int64", -_INT64_MAX - 1, _INT64_MAX)
UINT64 = Integer("uint64", 0, (1 << 64) - 1)
DURATION = Integer("time.Duration", -_INT64_MAX - 1, _INT64_MAX)
TIME = _Time()
TEXTS = Map(STRING, "map[string]string")
COUNTS = Map(UINT64, "map[string]uint64")
