"""Pipelines by the name of a task: those of transformers, and question answering."""

from __future__ import annotations

import os
from typing import Any

from prunus.errors import InputError
from prunus.hf.limits import check_vocabulary
from prunus.hf.models import PrunusModel, PrunusModelForQuestionAnswering
from prunus.hf.questions import QuestionAnsweringPipeline


def pipeline(
    task: str,
    model: PrunusModel | str | os.PathLike[str],
    tokenizer: Any = None,
    **settings: Any,
) -> Any:
    """The pipeline for a task, as `transformers.pipeline` makes it, but for a compiled model.

    `transformers.pipeline` takes compiled models too. This one checks first that model and
    tokenizer fit, and it still has "question-answering".

    Args:
        task: Such as "text-classification".
        model: A compiled model; or a name or folder, which is opened as the class for the task, and
            has the tokenizer or image processor where none is given.
        tokenizer: A tokenizer of transformers, or the name of one.
        **settings: Handed on to the pipeline.

    Raises:
        InputError: an unknown task, a model of another task, or a tokenizer of another vocabulary.
        PrunusError: as `PrunusModel.from_pretrained`, for a name.
    """
    import transformers

    model_class = _class_for(task)
    if not isinstance(model, PrunusModel):
        name = os.fspath(model)
        model = model_class.from_pretrained(name)
        if model.input_modalities == "image":
            settings.setdefault("image_processor", name)
        elif tokenizer is None:
            tokenizer = name
    if not isinstance(model, model_class):
        raise InputError(
            f"the task {task!r} needs a {model_class.__name__}, found a {type(model).__name__}: "
            "load the model with that class, or choose a task that it does: "
            f"{', '.join(model.task.pipelines)}"
        )
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer)
    if tokenizer is not None:
        check_vocabulary(model.compiled, tokenizer)
    if isinstance(model, PrunusModelForQuestionAnswering):
        return QuestionAnsweringPipeline(model, tokenizer, **settings)
    # Without a device, transformers would take the first accelerator.
    chosen = {"device": model.device, **settings}
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, **chosen)


def _class_for(task: str) -> type[PrunusModel]:
    classes = {each: cls for cls in PrunusModel.__subclasses__() for each in cls.task.pipelines}
    if task not in classes:
        raise InputError(f"unknown task {task!r}: expected one of {', '.join(sorted(classes))}")
    return classes[task]
