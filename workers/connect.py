"""CONNECT: its JSON, read as Go's decoder reads it, since that is what clients were written against."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from workers.errors import BadConnect


@dataclass(slots=True)
class ConnectOptions:
    """What a client says of itself; the defaults are what an absent field means."""

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
_FIELDS = {_WIRE_NAMES.get(field.name, field.name): (field.name, _TYPES[str(field.type)]) for field in fields(ConnectOptions)}


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def parse_connect(text: bytes) -> ConnectOptions:
    """Read the argument of CONNECT.

    Names match in any case, unknown ones are ignored, null leaves the default, of doubled ones the last counts.

    Raises:
        BadConnect: it is no JSON object, or a value has another type.
    """
    options = ConnectOptions()
    try:
        values = json.loads(
            text.decode("utf-8", "replace"), object_pairs_hook=list, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise BadConnect(f"CONNECT is no JSON: {error}") from error
    if values is None:
        return options
    # With object_pairs_hook an object is a list of pairs; a JSON array is a list as well, but not of tuples.
    if not text.lstrip().startswith(b"{"):
        raise BadConnect("CONNECT is no JSON object")
    for key, value in values:
        _set(options, key, value)
    return options


def _set(options: ConnectOptions, key: str, value: Any) -> None:
    name, wanted = _FIELDS.get(key.lower(), ("", None))
    if wanted is None or value is None:
        return
    if type(value) is not wanted:
        raise BadConnect(f"CONNECT field {key} is no {wanted.__name__}")
    setattr(options, name, value)
