"""35 wrong solutions that lie about it. The task: ``f(x) == [x, x * x + 1]``, asked for several x from outside.

Each must fail, and for a reason of its own making: never as our failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Cases = tuple[tuple[Any, Any], ...]
CASES: Cases = tuple((x, [x, x * x + 1]) for x in (0, 1, 2, 7))
RIGHT = "def f(x): return [x, x * x + 1]"

_FRAME = "(7).to_bytes(4, 'big') + bytes(6) + b'\\0' + b'N'"  # a reply with an id of zeros


@dataclass(frozen=True)
class Spoof:
    """``source`` defines f; ``cases`` are the questions and right answers where they are not the usual ones."""

    name: str
    source: str
    cases: Cases = field(default=CASES)


_LIES: dict[str, str] = {
    "exit_zero": "import sys\ndef f(x): sys.exit(0)",
    "exit_zero_at_once": "import os\nos._exit(0)",
    "exit_hard": "import os\ndef f(x): os._exit(0)",
    "system_exit_carries_answer": "def f(x): raise SystemExit([x, x * x + 1])",
    "stop_iteration_carries_answer": "def f(x): raise StopIteration([x, x * x + 1])",
    "atexit_prints_passed": "import atexit\natexit.register(lambda: print('all tests passed'))\ndef f(x): return 0",
    "excepthook_prints_passed": "import sys\nsys.excepthook = lambda *_: print('passed')\ndef f(x): raise ValueError",
    "equal_to_everything": "class A:\n  def __eq__(self, o): return True\n  __hash__ = None\ndef f(x): return A()",
    "int_subclass": (
        "class I(int):\n  def __eq__(self, o): return True\n  __hash__ = int.__hash__\ndef f(x): return [I(x), I(0)]"
    ),
    "str_subclass": (
        "class S(str):\n  def __eq__(self, o): return True\n  __hash__ = str.__hash__\ndef f(x): return S()"
    ),
    "float_subclass": "class F(float):\n  def __sub__(self, o): return 0.0\n  __rsub__ = __sub__\ndef f(x): return F()",
    "list_subclass": (
        "class L(list):\n  def __eq__(self, o): return True\n  def __len__(self): return 2\n"
        "  def __iter__(self): return iter(self.want)\n  want = [1, 2]\ndef f(x): return L([x, x * x + 1])"
    ),
    "dict_subclass": "class D(dict):\n  def __getitem__(self, k): return k\ndef f(x): return D()",
    "metaclass_lies": (
        "class M(type):\n  __instancecheck__ = __subclasscheck__ = __eq__ = lambda *a: True\n"
        "  __hash__ = type.__hash__\n"
        "class A(metaclass=M):\n  __class__ = list\ndef f(x): return A()"
    ),
    "reduce_carries_code": (
        "class R:\n  def __reduce__(self): return (print, ('passed',))\n  __getstate__ = __reduce_ex__ = __reduce__\n"
        "def f(x): return R()"
    ),
    "properties_raise": (
        "class P:\n  @property\n  def __dict__(self): raise SystemExit(0)\n"
        "  def __getattr__(self, n): raise SystemExit(0)\n"
        "  def __repr__(self): raise SystemExit(0)\ndef f(x): return P()"
    ),
    "gc_scan_for_expected": (
        "import gc\ndef f(x):\n  for o in gc.get_objects():\n"
        "    if type(o) is list and len(o) == 2 and o[0] == x and type(o[1]) is int and o[1] > x: return o\n"
        "  return [x, None]"
    ),
    "frame_walk_for_expected": (
        "import sys\ndef f(x):\n  frame = sys._getframe()\n  while frame:\n"
        "    for v in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "      if type(v) in (list, tuple) and len(v) == 2 and v[0] == x and v[1:] != [x]: return list(v)\n"
        "    frame = frame.f_back\n  return 0"
    ),
    "constants_of_caller": (
        "import sys\ndef f(x):\n  frame = sys._getframe(1)\n"
        "  return [x, *[c for c in frame.f_code.co_consts if type(c) is int and c > x][:1]]"
    ),
    "forged_writes_on_every_descriptor": (
        f"import os\ndef f(x):\n  for n in range(1, 256):\n    try: os.write(n, {_FRAME})\n"
        "    except OSError: pass\n  return 0"
    ),
    "forged_reply_with_the_right_id": (  # it finds its own request's id; its true reply then is one too many
        "import os, sys\ndef f(x):\n  frame = sys._getframe()\n  while frame and 'identity' not in frame.f_locals:\n"
        "    frame = frame.f_back\n"
        "  os.write(3, b'\\0\\0\\0\\x08' + frame.f_locals['identity'] + b'\\0T'); return 0"
    ),
    "prints_the_marker": "def f(x):\n  print('OK'); print('all tests passed'); print({'passed': True}); return True",
    "deep_nesting": "a = []\nfor _ in range(100000): a = [a]\ndef f(x): return a",
    "result_of_300_mb": "def f(x): return b'x' * (200 << 20)",
    "result_holds_itself": "a = [1]\na.append(a)\ndef f(x): return a",
    "integer_of_5000000_digits": "def f(x): return [x, 1 << 17_000_000]",
    "generator": "def f(x):\n  yield x\n  yield x * x + 1",
    "coroutine": "async def f(x): return [x, x * x + 1]",
    "late_write_by_timer": (
        f"import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os.write(3, {_FRAME}))\n"
        "def f(x):\n  signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001); return 0"
    ),
    "replay_of_an_earlier_reply": (  # the first question is answered truly, and that reply sent again for the others
        "import os\nkept, write = [], os.write\ndef spy(n, data):\n  kept.append(bytes(data)); return write(n, data)\n"
        "os.write = spy\ndef f(x):\n  if kept: write(3, kept[0])\n  return [0, 1]"
    ),
    "patched_builtins_and_modules": (
        "import builtins, json, struct, sys\nclass T(type(json)):\n"
        "  def __getattr__(self, n): return lambda *a, **k: True\n"
        "json.dumps = struct.pack = lambda *a, **k: b'passed'\nfor n in list(sys.modules):\n  sys.modules[n] = T(n)\n"
        "builtins.type = builtins.len = builtins.isinstance = lambda *a: True\ndef f(x): return 0"
    ),
}
_TYPES: dict[str, tuple[str, Cases]] = {
    "nan_for_a_number": ("def f(x): return float('nan')", ((1, 2.0), (2, 0.0))),
    "bool_for_int_and_float_for_int": ("def f(x): return [True, 1.0][x]", ((0, 1), (1, 1))),
    "bytes_for_str": ("def f(x): return b'a'", (("a", "a"),)),
    "tuple_for_list": ("def f(x): return (x, x * x + 1)", CASES),
}
SPOOFS = [
    *[Spoof(name, source) for name, source in _LIES.items()],
    *[Spoof(name, source, cases) for name, (source, cases) in _TYPES.items()],
]
