"""What becomes of gradients, told from the order of a loop's calls."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from signscope.records import Outcome
from signscope.watching.updates import Attempt, Clip, Updates

NORM = Clip(limit=1.0, total=5.0, whole=True, exact=True)


def outcomes(*attempts: Attempt[float] | None) -> list[Outcome]:
    return [attempt.outcome for attempt in attempts if attempt is not None]


def stepped(updates: Updates[float], optimizer: str = "a") -> Attempt[float] | None:
    updates.step_begins(optimizer, closure=False)
    return updates.step_ended(optimizer, had_gradient=True)


def test_a_step_applies_what_waits() -> None:
    updates: Updates[float] = Updates()
    updates.backward(2.0, ["a"])
    updates.clipped("a", NORM)
    attempt = stepped(updates)
    assert attempt is not None
    assert (attempt.outcome, attempt.losses, attempt.clips) == (Outcome.APPLIED, (2.0,), (NORM,))
    assert updates.cleared("a") is None


def test_clearing_without_a_step_discards() -> None:
    updates: Updates[float] = Updates()
    updates.backward(2.0, ["a"])
    assert outcomes(updates.cleared("a"), updates.cleared("a")) == [Outcome.DISCARDED]


def test_a_further_backward_alone_is_accumulation() -> None:
    updates: Updates[float] = Updates()
    for loss in (1.0, 2.0, 3.0):
        updates.backward(loss, ["a"])
    attempt = stepped(updates)
    assert attempt is not None
    assert attempt.losses == (1.0, 2.0, 3.0)


def test_what_one_optimizer_used_is_not_discarded_by_clearing_another() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["discriminator", "generator"])  # the generator's loss reaches both
    assert outcomes(stepped(updates, "generator")) == [Outcome.APPLIED]
    assert updates.cleared("discriminator") is None


def test_a_loss_for_another_optimizer_is_not_the_loss_of_this_one() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["discriminator", "generator"])
    stepped(updates, "generator")
    updates.backward(7.0, ["discriminator"])
    attempt = stepped(updates, "discriminator")
    assert attempt is not None
    assert attempt.losses == (7.0,)


def test_a_loss_of_two_optimizers_is_the_loss_of_both() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["encoder", "decoder"])
    encoder, decoder = stepped(updates, "encoder"), stepped(updates, "decoder")
    assert encoder is not None
    assert decoder is not None
    assert encoder.losses == decoder.losses == (1.0,)


def test_a_shared_gradient_cleared_everywhere_is_discarded_once() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["a", "b"])
    assert outcomes(updates.cleared("a"), updates.cleared("b")) == [Outcome.DISCARDED]


def test_what_a_closure_clears_is_not_discarded() -> None:
    updates: Updates[float] = Updates()
    updates.step_begins("a", closure=True)
    for loss in (3.0, 2.0):
        assert updates.cleared("a") is None
        updates.backward(loss, ["a"])
        updates.closure_called("a")
    attempt = updates.step_ended("a", had_gradient=True)
    assert attempt is not None
    assert (attempt.outcome, attempt.closures, attempt.losses) == (Outcome.APPLIED, 2, (3.0,))


def test_what_the_scaler_did_not_step_is_not_discarded_by_the_next_clearing() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["a"])
    assert outcomes(updates.skipped("a"), updates.cleared("a")) == [Outcome.SKIPPED_BY_SCALER]


def test_what_waits_at_the_end_is_told() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["a"])
    assert outcomes(*updates.ended(), *updates.ended()) == [Outcome.LEFT_AT_END]


def test_an_unclipped_step_is_told_only_where_others_were_clipped() -> None:
    updates: Updates[float] = Updates()
    told = []
    for clips in (False, True, False):
        updates.backward(1.0, ["a"])
        if clips:
            updates.clipped("a", NORM)
        attempt = stepped(updates)
        assert attempt is not None
        told.append(attempt.unclipped)
    assert told == [False, False, True]


def test_a_backward_after_a_clip_is_told() -> None:
    updates: Updates[float] = Updates()
    updates.backward(1.0, ["a"])
    updates.clipped("a", NORM)
    updates.backward(1.0, ["a"])
    attempt = stepped(updates)
    assert attempt is not None
    assert attempt.added_to


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["backward", "both", "step", "clear", "skip"]), st.sampled_from("ab")
    ),
    max_size=60,
)


@given(CALLS)
@settings(max_examples=300, deadline=None)
def test_every_backward_pass_ends_at_least_once_and_no_loss_is_invented(
    calls: list[tuple[str, str]],
) -> None:
    updates: Updates[float] = Updates()
    attempts: list[Attempt[float] | None] = []
    made: list[float] = []
    for call, optimizer in calls:
        if call in ("backward", "both"):
            made.append(float(len(made)))
            updates.backward(made[-1], ["a", "b"] if call == "both" else [optimizer])
        elif call == "step":
            updates.step_begins(optimizer, closure=False)
            attempts.append(updates.step_ended(optimizer, had_gradient=False))
        elif call == "clear":
            attempts.append(updates.cleared(optimizer))
        else:
            attempts.append(updates.skipped(optimizer))
    attempts += updates.ended()
    told = [loss for attempt in attempts if attempt is not None for loss in attempt.losses]
    assert set(told) == set(made)
