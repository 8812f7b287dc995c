"""A small pruned encoder for question answering, as a front end would import it."""

from pathlib import Path

import numpy as np

from prunus.frontend.inputs import Input
from prunus.frontend.structure import Signature, Structure
from prunus.ir import Graph
from prunus.model import CompiledModel, Source
from prunus.passes import run_passes
from prunus.plan import make_options
from tests.graphs import (
    BATCH,
    MAX_SEQ,
    SEQ,
    Arrays,
    GraphBuilder,
    imported_attention,
    imported_mask,
)

VOCABULARY = 30


def encoder(
    *,
    layers: int = 2,
    width: int = 24,
    heads: int = 3,
    inner: int = 40,
    density: float = 0.3,
    vocabulary: int = VOCABULARY,
) -> Graph:
    """The encoder after all passes; its outputs are `[batch, seq]` logits of start and end."""
    b, random = GraphBuilder(), np.random.default_rng(0)

    def normal(name: str, *shape: int) -> str:
        return b.constant(name, random.standard_normal(shape).astype(np.float32) / 4)

    def linear(name: str, x: str, outputs: int, inputs: int) -> str:
        weight = random.standard_normal((outputs, inputs)) * (
            random.random((outputs, inputs)) < density
        )
        scaled = (weight / np.sqrt(inputs * density)).astype(np.float32)
        w = b.constant(f"{name}.weight", scaled)
        return b.add("linear", x, w, normal(f"{name}.bias", outputs), activation="none")

    def norm(name: str, x: str) -> str:
        gamma = b.constant(f"{name}.weight", np.linspace(0.5, 2, width, dtype=np.float32))
        return b.add("layer_norm", x, gamma, normal(f"{name}.bias", width), eps=1e-12)

    ids, padding = (
        b.input("input_ids", "i64[batch, seq]"),
        b.input("attention_mask", "i64[batch, seq]"),
    )
    places = b.constant("position_ids", np.arange(MAX_SEQ)[np.newaxis])
    places = b.add("slice", places, axis=1, start=0, stop=SEQ, step=1)
    words = b.add("embedding", normal("words", vocabulary, width), ids)
    x = b.add("add", words, b.add("embedding", normal("places", MAX_SEQ, width), places))
    x = norm("norm", x)
    mask = imported_mask(b, padding)
    for n in range(layers):
        q, k, v = (linear(f"layer.{n}.{part}", x, width, width) for part in "qkv")
        mixed = imported_attention(b, q, k, v, mask, heads, (width // heads) ** -0.5)
        out = linear(f"layer.{n}.out", mixed, width, width)
        x = norm(f"layer.{n}.norm", b.add("add", out, x))
        up = b.add("gelu", linear(f"layer.{n}.up", x, inner, width))
        down = linear(f"layer.{n}.down", up, width, inner)
        x = norm(f"layer.{n}.norm2", b.add("add", down, x))
    logits = linear("span", x, 2, width)
    parts = [b.add("slice", logits, axis=2, start=i, stop=i + 1, step=1) for i in (0, 1)]
    spans = [b.reshape(part, BATCH, SEQ) for part in parts]
    return run_passes(b.graph(*spans, limits={"seq": MAX_SEQ}))


SIGNATURE = Signature(
    (Input("input_ids", "i64"), Input("attention_mask", "i64")),
    Structure("tuple", parts=(Structure("tensor"),) * 2),
    ("input_ids", "attention_mask"),
)
"""How the encoder is called: by position or name."""


def save_encoder(folder: Path) -> Path:
    """The encoder as a saved model in a new folder, which is returned."""
    model = CompiledModel(encoder(), SIGNATURE, make_options(), Source("encoder"))
    model.save_pretrained(folder)
    return folder


def sentences(batch: int, seq: int, seed: int = 0) -> Arrays:
    """Ids, and a padding mask with holes that leaves the first token."""
    random = np.random.default_rng(seed)
    mask = (random.random((batch, seq)) < 0.7).astype(np.int64)
    mask[:, 0] = 1
    return {"input_ids": random.integers(0, VOCABULARY, (batch, seq)), "attention_mask": mask}
