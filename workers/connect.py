"""CONNECT: its JSON, read as Go's decoder reads it, since that is what clients were written against."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

from workers.errors import BadConnect


@dataclass(slots=True)
class ConnectOptions:
    """What a client says of itself; the defaults hold until it says otherwise."""

    verbose: bool = True
    pedantic: bool = True
    echo: bool = True
    headers: bool = False
    no_responders: bool = False
    tls_required: bool = False
    new_account: bool = False
    protocol: int = 0
    auth_token: str = ""
    user: str = ""
    password: str = ""
    account: str = ""
    name: str = ""
    lang: str = ""
    version: str = ""
    nkey: str = ""
    sig: str = ""
    jwt: str = ""


_WIRE_NAMES = {"password": "pass"}
_TYPES = {"bool": bool, "int": int, "str": str}
_FIELDS = {
    _WIRE_NAMES.get(field.name, field.name): (field.name, _TYPES[str(field.type)])
    for field in fields(ConnectOptions)
}


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def parse_object(text: bytes) -> list[tuple[str, Any]]:
    """Read a JSON object as pairs in their order; null is an empty one.

    Raises:
        BadConnect: it is something else.
    """
    try:
        values = json.loads(
            text.decode("utf-8", "replace"), object_pairs_hook=tuple, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise BadConnect(f"no JSON: {error}") from error
    if values is None:
        return []
    # With that hook an object is a tuple of pairs, and nothing else is a tuple.
    if not isinstance(values, tuple):
        raise BadConnect("no JSON object")
    return list(values)


def parse_connect(text: bytes, earlier: ConnectOptions) -> ConnectOptions:
    """Read the argument of CONNECT.

    Names match in any case, unknown ones are ignored, of doubled ones the last counts. An absent field or
    null keeps what an earlier CONNECT of the connection said.

    Raises:
        BadConnect: it is no JSON object, or a value has another type.
    """
    options = replace(earlier)
    for key, value in parse_object(text):
        _set(options, key, value)
    return options


def _set(options: ConnectOptions, key: str, value: Any) -> None:
    name, wanted = _FIELDS.get(key.lower(), ("", None))
    if wanted is None or value is None:
        return
    if type(value) is not wanted:
        raise BadConnect(f"field {key} is no {wanted.__name__}")
    setattr(options, name, value)
