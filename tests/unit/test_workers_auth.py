"""Who may connect."""

import bcrypt
import pytest

from workers.auth import Authenticator, is_bcrypt

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def decide(auth: Authenticator, *, token: str = "", user: str = "", password: str = "") -> bool:
    """Return the answer, computed at once if it is to be computed."""
    answer = auth.check(token=token, user=user, password=password)
    return answer() if callable(answer) else answer


def test_nothing_configured_lets_everybody_in() -> None:
    auth = Authenticator()
    assert not auth.is_required
    assert decide(auth)
    assert decide(auth, user="x", password="y", token="z")


@pytest.mark.parametrize("secret", ["secret", HASH])
def test_token_must_match(secret: str) -> None:
    auth = Authenticator(token=secret)
    assert auth.is_required
    assert decide(auth, token="secret")
    for wrong in ("", "secre", "secrets", "SECRET", secret + "x"):
        assert not decide(auth, token=wrong)
    assert not decide(auth, user="secret", password="secret")


@pytest.mark.parametrize("secret", ["secret", HASH])
def test_user_and_password_must_match(secret: str) -> None:
    auth = Authenticator(user="me", password=secret)
    assert auth.is_required
    assert decide(auth, user="me", password="secret")
    for user, password in (("me", ""), ("me", "x"), ("", "secret"), ("you", "secret"), ("ME", "secret")):
        assert not decide(auth, user=user, password=password)
    assert not decide(auth, token="secret")


def test_hash_itself_is_no_password() -> None:
    assert not decide(Authenticator(user="me", password=HASH), user="me", password=HASH)


def test_comparing_with_a_hash_is_left_to_a_thread() -> None:
    assert callable(Authenticator(token=HASH).check(token="secret", user="", password=""))
    assert Authenticator(token="plain").check(token="plain", user="", password="") is True


def test_wrong_user_is_refused_without_hashing() -> None:
    assert Authenticator(user="me", password=HASH).check(token="", user="you", password="secret") is False


def test_text_beyond_ascii_is_compared() -> None:
    auth = Authenticator(user="jürgen", password="пароль")
    assert decide(auth, user="jürgen", password="пароль")
    assert not decide(auth, user="jurgen", password="пароль")


def test_long_password_is_compared_as_far_as_hashes_look() -> None:
    long = "x" * 72
    auth = Authenticator(token=bcrypt.hashpw(long.encode(), bcrypt.gensalt(4)).decode())
    assert decide(auth, token=long)
    assert not decide(auth, token=long[:-1])


@pytest.mark.parametrize("cost", ["00", "03", "99"])
def test_hash_of_no_possible_cost_lets_nobody_in(cost: str) -> None:
    assert not decide(Authenticator(token=f"$2b${cost}{HASH[6:]}"), token="secret")


@pytest.mark.parametrize("marker", ["$2a$", "$2b$", "$2x$", "$2y$"])
def test_hashes_are_told_by_their_form(marker: str) -> None:
    assert is_bcrypt(marker + HASH[4:])


@pytest.mark.parametrize(
    "secret", ["", "secret", "$2a$", HASH[:-1], HASH + "x", "$2z$" + HASH[4:], " " + HASH]
)
def test_other_secrets_are_plain(secret: str) -> None:
    assert not is_bcrypt(secret)
