"""How much faster than PyTorch each family runs: models of base size with random weights, 90 % of
the linear weights zero, a text of 128 tokens or one image.

A plain family is attention and feed-forward networks, all of it in kernels; the others compute some
of each layer on the interpreter, and the last column counts those steps.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from harness import figure, header, make_parser, medians, say, table, write_json

import prunus
from prunus.frontend.examples import read_example
from prunus.runtime.program import NumpyStep


@dataclass(frozen=True)
class Family:
    """A model: its class, its configuration, and the options that make that the base size."""

    model: str
    config: str
    options: dict[str, Any]
    is_plain: bool = True


FAMILIES = (
    Family("BertModel", "BertConfig", {}),
    Family("XLMRobertaModel", "XLMRobertaConfig", {"vocab_size": 30522}),
    Family("AlbertModel", "AlbertConfig",
           {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}),
    Family("MPNetModel", "MPNetConfig", {}),
    Family("MobileBertModel", "MobileBertConfig", {}),
    Family("SqueezeBertModel", "SqueezeBertConfig", {}),
    Family("ModernBertModel", "ModernBertConfig", {}),
    Family("NomicBertModel", "NomicBertConfig", {}),
    Family("LayoutLMModel", "LayoutLMConfig", {}),
    Family("T5EncoderModel", "T5Config",
           {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}),
    Family("CLIPTextModel", "CLIPTextConfig", {"max_position_embeddings": 128}),
    Family("ViTModel", "ViTConfig", {}),
    Family("DeiTModel", "DeiTConfig", {}),
    Family("Dinov2Model", "Dinov2Config", {"image_size": 224}),
    Family("BeitModel", "BeitConfig", {"use_relative_position_bias": True}),
    Family("CLIPVisionModel", "CLIPVisionConfig", {"patch_size": 16}),
    Family("SiglipVisionModel", "SiglipVisionConfig", {}),
    Family("DebertaV2Model", "DebertaV2Config",
           {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072, "vocab_size": 30522, "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "layer_norm", "share_att_key": True,
            "position_buckets": 256, "position_biased_input": False, "type_vocab_size": 0},
           is_plain=False),
    Family("ConvBertModel", "ConvBertConfig", {}, is_plain=False),
    Family("SwinModel", "SwinConfig",
           {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
           is_plain=False),
)  # fmt: skip

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "embedding_size": 32, "intra_bottleneck_size": 32, "image_size": 32, "patch_size": 8,
    "position_buckets": 8, "max_position_embeddings": 132,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip


def make_module(family: Family, zeros: float, *, is_tiny: bool) -> Any:
    """The model with random weights and zeros, in eval mode."""
    config_class = getattr(transformers, family.config)
    options = dict(family.options)
    if is_tiny and family.model != "SwinModel":
        known = vars(config_class())
        options |= {name: value for name, value in TINY.items() if name in known}
    torch.manual_seed(0)
    module = getattr(transformers, family.model)._from_config(config_class(**options))
    return prunus.simulate(module.eval(), zeros, seed=0)


def make_inputs(module: Any, length: int) -> dict[str, torch.Tensor]:
    """One text of so many tokens, or one image."""
    inputs = {name: tensor[:1] for name, tensor in read_example(module, None).tensors.items()}
    if "pixel_values" in inputs:
        return inputs
    ids = torch.randint(3, min(module.config.vocab_size, 30000), (1, length))
    ids[0, -1] = module.config.vocab_size - 1  # where CLIP reads its pooled answer
    like = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
    rest = {
        name: tensor[:, :1].expand(1, length, *tensor.shape[2:]).contiguous()
        for name, tensor in like.items()
    }
    return {"input_ids": ids, **rest}


def measure(family: Family, arguments: Any) -> dict[str, Any]:
    """One family's times and the largest difference of its answers."""
    say(family.model)
    module = make_module(family, arguments.zeros, is_tiny=arguments.size == "tiny")
    inputs = make_inputs(module, arguments.length)
    model = prunus.compile(module, threads=arguments.threads)

    def reference() -> Any:
        with torch.inference_mode():
            return module(**inputs)

    expected, found = reference()[0], model(**inputs)[0]
    times = medians({"prunus": partial(model, **inputs), "torch": reference}, arguments)
    interpreted = sum(isinstance(step, NumpyStep) for step in model.program.steps)
    return {
        "model": family.model,
        "is_plain": family.is_plain,
        "prunus_ms": 1e3 * times["prunus"],
        "torch_ms": 1e3 * times["torch"],
        "speedup": times["torch"] / times["prunus"],
        "difference": float((found - expected).abs().max() / expected.abs().max().clamp(min=1)),
        "interpreted": interpreted,
    }


def main() -> None:
    """Print a row for each family."""
    parser = make_parser(__doc__, rounds=3, seconds=0.4)
    parser.add_argument("--zeros", type=float, default=0.9, help="share of the linear weights")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--models", nargs="+", help="only these classes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for family in FAMILIES:
        if arguments.models is None or family.model in arguments.models:
            rows.append(measure(family, arguments))
            gc.collect()
    what = f"{arguments.size} size, {100 * arguments.zeros:g} % zeros, 1 × {arguments.length}"
    print(header(f"{what} tokens or one image", arguments, ("torch", "transformers")) + "\n")
    titles = ("model", "prunus ms", "PyTorch ms", "speed-up", "difference", "NumPy steps")
    cells = [
        (row["model"], figure(row["prunus_ms"]), figure(row["torch_ms"]), f"{row['speedup']:.1f}×",
         f"{row['difference']:.0e}", str(row["interpreted"]))
        for row in rows
    ]  # fmt: skip
    print(table(titles, cells))
    write_json({"rows": rows}, arguments)


if __name__ == "__main__":
    main()
