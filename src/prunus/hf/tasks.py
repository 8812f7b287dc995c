"""The tasks that there is a class for, and how a configuration or a compiled model tells its own.

transformers is imported inside functions, and of its models only the table of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunus.frontend.structure import Structure


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is for.

    Attributes:
        name: As the hub and `transformers.pipeline` call it.
        ending: How its classes in transformers are called: Bert`ForQuestionAnswering`.
        names: The table in transformers from a type of model to the class for this task.
        auto_class: The class in transformers that picks one of these.
        output: The first part of its answers.
        answers: Parts of the names of the classes that its answers have.
        pipelines: The tasks of `pipeline` that such a model does.
    """

    name: str
    ending: str
    names: str
    auto_class: str
    output: str
    answers: tuple[str, ...]
    pipelines: tuple[str, ...]

    def has_architecture(self, architecture: str) -> bool:
        """Whether a class of transformers is one for this task, by its name.

        No class for one of these tasks has "Head" in its name, but GPT2LMHeadModel is no "Model".
        """
        return architecture.endswith(self.ending) and "Head" not in architecture

    def has_answer(self, answer: Structure) -> bool:
        """Whether the answers of a model are those of this task."""
        kind = answer.origin.rpartition(":")[2]
        return answer.keys[:1] == (self.output,) and any(part in kind for part in self.answers)

    def architecture(self, config: Mapping[str, Any]) -> str | None:
        """The class of transformers to load a checkpoint as, by its configuration; None where
        transformers has none.

        It is the one that the configuration names, where that is for this task.
        """
        own = config.get("architectures") or [""]
        if self.has_architecture(str(own[0])):
            return str(own[0])
        from transformers.models.auto import modeling_auto

        names: Mapping[str, str | tuple[str, ...]] = getattr(modeling_auto, self.names)
        found = names.get(str(config.get("model_type")))
        return found[0] if isinstance(found, tuple) else found


QUESTION_ANSWERING = Task(
    "question-answering",
    "ForQuestionAnswering",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "AutoModelForQuestionAnswering",
    "start_logits",
    ("QuestionAnswering",),
    ("question-answering",),
)
SEQUENCE_CLASSIFICATION = Task(
    "text-classification",
    "ForSequenceClassification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForSequenceClassification",
    "logits",
    ("SequenceClassifier",),
    ("text-classification", "sentiment-analysis", "zero-shot-classification"),
)
TOKEN_CLASSIFICATION = Task(
    "token-classification",
    "ForTokenClassification",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForTokenClassification",
    "logits",
    ("TokenClassifier",),
    ("token-classification", "ner"),
)
MASKED_LM = Task(
    "fill-mask",
    "ForMaskedLM",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoModelForMaskedLM",
    "logits",
    ("MaskedLM",),
    ("fill-mask",),
)
FEATURE_EXTRACTION = Task(
    "feature-extraction",
    "Model",
    "MODEL_MAPPING_NAMES",
    "AutoModel",
    "last_hidden_state",
    ("Output",),
    ("feature-extraction", "image-feature-extraction"),
)
IMAGE_CLASSIFICATION = Task(
    "image-classification",
    "ForImageClassification",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForImageClassification",
    "logits",
    ("ImageClassifier", "ForImageClassification"),
    ("image-classification",),
)
