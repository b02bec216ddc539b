"""The sublist finds what a search through a plain list finds, whatever came and went before."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from support.sublist_model import SublistModel, subject_kind, subject_matches

from workers.sublist_probe import Sublist, kind_of

# Few tokens, so that subjects meet; wildcards inside a token are no wildcards; empty tokens now and then.
tokens = st.sampled_from(
    [b"a", b"b", b"c", b"*", b"*", b">", b"a*", b">b", b"**", b"long-token-of-more-than-16-bytes"]
)
subjects = st.lists(tokens, min_size=1, max_size=5).map(b".".join)
odd_subjects = st.one_of(
    subjects,
    st.lists(st.one_of(tokens, st.just(b"")), min_size=1, max_size=4).map(b".".join),
    st.text("ab.*>\0", max_size=6).map(str.encode),
)
queues = st.sampled_from([b"", b"", b"q", b"r", b"queue-of-a-longer-name"])
workers = st.integers(0, 3)


class SublistMachine(RuleBasedStateMachine):
    """Runs the sublist and its model side by side."""

    numbers = Bundle("numbers")

    @initialize(seed=st.sampled_from([0, 1, 0xFFFF_FFFF_FFFF_FFFF]))
    def create(self, seed: int) -> None:
        self.sublist = Sublist(4, seed)
        self.model = SublistModel()
        self.next = 0
        self.remote: dict[tuple[int, bytes, bytes], int] = {}

    @rule(target=numbers, subject=odd_subjects, queue=queues)
    def insert(self, subject: bytes, queue: bytes) -> object:
        if subject_kind(subject) == "invalid":
            return multiple()
        self.next += 1
        self.sublist.insert(self.next, subject, queue)
        self.model.insert(self.next, subject, queue)
        return self.next

    @rule(
        subject=subjects.filter(lambda subject: subject_kind(subject) != "invalid"), count=st.integers(1, 100)
    )
    def insert_and_remove_many(self, subject: bytes, count: int) -> None:
        """Arrays of subscriptions grow and shrink, and the others stay where they are."""
        for number in range(1000, 1000 + count):
            self.sublist.insert(number, subject)
        for number in range(1000, 1000 + count):
            self.sublist.remove(number)

    @rule(number=consumes(numbers))
    def remove(self, number: int) -> None:
        self.sublist.remove(number)
        self.model.remove(number)

    @rule(worker=workers, subject=subjects, queue=queues, count=st.integers(0, 3))
    def hear_of_another_worker(self, worker: int, subject: bytes, queue: bytes, count: int) -> None:
        if subject_kind(subject) != "invalid":
            self.sublist.set_remote(worker, subject, queue, count)
            self.remote[worker, subject, queue] = count

    @rule(subject=odd_subjects)
    def match(self, subject: bytes) -> None:
        plain, members, with_plain, remote_members = self.sublist.match(subject)
        assert plain == self.model.plain(subject)
        assert members == self.model.queues(subject)
        met = {key: count for key, count in self.remote.items() if count and subject_matches(key[1], subject)}
        assert with_plain == {worker for worker, _, queue in met if not queue}
        expected: dict[bytes, int] = {}
        for (_, _, queue), count in met.items():
            if queue:
                expected[queue] = expected.get(queue, 0) + count
        assert remote_members == expected

    @invariant()
    def subjects_are_there_while_somebody_is_in_them(self) -> None:
        if not hasattr(self, "sublist"):
            return
        remote = {subject for (_, subject, _), count in self.remote.items() if count}
        present = {subject for subject, _ in self.model.subscriptions.values()} | remote
        stats = self.sublist.stats()
        assert stats["literals"] == sum(subject_kind(subject) == "literal" for subject in present)
        assert stats["wildcards"] == sum(subject_kind(subject) == "wildcard" for subject in present)

    def teardown(self) -> None:
        if not hasattr(self, "sublist"):
            return
        for number in self.model.subscriptions:
            self.sublist.remove(number)
        for worker, subject, queue in self.remote:
            self.sublist.set_remote(worker, subject, queue, 0)
        assert self.sublist.stats() == {"literals": 0, "wildcards": 0, "nodes": 1}


SublistMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
test_sublist_finds_what_its_model_finds = SublistMachine.TestCase


@given(subject=odd_subjects)
def test_kinds_of_subjects_are_the_models(subject: bytes) -> None:
    assert kind_of(subject) == subject_kind(subject)
