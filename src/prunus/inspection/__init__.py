"""What a checkpoint holds, read from its files band by band, without compiling.

`checkpoint.py` tells the tensors of a checkpoint, whatever form they lie in, `tensors.py` reads
each in bands of rows, `roles.py` says by name and shape what it is, `measuring.py` measures it, and
`saved.py` does all of this for a folder that prunus wrote. `result.py` is the answer, `text.py`
that answer for people. torch is needed for pickles alone.
"""

from prunus.inspection.inspecting import inspect
from prunus.inspection.result import Inspection, TensorReport, Total

__all__ = ["Inspection", "TensorReport", "Total", "inspect"]
