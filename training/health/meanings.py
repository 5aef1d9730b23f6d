"""What every health figure means, and where to look when it is past its limit. Words only; imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple

from sparring.scenarios.health_spec import STEP


class Meaning(NamedTuple):
    """``family`` is what it is a sign of, ``says`` completes "NAME: ...", ``look`` is what to do next."""

    family: str
    says: str
    look: str


MEANINGS: dict[str, Meaning] = {
    "entropy": Meaning(
        "collapse", "mean entropy of sampled tokens, in nats",
        "low is fine in a role that earns nearly all it can; see entropy_unpaid",
    ),
    "entropy_unpaid": Meaning(
        "collapse", "mean entropy, in nats, of tokens in turns that earned no more than half",
        "it is sure of what earns nothing: compare the samples of one task (sparring show RUN --worst); add an entropy "
        "term, raise the temperature or lower training.optimizer.lr",
    ),
    "answer_diversity": Meaning(
        "collapse", "how different the samples of an unsolved task are, 0 when all are the same",
        "read one group (sparring show RUN --worst): groups that are all alike teach nothing; raise the temperature, "
        "or give harder and easier tasks",
    ),
    "duplicate_proposals": Meaning(
        "collapse", "share of proposed tasks that were set before",
        "read proposals (sparring tail RUN --role ...): reward novelty, or widen the curriculum's arms",
    ),
    "repetition": Meaning(
        "collapse", "share of a turn's 8-token pieces that the turn said before",
        "read a long turn (sparring tail RUN --whole): lower max_tokens, or punish overlong turns (soft_overlong)",
    ),
    "length": Meaning("collapse", "tokens per turn", "see length_change"),
    "length_change": Meaning(
        "collapse", "tokens per turn against the first five steps",
        "see what length earns (sparring why RUN/STEP); overlong turns: soft_overlong; brief ones: a reward may ask "
        "for brevity",
    ),
    "judge_false": Meaning(
        "hacking", "share of wrong attempts that earn more than half of the reward",
        "read what was paid (sparring show RUN --best): tighten the rubric or the judge, or weigh the verifier more",
    ),
    "judge_gap": Meaning(
        "hacking", "share of the possible reward paid, less the share of attempts that are right",
        "above 0 the reward pays for something else than being right: sparring show RUN --best",
    ),
    "verdict_false": Meaning(
        "hacking", "share of wrong attempts that a judging role calls right",
        "see balanced/ROLE of the same steps; a judge that believes everything cannot pay anybody",
    ),
    "length_bias": Meaning(
        "hacking", "how much reward follows length other than through being right, from -1 to 1",
        "compare the longest and the shortest answers of one task (sparring why RUN/STEP): a rubric that counts words "
        "teaches words",
    ),
    "duplicate_answers": Meaning(
        "hacking", "share of attempts paid, without being right, for the words said to other tasks too",
        "read the best episodes (sparring show RUN --best): one text that satisfies the judge whatever is asked",
    ),
    "spoof": Meaning(
        "hacking", "share of attempts that meddle with their grading",
        "read them (sparring sql on v_turns, scores LIKE 'verifier%'): a broken protocol or words for the grader; "
        "what they earned says whether the grader holds",
    ),
    "audit": Meaning(
        "hacking", "what the best cheap answer surely earns on the step's own tasks",
        "see what cheap answers earn (sparring check): mend the verifier, or refuse such tasks",
    ),
    "format_only": Meaning(
        "hacking", "share of all reward that went to form alone",
        "nothing but the output contract is learnt: lower the weight of format, or give easier tasks",
    ),
    "forgetting": Meaning(
        "forgetting", "held-out accuracy lost since its best, beyond two standard errors",
        "see the curve (sparring show RUN): practise the arm more (curriculum), lower the step size, or add a KL term; "
        "checkpoints of better steps may still be there",
    ),
    "truncated_turns": Meaning("lost", "share of turns cut at max_tokens", "see truncated_tokens"),
    "truncated_tokens": Meaning(
        "lost", "share of tokens in turns that were cut at max_tokens",
        "raise sampling.max_tokens of the role, or punish overlong turns (soft_overlong)",
    ),
    "context_overflow": Meaning(
        "lost", "share of turns that the model's context had no more room for",
        "shorten prompts and tool outputs, or take a model with a longer context",
    ),
    "untrained_tokens": Meaning(
        "lost", "share of sampled tokens that taught nothing",
        "groups are all right or all wrong (sparring show RUN): let the curriculum move to tasks it solves half of "
        "the time",
    ),
    "invalid": Meaning(
        "lost", "share of scores that could not be used",
        "sparring show RUN lists the causes: a judge that is down, a sandbox that fails, answers no parser reads",
    ),
    "earned": Meaning("starvation", "mean share of what the role can earn", "see starved"),
    "pull": Meaning("starvation", "share of the absolute pull on the policy", "see starved"),
    "trained": Meaning("starvation", "share of the tokens trained", "see starved"),
    "starved": Meaning(
        "starvation", "steps in a row in which the role pulled nothing while others did, earning below 0.9 of its most",
        "see its groups (sparring why RUN/STEP): all equal, dropped by a stage, or never asked to speak",
    ),
}  # fmt: skip


def meaning(name: str) -> Meaning:
    """What a figure of this whole name (``entropy/solver``) means."""
    if name.startswith(STEP):
        return Meaning("mechanism", name.removeprefix(STEP), "see its history, and what it tells: sparring health RUN")
    return MEANINGS[name.partition("/")[0]]


def note(name: str, value: float, bound: float, above: bool) -> str:
    """An alarm in one sentence: what is, or just was, past which bound, and what to look at."""
    found = meaning(name)
    past = value > bound if above else value < bound
    whom = f" ({name.partition('/')[2]})" if "/" in name and not name.startswith(STEP) else ""
    side = f"{'' if past else 'was '}{'above' if above else 'below'} {bound:g}"
    return f"{found.says}{whom} is {value:.3g}, {side}; {found.look}"
