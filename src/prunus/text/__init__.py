"""Text in, answers out, with the library `tokenizers` alone: neither torch nor transformers.

import prunus.text
model = prunus.text.load("folder-saved-by-prunus")
model.embed(["A plum tree.", "A pruned plum tree."])
"""

from prunus.text.answers import Entity, Fill, Label
from prunus.text.model import TextModel, load
from prunus.text.questions import QuestionAnswering, Span

__all__ = ["Entity", "Fill", "Label", "QuestionAnswering", "Span", "TextModel", "load"]
