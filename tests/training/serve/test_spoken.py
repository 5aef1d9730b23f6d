"""What was sampled as text: cut at stop strings, and told piece by piece without a word that is taken back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import Completion
from sparring.envs.types import Finish, Span
from sparring.training.engines.render import ChatRenderer
from sparring.training.serve.endings import joined
from sparring.training.serve.spoken import Trickle, choice, number, shortened

TEXTS = st.lists(st.sampled_from([*b"abc <>", 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xFF, 260]), min_size=1, max_size=24)
STOPS = st.lists(st.sampled_from(["a", "ab", "abc", "c a", "€", ">"]), max_size=3)


def done(ids: list[int], finish: Finish = Finish.LENGTH) -> Completion:
    return Completion(tuple(ids), tuple(-float(at) for at in range(len(ids))), finish)


@given(TEXTS, STOPS)
def test_pieces_are_together_the_text_of_the_whole(renderer: ChatRenderer, ids: list[int], stops: list[str]) -> None:
    trickle, said = Trickle(renderer, stops), ""
    for token in ids:
        trickle.hear(token)
        said += trickle.piece()
    one = choice(done(ids), stops, renderer)
    assert said + trickle.rest(one) == one.text
    assert not any(stop in one.text for stop in stops)


@given(TEXTS, STOPS)
def test_a_cut_keeps_the_tokens_up_to_the_end_of_the_stop_string(
    renderer: ChatRenderer, ids: list[int], stops: list[str]
) -> None:
    whole, one = done(ids), choice(done(ids), stops, renderer)
    kept = one.done.token_ids
    assert kept == whole.token_ids[: len(kept)] and one.done.logprobs == whole.logprobs[: len(kept)]
    if one.reason == "stop":
        assert any(stop in renderer.decode(kept) for stop in stops)
        assert not any(stop in renderer.decode(kept[:-1]) for stop in stops)
        assert one.done.finish is Finish.LENGTH  # the model did not end it itself
    else:
        assert one.text == renderer.decode(ids) and one.done == whole


def test_versions_are_cut_and_joined_with_the_tokens() -> None:
    spans = (Span(1, 0, 2), Span(2, 2, 4))
    whole = Completion((1, 2, 3, 4), (0.0,) * 4, Finish.STOP, 1, "e", spans)
    assert shortened(whole, 2).spans == () and shortened(whole, 3).spans == (Span(1, 0, 2), Span(2, 2, 3))
    both = joined(whole, Completion((5,), (0.0,), Finish.LENGTH, 2, "e"))
    assert (both.token_ids, both.spans, both.finish) == ((1, 2, 3, 4, 5), (Span(1, 0, 2), Span(2, 2, 5)), Finish.LENGTH)
    assert joined(whole, Completion.aborted("gone")).finish is Finish.ABORT


def test_a_log_prob_that_is_not_known_is_null() -> None:
    assert [number(value) for value in (-1.5, math.nan, -math.inf)] == [-1.5, None, None]
