"""A recorded episode by itself: whatever order its turns come in, every prompt is made of the tokens before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import Completion, Message
from sparring.envs.types import Ending, Finish, Validity
from sparring.training.engines.render import ChatRenderer
from sparring.training.serve.recorded import Recorded
from sparring.training.serve.refusals import Refusal

ACTS = st.lists(
    st.tuples(st.sampled_from(["again", "on", "back", "anew", "altered"]), st.integers(0, 10**6)), max_size=8
)


def episode() -> Recorded:
    return Recorded(key="k", role="solver", index=0, pick=0, parameters={})


def speak(one: Recorded, role: str, messages: list[Message], renderer: ChatRenderer, seed: int) -> int:
    """A turn of tokens that no tokenizer would make of the text they spell."""
    heard = one.hear(role, messages, renderer)
    rng = np.random.Generator(np.random.Philox(seed))
    ids = [int(token) for token in rng.integers(0, 200, int(rng.integers(1, 9)))]
    finish = Finish.STOP if rng.random() < 0.5 else Finish.LENGTH
    ids = [*ids, 260] if finish is Finish.STOP else ids
    done = Completion(tuple(ids), (-1.0,) * len(ids), finish, 0, "test")
    one.forks += heard.forked
    return one.say(heard, done, renderer.decode(ids), seed, renderer)


def history(one: Recorded, index: int) -> list[Message]:
    """What a client holds after a turn."""
    return [*one.reads[index].messages, Message("assistant", one.replies[index])]


@given(ACTS)
def test_every_prompt_is_the_tokens_of_the_turns_before_it(renderer: ChatRenderer, acts: list[tuple[str, int]]) -> None:
    one, forks = episode(), 0
    for number, (act, seed) in enumerate([("anew", 1), *acts]):
        turns = len(one.book.turns)
        role = ("solver", "critic")[seed % 2]
        mine = [at for at in range(turns) if one.reads[at].role == role]
        news = [Message("user", f"say {number}")]
        if act == "anew" or not mine:
            speak(one, role, news, renderer, seed)
        elif act == "again":
            speak(one, role, list(one.reads[mine[-1]].messages), renderer, seed)
        elif act == "altered":
            told = [*one.reads[mine[-1]].messages, Message("assistant", f"I never said that {number}"), *news]
            speak(one, role, told, renderer, seed)
            forks += 1
        else:
            speak(one, role, [*history(one, mine[-1 if act == "on" else seed % len(mine)]), *news], renderer, seed)
    whole = one.frozen()
    assert one.forks == forks
    for turn in whole.turns:
        prompt: tuple[int, ...] = ()
        chain, at = [], turn.follows
        while at is not None:
            chain.append(whole.turns[at])
            at = whole.turns[at].follows
        for before in reversed(chain):
            assert before.context is not None
            prompt += before.context.token_ids + before.token_ids
        assert turn.context is not None
        assert prompt + turn.context.token_ids == one.reads[turn.index].prompt_ids
        assert turn.parent is None or turn.parent < turn.index
        assert turn.follows is None or turn.follows in [above.index for above in whole.ancestors(turn.index)]


def test_the_same_prompt_again_is_another_sample_and_a_way_back_is_a_branch(renderer: ChatRenderer) -> None:
    one, ask = episode(), [Message("user", "say")]
    first = speak(one, "solver", ask, renderer, 1)
    second = speak(one, "solver", ask, renderer, 2)
    on = speak(one, "solver", [*history(one, first), Message("user", "on")], renderer, 3)
    back = speak(one, "solver", [*history(one, first), Message("user", "else")], renderer, 4)
    turns = one.frozen().turns
    assert [turns[at].parent for at in (first, second, on, back)] == [None, None, first, first]
    assert [turns[at].sample for at in (first, second)] == [0, 1] and one.forks == 0


def test_a_role_that_speaks_between_stands_between(renderer: ChatRenderer) -> None:
    one = episode()
    tried = speak(one, "solver", [Message("user", "say")], renderer, 1)
    judged = speak(one, "critic", [Message("user", "is it right?")], renderer, 2)
    revised = speak(one, "solver", [*history(one, tried), Message("user", "no")], renderer, 3)
    turns = one.frozen().turns
    assert (turns[judged].parent, turns[revised].parent, turns[revised].follows) == (tried, judged, tried)


def test_white_space_at_the_ends_of_what_was_said_does_not_count(renderer: ChatRenderer) -> None:
    one = episode()
    heard = one.hear("solver", [Message("user", "say")], renderer)
    ids = (*b" word \n", 260)
    one.say(heard, Completion(ids, (0.0,) * len(ids), Finish.STOP), " word \n", 0, renderer)
    trimmed = [Message("user", "say"), Message("assistant", "word"), Message("user", "on")]
    further = one.hear("solver", trimmed, renderer)
    assert further.follows == 0 and further.prompt_ids[: len(heard.prompt_ids) + len(ids)] == heard.prompt_ids + ids


def test_scores_go_to_the_last_turn_or_to_each(renderer: ChatRenderer) -> None:
    one, ask = episode(), [Message("user", "say")]
    speak(one, "solver", ask, renderer, 1)
    speak(one, "solver", ask, renderer, 2)
    one.end([{"verifier": 1.0}, {"verifier": None, "style": 0.5}])
    whole = one.frozen()
    assert [score.value for score in whole.scores[0]] == [1.0]
    assert [(score.name, score.validity) for score in whole.scores[1]] == [
        ("verifier", Validity.INVALID),
        ("style", Validity.VALUED),
    ]
    assert whole.ending is Ending.DONE


def test_an_episode_takes_no_scores_for_turns_it_does_not_have(renderer: ChatRenderer) -> None:
    one = episode()
    with pytest.raises(Refusal, match="no turn to score"):
        one.end({"verifier": 1.0})
    speak(one, "solver", [Message("user", "say")], renderer, 1)
    with pytest.raises(Refusal, match="2 are given and the episode has 1 turns"):
        one.end([{"verifier": 1.0}, None])
    one.busy = 1
    with pytest.raises(Refusal, match="being sampled"):
        one.end({"verifier": 1.0})
    assert not one.ended


def test_an_episode_that_never_ended_or_failed_is_broken(renderer: ChatRenderer) -> None:
    lost, failed, role = episode(), episode(), "solver"
    for one in (lost, failed):
        speak(one, role, [Message("user", "say")], renderer, 1)
    failed.end({}, "the tool crashed")
    assert [(one.frozen("gone").ending, one.frozen("gone").error) for one in (lost, failed)] == [
        (Ending.BROKE, "gone"),
        (Ending.BROKE, "the tool crashed"),
    ]


def test_the_key_is_in_no_text_about_the_episode() -> None:
    whole: Any = Recorded(key="episode-secret", role="solver", index=0, pick=0, parameters={})
    assert "episode-secret" not in repr(whole)
