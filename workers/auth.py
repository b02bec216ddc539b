"""Who may connect: a token, or a user with a password, each plain or as a bcrypt hash.

Comparing with a hash takes tens of milliseconds on purpose, so it must run off the event loop: check() says
so by returning a function instead of an answer.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

_BCRYPT = re.compile(r"^\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}$")


def is_bcrypt(secret: str) -> bool:
    """Return whether a configured secret is a bcrypt hash."""
    return _BCRYPT.match(secret) is not None


class Authenticator:
    """Compares what CONNECT says with what is configured."""

    def __init__(self, *, token: str = "", user: str = "", password: str = "") -> None:
        """Use the token, or the user and password; all empty lets everybody in."""
        self._token = token
        self._user = user
        self._password = password

    @property
    def is_required(self) -> bool:
        """Whether a client must send credentials."""
        return bool(self._token or self._user)

    def check(self, *, token: str, user: str, password: str) -> bool | Callable[[], bool]:
        """Decide on credentials.

        Returns:
            The answer, or a function that computes it: call that in a thread, it releases the interpreter
            lock.
        """
        if self._token:
            return _compare(self._token, token)
        if self._user:
            if not hmac.compare_digest(self._user.encode(), user.encode()):
                return False
            return _compare(self._password, password)
        return True


def _compare(secret: str, given: str) -> bool | Callable[[], bool]:
    if not is_bcrypt(secret):
        return hmac.compare_digest(secret.encode(), given.encode())

    def check_hash() -> bool:
        import bcrypt  # only who uses hashes pays for loading it

        # bcrypt looks at 72 bytes; longer passwords cannot have made the hash, and the library refuses them.
        try:
            return bcrypt.checkpw(given.encode()[:72], secret.encode())
        except ValueError:  # it looks like a hash, but its cost is none: nobody's password made it
            return False

    return check_hash
