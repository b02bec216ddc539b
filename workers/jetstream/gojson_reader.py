"""The slow, exact reader of JSON requests, with the error texts of Go's encoding/json.

Stub until the scanner lands.
"""

import json

from workers.jetstream.gojson_kinds import Struct, Unfit


class DecodeError(ValueError):
    """A body that Go's encoding/json refuses; str() is what follows `invalid JSON: `."""


def read(data: bytes, struct: Struct, *, strict: bool) -> dict[str, object]:
    if not data.strip():
        return {}
    try:
        value = json.loads(data)
        taken = {}
        for key, item in value.items():
            name = struct.find(key)
            if name is None and strict:
                raise DecodeError(f'json: unknown field "{key}"')
            if name is not None and item is not None:
                taken[name] = struct.members[name].take(item, strict)
        return taken
    except (ValueError, Unfit, AttributeError) as error:
        raise DecodeError(str(error)) from error
