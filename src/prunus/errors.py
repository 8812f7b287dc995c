"""Every error that prunus raises on purpose. A message says what was found, expected, and what to
do.
"""


class PrunusError(Exception):
    """Base of all errors of prunus."""


class InputError(PrunusError, ValueError):
    """An argument or an input tensor that cannot be used as it is."""


class GraphError(PrunusError):
    """A graph that is not well formed: a wrong type, an unknown name, an unparsable text."""


class UnsupportedError(PrunusError):
    """A model, operator or option that prunus does not handle (yet)."""


class UnsupportedOperatorError(UnsupportedError):
    """An operator without a translation, or a weight that prunus cannot read: the rest of the model
    may still be handled.
    """


class CheckpointError(PrunusError):
    """A checkpoint (folder or hub repository) that cannot be read, or that does not fit its
    model.
    """


class ModuleChangedError(PrunusError):
    """The module behind a compiled model was changed in place, and the two share large weights."""


class SavedModelError(PrunusError):
    """A folder written by ``save_pretrained`` that is damaged, hostile or too new."""


class TargetError(PrunusError, ValueError):
    """A target description that LLVM does not know."""


class InternalError(PrunusError):
    """A mistake of prunus itself, found before it could do harm. Please report it with the model
    and the shapes of the inputs.
    """


class ProgramError(InternalError):
    """A planned program that is not well formed: an argument that is missing, a buffer that is read
    before it is written, an unparsable text.
    """
