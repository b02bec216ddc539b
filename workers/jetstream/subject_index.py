"""Finding the streams whose subjects may meet a subject, without looking at all of them."""

from __future__ import annotations

from collections.abc import Iterator

ONE, REST = "*", ">"


class _Node:
    """A token: what may follow it, and whose subject ends with it."""

    __slots__ = ("children", "names")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.names: set[str] = set()


def _tokens(subject: str) -> list[str]:
    """Return the tokens of a subject; one that begins with a wildcard stands for that wildcard."""
    return [token[0] if token[:1] in (ONE, REST) else token for token in subject.split(".")]


class SubjectIndex:
    """A tree of tokens. It answers with candidates: what it leaves out does not meet the subject."""

    def __init__(self) -> None:
        """Begin empty."""
        self._root = _Node()

    def add(self, subject: str, name: str) -> None:
        """Note that a stream has a subject."""
        node = self._root
        for token in _tokens(subject):
            node = node.children.setdefault(token, _Node())
        node.names.add(name)

    def remove(self, subject: str, name: str) -> None:
        """Forget what add() was told; subjects that look alike here may have gone with one another."""
        path = [self._root]
        tokens = _tokens(subject)
        for token in tokens:
            child = path[-1].children.get(token)
            if child is None:
                return
            path.append(child)
        path[-1].names.discard(name)
        for parent, token in zip(reversed(path[:-1]), reversed(tokens), strict=True):
            child = parent.children[token]
            if child.names or child.children:
                return
            del parent.children[token]

    def candidates(self, subject: str) -> Iterator[str]:
        """Yield the streams that may meet a subject, some perhaps more than once."""
        yield from self._meeting(self._root, _tokens(subject), 0)

    def _meeting(self, node: _Node, tokens: list[str], index: int) -> Iterator[str]:
        if index == len(tokens):
            yield from node.names
            return
        token = tokens[index]
        if token == REST:
            for child in node.children.values():
                yield from self._all(child)
            return
        rest = node.children.get(REST)
        if rest is not None:
            yield from self._all(rest)
        if token == ONE:
            for word, child in node.children.items():
                if word != REST:
                    yield from self._meeting(child, tokens, index + 1)
            return
        for word in (token, ONE):
            child_or_none = node.children.get(word)
            if child_or_none is not None:
                yield from self._meeting(child_or_none, tokens, index + 1)

    def _all(self, node: _Node) -> Iterator[str]:
        yield from node.names
        for child in node.children.values():
            yield from self._all(child)
