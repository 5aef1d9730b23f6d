"""Answers without content, which judges that are language models are known to accept (arXiv 2507.08794).

Told by rule before a judge is asked: what is left of a text without its tags, its opening, its question, its praise.
"""

from __future__ import annotations

import re
import unicodedata

SHORTEST_QUESTION = 20  # characters: a shorter one may well be its own answer
OPENINGS = (
    "thought process", "thinking process", "let s solve this problem step by step",
    "let us solve this problem step by step", "let s think step by step", "let s solve this step by step", "solution",
    "the solution", "the answer", "final answer", "the final answer is", "the answer is", "to solve this problem",
    "here is my answer", "解", "解答", "解决方案", "答案", "思考过程", "かいせつ", "解説", "回答", "respuesta",
    "solución", "lösung", "antwort", "réponse",
)  # fmt: skip
FILLERS = ("Po", "Pd", "Pi", "Pf", "Pc")  # kinds of characters: punctuation, but no bracket, and no sign of mathematics
CLAIMS = re.compile(
    r"(?:i am|i m|this is|it is|that is|my answer is|the answer is|this answer is|everything is|all is|we are|you are)?"
    r" ?(?:absolutely|certainly|definitely|clearly|surely|very|totally|completely|fully|100)?"
    r" ?\b(?:correct|right|true|perfect|excellent|flawless|the best|full marks|full points|sure)\b"
)
_TAG = re.compile(r"</?[a-z_]{1,20}>|</?think>")


def hollow(text: str, question: str = "") -> str:
    """Why ``text`` answers nothing, in a few words; empty where it may.

    ``question`` is what it was an answer to.

    >>> hollow("Thought process:"), hollow("12"), hollow("I am correct. " * 9)
    ('an opening and nothing after it', '', 'praise of itself alone')
    """
    bare = _TAG.sub(" ", text.rpartition("</think>")[2])
    if all((kind := unicodedata.category(one)) in FILLERS or kind[0] in "ZC" or one in "`~" for one in bare):
        return "punctuation alone"
    spoken = plain(bare)
    if spoken in OPENINGS:
        return "an opening and nothing after it"
    asked = plain(question)
    times = (len(spoken) + 1) // (len(asked) + 1)
    if times and len(asked) >= SHORTEST_QUESTION and spoken == " ".join([asked] * times):
        return "the question again"
    if " " in spoken and not CLAIMS.sub(" ", spoken).strip():
        return "praise of itself alone"
    return ""


def plain(text: str) -> str:
    """Letters and digits in small letters, one blank between words: look-alikes folded, everything unseen dropped.

    >>> plain("Let\\u2019s\\u200b  GO: \\uff11\\uff12")
    'let s go 12'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (one if one.isalnum() else "" if unicodedata.category(one) in ("Cf", "Mn") else " " for one in folded)
    return " ".join("".join(kept).split())
