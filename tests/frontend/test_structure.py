"""Calls are bound and answers are built from data alone, and hostile data is refused."""

import dataclasses
import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prunus
from prunus.errors import InputError, SavedModelError, UnsupportedError
from prunus.frontend.inputs import Default, Input
from prunus.frontend.structure import MAX_NESTING, Answer, Signature, Structure
from prunus.ir import Graph, parse_type

TENSOR = Structure("tensor")
QA_OUTPUT = "transformers.modeling_outputs:QuestionAnsweringModelOutput"
QA = Structure("record", ("start_logits", "end_logits"), (TENSOR, TENSOR), QA_OUTPUT)
ENCODER = Signature(
    (
        Input("input_ids", "i64"),
        Input("attention_mask", "i64", Default("input_ids", 1)),
        Input("token_type_ids", "i64", Default("input_ids", 0)),
    ),
    QA,
    positional=("input_ids", "attention_mask", "token_type_ids", "position_ids"),
    fixed={"output_attentions": False},
)
IDS = np.array([[5, 6, 7], [8, 9, 0]])


def bound(*args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
    return ENCODER.bind(args, kwargs)[0]


def test_structure_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, prunus.frontend.structure\n"
        "assert not {'torch', 'transformers', 'llvmlite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_left_out_inputs_take_their_defaults() -> None:
    arrays = bound(input_ids=IDS)
    assert list(arrays) == ["input_ids", "attention_mask", "token_type_ids"]
    assert (arrays["attention_mask"] == 1).all() and (arrays["token_type_ids"] == 0).all()
    assert all(array.dtype == np.int64 and array.shape == (2, 3) for array in arrays.values())
    assert bound(IDS, None, token_type_ids=None).keys() == arrays.keys()


def test_a_default_may_hide_padding() -> None:
    mask = Input("attention_mask", "i64", Default("input_ids", padding=0))
    signature = Signature((Input("input_ids", "i64"), mask), TENSOR)
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature
    assert again.bind((), {"input_ids": IDS})[0]["attention_mask"].tolist() == [[1] * 3, [1, 1, 0]]
    # Versions that know only `value` must not take it for a mask of ones.
    assert "value" not in signature.to_json()["inputs"][1]["default"]


def test_ignored_arguments_and_unknown_ones() -> None:
    signature = dataclasses.replace(ENCODER, ignored=frozenset({"special_tokens_mask"}))
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature
    arrays, _ = again.bind((), {"input_ids": IDS, "special_tokens_mask": IDS})
    assert arrays.keys() == bound(IDS).keys()
    older = {key: value for key, value in signature.to_json().items() if key != "ignored"}
    assert Signature.from_json(older) == ENCODER
    with pytest.raises(InputError, match="unknown input 'special_tokens_mask'; the model takes"):
        bound(IDS, special_tokens_mask=IDS)
    with pytest.raises(InputError, match=r"'position_ids'.*compile the module again with it among"):
        bound(IDS, position_ids=IDS)


def test_position_and_name_are_the_same() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    by_name, by_position = bound(attention_mask=mask, input_ids=IDS), bound(IDS, mask)
    assert all(np.array_equal(by_name[name], by_position[name]) for name in by_name)


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[True, True, False], [True, False, False]]),
        np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32),
        np.array([[1, 1, 0], [1, 0, 0]], np.int32),
        np.array([[1, 1, 0], [1, 0, 0]], np.uint8),
        np.array([[1, 1, 0], [1, 0, 0]], ">i8"),
        np.array([[1, 1], [1, 0], [0, 0]]).T,
        [[1, 1, 0], [1, 0, 0]],
        torch.tensor([[True, True, False], [True, False, False]]),
        torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bfloat16),
    ],
)
def test_masks_of_any_dtype_become_integers(mask: Any) -> None:
    array = bound(IDS, mask)["attention_mask"]
    assert array.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert array.dtype == np.int64 and array.flags.c_contiguous


def test_kind_is_torch_if_any_input_is() -> None:
    assert ENCODER.bind((IDS,), {})[1] == "numpy"
    assert ENCODER.bind((torch.from_numpy(IDS),), {})[1] == "torch"
    assert ENCODER.bind((IDS, torch.ones(2, 3)), {})[1] == "torch"


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "'input_ids' is missing; the model takes input_ids, attention_mask"),
        ((IDS,), {"labels": IDS}, "unknown input 'labels'; the model takes input_ids"),
        ((IDS,), {"position_ids": IDS}, "unknown input 'position_ids'"),
        ((IDS,), {"input_ids": IDS}, "given by position and by name"),
        ((IDS,) * 5, {}, "5 inputs by position, expected at most 4"),
        (({"input_ids": IDS},), {}, r"write model\(\*\*inputs\)"),
        (([[1, 2], [3]],), {}, "padded to one"),
        (("text",), {}, "expected numbers"),
        ((np.array([[0.5]]),), {}, "holds 0.5"),
        ((np.array([[np.nan]]),), {}, "holds nan"),
        ((np.array([[2**63]], np.uint64),), {}, "expected int64"),
        ((torch.ones(1, 2, requires_grad=True),), {}, r"torch.no_grad\(\)"),
        ((torch.ones(1, 2, device="meta"),), {}, "on the CPU"),
        ((torch.ones(1, 2).to_sparse(),), {}, "dense tensor"),
        ((IDS,), {"output_attentions": True}, "compiled for False"),
        ((IDS,), {"output_attentions": 0}, "compiled for False"),
    ],
)
def test_bad_calls(args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ENCODER.bind(args, kwargs)


def test_fixed_arguments_may_be_repeated() -> None:
    assert bound(IDS, output_attentions=False)["input_ids"].shape == (2, 3)


def test_gradients_are_no_matter_where_none_are_recorded() -> None:
    with torch.no_grad():
        assert bound(torch.ones(1, 2, requires_grad=True))["input_ids"].tolist() == [[1, 1]]


def test_booleans_take_only_zero_and_one() -> None:
    signature = Signature((Input("mask", "bool"),), TENSOR, ("mask",))
    assert signature.bind(([[0, 1]],), {})[0]["mask"].tolist() == [[False, True]]
    with pytest.raises(InputError, match="holds 2"):
        signature.bind(([[0, 2]],), {})


def test_floats_of_any_width_are_cast() -> None:
    signature = Signature((Input("x", "f32"),), TENSOR, ("x",))
    for value in (
        np.array([0.1]),
        np.array([0.1], np.float16),
        torch.tensor([0.1]).half(),
        [1],
        [0.1],
    ):
        assert signature.bind((value,), {})[0]["x"].dtype == np.float32
    assert signature.bind((np.float32(3),), {})[0]["x"].shape == ()


def answer(structure: Structure, kind: Any = "numpy") -> Any:
    outputs = [np.full((2,), i, np.float32) for i in range(structure.tensors)]
    return Signature((), structure).pack(outputs, kind)


Pair = namedtuple("Pair", "first second")


def test_answers_in_every_structure() -> None:
    assert answer(TENSOR).tolist() == [0, 0]
    assert [part.tolist() for part in answer(Structure("tuple", parts=(TENSOR,)))] == [[0, 0]]
    nested = Structure(
        "dict", ("a", 3), (Structure("list", parts=(TENSOR, TENSOR)), Structure("plain", value=1.5))
    )
    found = answer(nested)
    assert type(found) is dict and type(found["a"]) is list
    assert found["a"][1].tolist() == [1, 1] and found[3] == 1.5
    pair = Structure("record", ("first", "second"), (TENSOR, TENSOR), "x:Pair", record_class=Pair)
    assert type(answer(pair)) is Pair and answer(pair).second.tolist() == [1, 1]


def test_answers_to_torch_are_tensors_that_may_be_written() -> None:
    array = np.broadcast_to(np.float32(1), (2, 2))
    packed = Signature((), TENSOR).pack([array], "torch")
    assert isinstance(packed, torch.Tensor)
    packed += 1
    assert array[0, 0] == 1


def test_records_become_outputs_of_transformers_where_it_is_imported() -> None:
    from transformers.modeling_outputs import QuestionAnsweringModelOutput

    assert type(answer(QA)) is QuestionAnsweringModelOutput
    assert answer(QA, "torch").end_logits.tolist() == [1, 1]


def test_records_become_answers_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "transformers.modeling_outputs", raising=False)
    found = answer(QA)
    assert type(found) is Answer
    assert list(found) == ["start_logits", "end_logits"] and len(found) == 2
    assert found.end_logits is found["end_logits"] is found[1] is found.to_tuple()[1]
    assert [part.tolist() for part in found[:]] == [[0, 0], [1, 1]]
    assert repr(found) == "Answer(start_logits=float32[2], end_logits=float32[2])"
    with pytest.raises(AttributeError, match=r"no part 'loss'; it has \['start_logits'"):
        _ = found.loss
    with pytest.raises(KeyError):
        _ = found["loss"]


@pytest.mark.parametrize(
    "origin",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "builtins:dict",
        "transformers:AutoModel",
        "transformers.modeling_outputs:torch",
        "transformers.modeling_outputs:MaskedLMOutput",  # has no such parts
        "transformers.utils.generic:ModelOutput",
        "torch.nn:Linear",
        "",
    ],
)
def test_no_other_class_is_called_by_name(origin: str) -> None:
    import transformers.modeling_outputs  # noqa: F401

    record = Structure("record", ("start_logits", "end_logits"), (TENSOR, TENSOR), origin)
    assert type(answer(record)) is Answer


def test_json_round_trip() -> None:
    parts = (QA, Structure("plain", value=None), Structure("dict", (1, "b"), (TENSOR, TENSOR)))
    signature = Signature(
        ENCODER.inputs, Structure("tuple", parts=parts), ENCODER.positional, {"n": 2, "s": "text"}
    )
    text = json.dumps(signature.to_json(), allow_nan=False)
    assert Signature.from_json(json.loads(text)) == signature
    assert Signature.from_json(ENCODER.to_json()) == ENCODER


def mutated(*path: Any, value: Any) -> Any:
    document = json.loads(json.dumps(ENCODER.to_json()))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


DEEP: dict[str, Any] = {"form": "tensor"}
for _ in range(5000):
    DEEP = {"form": "tuple", "parts": [DEEP]}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        mutated("inputs", value={}),
        mutated("inputs", 0, value="input_ids"),
        mutated("inputs", 0, "name", value="a b"),
        mutated("inputs", 0, "name", value="attention_mask"),
        mutated("inputs", 0, "dtype", value="f16"),
        mutated("inputs", 0, "dtype", value=None),
        mutated("inputs", 1, "default", value=1),
        mutated("inputs", 1, "default", value={"like": "missing", "value": 1}),
        mutated("inputs", 1, "default", value={"like": "attention_mask", "value": 1}),
        mutated("inputs", 1, "default", value={"like": "input_ids", "value": 2**70}),
        mutated("inputs", 1, "default", value={"like": "input_ids", "value": True}),
        mutated("inputs", 1, "default", value={"like": "input_ids", "padding": 1.5}),
        mutated("inputs", 1, "default", value={"like": "input_ids", "padding": 0, "value": 1}),
        mutated("ignored", value="input_ids"),
        mutated("ignored", value=["a b"]),
        mutated("positional", value="input_ids"),
        mutated("positional", value=[1]),
        mutated("fixed", value=[]),
        mutated("fixed", "output_attentions", value=[]),
        mutated("answer", value=None),
        mutated("answer", "form", value="code"),
        mutated("answer", "keys", value=["a"]),
        mutated("answer", "keys", value=["a", "a"]),
        mutated("answer", "keys", value=["a", []]),
        mutated("answer", "keys", value=["a", 1]),
        mutated("answer", "origin", value=1),
        mutated("answer", "parts", value=[{"form": "tensor"}]),
        mutated("answer", "parts", 0, value={"form": "plain", "value": {}}),
        mutated("answer", value=DEEP),
        mutated("answer", "form", value=DEEP),
    ],
)
def test_hostile_signatures(document: Any) -> None:
    with pytest.raises(SavedModelError):
        Signature.from_json(document)


@pytest.mark.parametrize("form", ["tuple", "list", "dict"])
def test_a_signature_nested_deeper_than_answers_is_refused(form: str) -> None:
    def nested(levels: int) -> dict[str, Any]:
        part: dict[str, Any] = {"form": "tensor"}
        for _ in range(levels):
            part = {"form": form, "parts": [part], "keys": ["part"]}
        return part

    assert Structure.from_json(nested(MAX_NESTING)).tensors == 1
    for levels in (MAX_NESTING + 1, 300):
        with pytest.raises(SavedModelError, match="deeper than 64 levels"):
            Signature.from_json(mutated("answer", value=nested(levels)))


def test_signature_of_another_graph() -> None:
    ids, outputs = parse_type("i64[batch, seq]"), ("a", "b")
    inputs = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ids)
    assert ENCODER.check_fits(Graph(inputs, {}, (), outputs)) is ENCODER
    with pytest.raises(SavedModelError, match="1 outputs, but the answer consists of 2"):
        ENCODER.check_fits(Graph(inputs, {}, (), ("a",)))
    with pytest.raises(SavedModelError, match="the graph takes"):
        ENCODER.check_fits(Graph({"input_ids": ids}, {}, (), outputs))


class Nested(torch.nn.Module):
    """Returns its input in so many containers."""

    def __init__(self, levels: int, wrap: Any) -> None:
        super().__init__()
        self.levels, self.wrap = levels, wrap

    def forward(self, x: torch.Tensor) -> Any:
        answer: Any = x + 1
        for _ in range(self.levels):
            answer = self.wrap(answer)
        return answer


WRAPS = [lambda part: (part,), lambda part: [part], lambda part: {"part": part}]


@pytest.mark.parametrize("wrap", WRAPS)
def test_answers_nested_up_to_the_limit_are_saved(wrap: Any, tmp_path: Path) -> None:
    model = prunus.compile(Nested(MAX_NESTING, wrap), (torch.ones(2, 4),), threads=1, tune="cost")
    model.save_pretrained(tmp_path)
    given = torch.ones(3, 4)
    for each in (model, prunus.load(tmp_path, threads=1, tune="cost")):
        assert str(each(given)) == str(Nested(MAX_NESTING, wrap)(given))


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 260, 2000])
def test_answers_nested_deeper_are_refused(levels: int) -> None:
    for wrap in WRAPS:
        with pytest.raises(UnsupportedError, match=r"nested (deeper than 64 levels|too deeply)"):
            prunus.compile(Nested(levels, wrap), (torch.ones(2, 4),), threads=1, tune="cost")
