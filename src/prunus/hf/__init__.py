"""prunus in the form of transformers and optimum: one changed line in a program that has a model.

from prunus.hf import PrunusModelForSequenceClassification, pipeline
model = PrunusModelForSequenceClassification.from_pretrained("my-pruned-bert")
pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
"""

from prunus.hf.models import (
    PrunusModel,
    PrunusModelForFeatureExtraction,
    PrunusModelForImageClassification,
    PrunusModelForMaskedLM,
    PrunusModelForQuestionAnswering,
    PrunusModelForSequenceClassification,
    PrunusModelForTokenClassification,
)
from prunus.hf.pipelines import pipeline
from prunus.hf.questions import QuestionAnsweringPipeline

__all__ = [
    "PrunusModel",
    "PrunusModelForFeatureExtraction",
    "PrunusModelForImageClassification",
    "PrunusModelForMaskedLM",
    "PrunusModelForQuestionAnswering",
    "PrunusModelForSequenceClassification",
    "PrunusModelForTokenClassification",
    "QuestionAnsweringPipeline",
    "pipeline",
]
