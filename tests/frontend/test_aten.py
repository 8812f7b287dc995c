"""Every op of ATen that has a translation means what it means to torch; others are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunus.errors import GraphError, UnsupportedError
from prunus.frontend.export import import_module
from tests.frontend.modules import Function, assert_same, normal, ops, run

INDEX = torch.tensor([[0, 2], [1, 1]])
NORMS = (2, 0, 1, 3.0, 0.5, -2, float("inf"), -float("inf"))
UNARY: list[Callable[[Tensor], Any]] = [
    lambda x: x.pow(2) + 2**x + x.abs() ** x + x**3,
    lambda x: ((x > 0) & (x < 1)) | ~(x == 0) ^ (x <= -1),
    lambda x: torch.where(x > 0, x, 0.0) + torch.where(x >= 0, 1, x),
    lambda x: x.clamp(-1, 1) + x.clamp(min=0) + x.clip(max=0.5),
    lambda x: x.max(-1).values + x.min(-1)[0] + x.amax(-1) + x.amin() + x.max() + x.min(),
    lambda x: x.sum() + x.mean((0, 1)) + x.sum(-1, keepdim=True) + (x > 0).sum(),
    lambda x: (x > 0).any(-1) | (x > 0).all(-1) | (x > 9).any(),
    lambda x: x.cumsum(1) + (x > 0).cumsum(0),
    lambda x: (x.softmax(0), F.log_softmax(x, -1), x[0, 0].softmax(0)),
    lambda x: (x.repeat(2, 3), x[:, 0].repeat(2, 3)),
    lambda x: x[:, 1:] + x[:, :-1] + x[:, -3:],
    lambda x: (x[..., ::2], x[1::2], x[-1], x[:, -1], x[: x.shape[0] // 2]),
    lambda x: (torch.stack([x, x * 2], 1), torch.cat([x, x.long()], -1), torch.cat([x, x])),
    lambda x: x / x.shape[0] + torch.arange(x.shape[0])[:, None],
    lambda x: torch.arange(2, 2 * x.shape[0] + 2, 2, dtype=torch.float)[:, None] * x,
    lambda x: torch.full_like(x, 3) + torch.zeros_like(x) + x.new_ones(x.shape) + x.new_zeros(4),
    lambda x: torch.full((x.shape[0], 1), 2.5) + torch.full((), x.shape[0]),
    lambda x: x.triu() + x.tril(-1),
    lambda x: (x @ x.mT, x.t() @ x, x @ torch.ones(4), torch.ones(4) @ x.T),
    lambda x: (torch.addmm(x, x @ x.T, x, beta=0.5, alpha=2), torch.bmm(x[None], x.T[None])),
    lambda x: x.exp().log().abs().sqrt().add(1).rsqrt().neg().erf().tanh().sigmoid(),
    lambda x: F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.relu(x),
    lambda x: (*torch.split(x, 1, -1), *torch.split(x, [1, 3], -1)),
    lambda x: (*x.chunk(3, -1), *x.tensor_split(2, -1)),
    lambda x: x.unbind(-1),
    lambda x: x.expand(3, *x.shape) * x.expand_as(x),
    lambda x: (x.double(), x.to(torch.int32), x.bool(), x.type_as(x.double()), x.long().float()),
    lambda x: F.layer_norm(x, (4,)) + F.layer_norm(x, (4,), torch.ones(4)),
    lambda x: F.layer_norm(x.view(-1, 2, 2), (2, 2), torch.full((2, 2), 2.0)),
    lambda x: 1 / x + (3 - x) - (x - 1) + x.reciprocal() + x.square() + torch.rsub(x, 1, alpha=2),
    lambda x: (x.view(-1), x.reshape(x.shape[0] * 2, 2), x.flatten(), x.ravel()),
    lambda x: torch.unflatten(x, 1, (2, 2)),
    lambda x: x[None, :, None, :].transpose(1, 3).permute(2, 3, 1, 0).movedim(0, 2).squeeze(2),
    lambda x: torch.minimum(x, x * 2) + torch.maximum(x, -x) + torch.max(x, x + 1),
    lambda x: (x.index_select(1, torch.tensor([0, 2])), x[:, INDEX], x[..., INDEX]),
    lambda x: x.masked_fill(x > 0, 1) + x.masked_fill(x > 0, float("-inf")).exp(),
    lambda x: (x.eq(x.long()), x.ne(0), x.long() >= 0.5, x.logical_not(), x.logical_and(x > 1)),
    lambda x: x.narrow(1, 1, 2).contiguous().clone().detach(),
    lambda x: x.sin() + x.cos() + x.sign() + x.ceil() + x.floor(),
    lambda x: (x.argmax(-1), x.argmax(0, keepdim=True), x.argmax()),
    lambda x: (x.roll(1, 1), x.roll((3, -1), (1, 1))),
    lambda x: (F.pad(x, (1, 2)), F.pad(x, (-1, 0, 0, 3), value=2.0), F.pad(x, (0, -2)) > 0),
    lambda x: F.adaptive_avg_pool1d(x[None], 1),
    lambda x: (F.normalize(x), F.normalize(x * 0), F.normalize(x, p=1), F.normalize(x, 3.5, 0)),
    lambda x: (x.norm(dim=-1), x.norm(), x[0, 0].norm(), x.norm(float("inf"), 0, keepdim=True)),
    lambda x: tuple(torch.linalg.vector_norm(x, p, dim=-1) for p in NORMS),
    lambda x: tuple(torch.linalg.vector_norm(x.relu(), p, dim=(0, 1)) for p in NORMS[1:4]),
    lambda x: torch.linalg.vector_norm(x, dim=0, keepdim=True, dtype=torch.float64),
    lambda x: (torch.linalg.norm(x), torch.linalg.norm(x, dim=-1), torch.linalg.norm(x[0], 1)),
    lambda x: (F.cosine_similarity(x, x.cos()), F.cosine_similarity(x[:, None], x[None], dim=-1)),
    lambda x: (F.cosine_similarity(x, x * 0), F.cosine_similarity(x, torch.ones(4), dim=0, eps=9)),
    lambda x: (F.cosine_similarity(x[:, :1], x), F.cosine_similarity(x, x[None, :, :1], dim=-1)),
    lambda x: (F.pairwise_distance(x, x + 1), F.pairwise_distance(x, x[0], 1, keepdim=True)),
    lambda x: (torch.linalg.vecdot(x, x[:1]), x[0].dot(x[-1]), x[0].vdot(x[-1])),
    lambda x: x + INDEX.new_zeros(4).index_put((INDEX[0],), torch.tensor(3)).float(),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(UNARY)))
def test_ops(index: int) -> None:
    module = Function(UNARY[index])
    imported = import_module(module, torch.tensor([[0.5, -1.0, 2.0, 0.25]]))
    for rows in (1, 2, 5):
        assert_same(imported, module, normal(rows, 4))
    assert not any("aten" in node.name for node in imported.graph.nodes)


CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 1), (9,)),
    (nn.Conv1d(4, 6, 1, groups=2, bias=False), (9,)),
    (nn.Conv1d(4, 6, 3, padding=1), (9,)),
    (nn.Conv1d(4, 6, 3, padding="same", dilation=2), (9,)),
    (nn.Conv1d(4, 6, 4, stride=2, groups=2), (9,)),
    (nn.Conv1d(4, 4, 3, padding=1, groups=4), (9,)),
    (nn.Conv1d(4, 8, 3, groups=4), (9,)),
    (nn.Conv2d(4, 5, 2, stride=2), (7, 6)),
    (nn.Conv2d(4, 5, (3, 2), stride=(1, 2), padding=1), (7, 6)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (7, 6)),
    (nn.Conv3d(4, 3, 2), (3, 4, 3)),
    (nn.Unfold((3, 1), padding=(1, 0)), (7, 6)),
    (nn.Unfold(2, stride=2), (7, 6)),
    (nn.AdaptiveAvgPool2d(1), (7, 6)),
    (nn.Upsample((5, 9), mode="bilinear"), (7, 6)),
    (nn.Upsample((5, 9), mode="bilinear", align_corners=True), (7, 6)),
]


@pytest.mark.parametrize("index", range(len(CONVOLUTIONS)))
def test_convolutions(index: int) -> None:
    layer, size = CONVOLUTIONS[index]
    module = Outer(layer)
    imported = import_module(module, normal(2, 4, *size), dynamic_shapes=({0: "any"},))
    assert_same(imported, module, normal(1, 4, *size))
    assert_same(imported, module, normal(3, 4, *size))


def test_a_convolution_over_any_length() -> None:
    module = Outer(
        nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(6, 6, 5, padding=2, groups=6))
    )
    imported = import_module(module, normal(2, 4, 9), dynamic_shapes=({0: "any", 2: "any"},))
    for batch, seq in ((1, 5), (3, 12)):
        assert_same(imported, module, normal(batch, 4, seq))


@pytest.mark.parametrize("order", ["fro", 1, -1, float("inf"), -float("inf")])
def test_matrix_norms(order: Any) -> None:
    """torch.export fixes the sizes of what a norm of a matrix is computed of."""
    module = Function(
        lambda x: (
            torch.linalg.matrix_norm(x, order),
            torch.linalg.matrix_norm(x, order, dim=(2, 0), keepdim=True),
            torch.linalg.norm(x, order, dim=(0, -1)),
            torch.linalg.norm(x[0], order, keepdim=True),
        )
    )
    x = normal(3, 5, 4)
    assert_same(import_module(module, x), module, x)


def test_gather_and_index() -> None:
    gather = Function(lambda x, index: x.gather(1, index))
    assert_same(import_module(gather, (normal(3, 5), INDEX)), gather, normal(2, 5), INDEX[:1])
    index = Function(lambda x, rows, columns: x[rows, :, columns])
    example = (normal(3, 5, 4), INDEX, INDEX)
    assert_same(import_module(index, example), index, normal(4, 1, 4), INDEX[:1], INDEX[1:])


FROM_END = torch.tensor([1, 2])
BACKWARDS: list[Any] = [
    lambda x: (x[torch.tensor([-1, 0])], x[:, torch.tensor([-1, 0, -5])], x[..., -FROM_END]),
    lambda x: (x[:, FROM_END, -FROM_END], x[-FROM_END, :, FROM_END], x[:, FROM_END[:, None]]),
    lambda x: (x[:, -torch.arange(1, 3)], x[torch.tensor(-1)], x[:, FROM_END.int()]),
    lambda x: x[torch.tensor([[-1], [0]]), torch.tensor([[-2, 1]])],
]


@pytest.mark.parametrize("index", range(len(BACKWARDS)))
def test_constant_indices_count_from_the_end(index: int) -> None:
    module = Function(BACKWARDS[index])
    imported = import_module(module, normal(3, 5, 4))
    for batch in (2, 3, 7):
        assert_same(imported, module, normal(batch, 5, 4))


def test_a_computed_index_does_not_count_from_the_end() -> None:
    module = Function(lambda x, ids: x[:, ids - 1])
    imported = import_module(module, (normal(3, 5), INDEX + 1))
    assert_same(imported, module, normal(3, 5), INDEX + 1)
    with pytest.raises(GraphError, match=r"is -1, outside 0…4; prunus does not count from the end"):
        run(imported, normal(3, 5), INDEX * 0)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 3, 5, 4), (2, 2, 3, 5, 4)])
def test_attention(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    module = Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options))
    imported = import_module(module, (normal(*shape),) * 3)
    assert ops(imported).count("attention") == 1
    assert_same(imported, module, *(normal(*(1,) * (len(shape) - 1), 4) for _ in range(3)))
    assert_same(imported, module, *(normal(*shape) for _ in range(3)))


@pytest.mark.parametrize("is_fixed", [False, True])
@pytest.mark.parametrize("mask", [(5, 7), (2, 1, 5, 7), (2, 3, 5, 7), (2, 1, 1, 7)])
def test_attention_with_masks(mask: tuple[int, ...], is_fixed: bool) -> None:
    """Of other numbers of keys than queries, other widths, and with heads known or not."""
    module = Function(F.scaled_dot_product_attention)
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6)
    for bias in (normal(*mask), normal(*mask) > -1):
        example = (q, k, v, bias)
        shapes = (None, (None,) * 3) if is_fixed else None
        assert_same(import_module(module, example, dynamic_shapes=shapes), module, *example)


class WrittenAttention(nn.Module):
    """Causal attention as courses teach it, with a buffer of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.register_buffer("past", torch.ones(16, 16).tril().bool(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            part.view(batch, seq, 3, width // 3).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        scores = q @ k.transpose(-2, -1) / (width // 3) ** 0.5
        scores = scores.masked_fill(~self.get_buffer("past")[:seq, :seq], float("-inf"))
        scores = scores + (1 - mask[:, None, None, :].float()) * -1e9
        joined = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, seq, width)
        answer: Tensor = self.out(joined)
        return answer


def test_attention_written_out() -> None:
    module = WrittenAttention()
    imported = import_module(module, (torch.ones(1, 1, 12), torch.ones(1, 1, dtype=torch.int64)))
    assert imported.graph.limits == {"seq": 16}
    assert "past" in imported.graph.constants
    for batch, seq in ((1, 1), (2, 7), (3, 16)):
        mask = torch.ones(batch, seq, dtype=torch.int64)
        mask[0, seq // 2 + 1 :] = 0
        assert_same(imported, module, normal(batch, seq, 12), mask)


REFUSED: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: x.tan(), r"aten.tan.default in inner \(Function\), .*modules.py:\d+ in forward"),
    (lambda x: x[:, : int(x.sum().item())], "cannot be exported|aten.item.*depends on the values"),
    (lambda x: x.nonzero(), "aten.nonzero"),
    (lambda x: x[x > 0], "depends on the values of a tensor"),
    (lambda x: x if x.sum() > 0 else -x, r"cannot be exported.*test_aten.py:\d+.*torch.where"),
    (lambda x: F.dropout(x), "dropout that also drops in eval mode.*training=self.training"),
    (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), "dropout_p=0.1"),
    (lambda x: x.max(-1)[1], "result 1 of aten.max.dim"),
    (lambda x: x * x.shape[0] ** 0.5, "a number that depends on sizes"),
    (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounding_mode='floor'"),
    (lambda x: torch.linalg.matrix_norm(x, "nuc"), "order 'nuc', which needs singular values"),
    (lambda x: torch.linalg.norm(x, 2), "order 2, which needs singular values"),
    (lambda x: x.long() | 1, "__or__ of i64"),
    (lambda x: x.view(torch.int32), "a view in another dtype"),
    (lambda x: x.to(torch.complex64).abs(), "it is complex64"),
    (lambda x: F.pad(x[None], (1, 1), mode="reflect"), "padding in the mode 'reflect'|aten"),
    (lambda x: x.roll(1), "rolling a tensor as if it were flat"),
    (lambda x: F.adaptive_avg_pool1d(x[None], 2), r"adaptive pooling to \[2\]"),
    (lambda x: x.add_(1), "writes to x"),
    (lambda x: (x, x.shape[0]), "returns .*a SymIntArgument"),
    (lambda x: {(1, 2): x}, r"a dict with the key \(1, 2\)"),
    (lambda x: object(), "cannot be exported"),
    (lambda x: x.reshape(-1, 8), "dynamic_shapes|elements"),
]


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_refusals_name_op_module_and_line(index: int, capfd: pytest.CaptureFixture[str]) -> None:
    function, message = REFUSED[index]
    module = Outer(Function(function))
    with pytest.raises(UnsupportedError, match=f"(?s){message}"):
        import_module(module, torch.ones(2, 4))
    assert capfd.readouterr().err == "", "torch's dumps are kept away"
