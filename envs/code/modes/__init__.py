"""What the code environment may ask: one small class per mode, found here by name."""

from __future__ import annotations

from .base import Mode
from .find_input import FindInput
from .function import Function
from .notebook import Notebook
from .predict_output import PredictOutput
from .repair import Repair
from .write_program import WriteProgram

MODES: dict[str, type[Mode]] = {
    mode.name: mode for mode in (PredictOutput, FindInput, WriteProgram, Function, Repair, Notebook)
}
