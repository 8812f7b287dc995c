"""What transformers is told of prunus, and what prunus has transformers import."""

from __future__ import annotations

import functools
import re
from importlib import import_module

from prunus.frontend.structure import Structure
from prunus.hf.tasks import Task

_OUTPUT_MODULES = re.compile(r"transformers\.(modeling_outputs|models\.(\w+)\.modeling_\2)")
"""Where transformers has the classes of answers: all that a saved model can have imported."""


@functools.cache
def make_known(name: str, task: Task) -> None:
    """Register a class of this name where transformers' pipelines look, or they log that they do
    not support it.

    It is registered for a configuration that no model has, so that nothing is ever loaded as it.
    """
    import transformers

    auto_class = getattr(transformers, task.auto_class)
    auto_class.register(_no_config(), type(name, (), {}))


@functools.cache
def _no_config() -> type:
    from transformers import PreTrainedConfig

    return type("PrunusConfig", (PreTrainedConfig,), {})


def import_answer_class(answer: Structure) -> None:
    """Import the class of a saved model's answers, so that it answers as transformers does."""
    module = answer.origin.partition(":")[0]
    if answer.record_class is None and _OUTPUT_MODULES.fullmatch(module):
        import_module(module)
