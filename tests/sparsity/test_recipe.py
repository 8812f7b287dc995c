import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.sparsity import MAX_BLOCK_ELEMENTS, SparsityRecipe

SPARSITIES = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
SIDES = st.integers(1, 1024)


@pytest.mark.parametrize(
    ("written", "recipe"),
    [
        (0.9, SparsityRecipe(0.9)),
        (0, SparsityRecipe(0.0)),
        (np.float64(0.5), SparsityRecipe(0.5)),
        ("0.9", SparsityRecipe(0.9)),
        (" .5 ", SparsityRecipe(0.5)),
        ("1e-2", SparsityRecipe(0.01)),
        ("0.85@16x1", SparsityRecipe(0.85, block=(16, 1))),
        ("0.85@1x1", SparsityRecipe(0.85, block=(1, 1))),
        ("0.5@2:4", SparsityRecipe(0.5, n_of_m=(2, 4))),
        ("0.67@1:3", SparsityRecipe(0.67, n_of_m=(1, 3))),
    ],
)
def test_what_is_written_is_read(written: str | float, recipe: SparsityRecipe) -> None:
    assert SparsityRecipe.parse(written) == recipe
    assert SparsityRecipe.parse(recipe) is recipe


@pytest.mark.parametrize("text", ["0.9", "0.85@16x1", "0.5@2:4", "0.0"])
def test_a_text_is_written_as_it_was_read(text: str) -> None:
    assert str(SparsityRecipe.parse(text)) == text


@given(sparsity=SPARSITIES, block=st.none() | st.tuples(SIDES, SIDES))
def test_blocks_round_trip(sparsity: float, block: tuple[int, int] | None) -> None:
    recipe = SparsityRecipe(sparsity, block)
    assert SparsityRecipe.parse(str(recipe)) == recipe


@given(n=st.integers(1, 64), more=st.integers(1, 64), off=st.floats(-0.004, 0.004))
def test_n_of_m_round_trips(n: int, more: int, off: float) -> None:
    m = n + more
    recipe = SparsityRecipe(min(max(1 - n / m + off, 0), 0.999), n_of_m=(n, m))
    assert SparsityRecipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ninety",
        "90%",
        "1.0",
        "1.5",
        "-0.1",
        "nan",
        "inf",
        "0.9.1",
        "0,9",
        "1e999",
        "0.9@",
        "0.9@4",
        "0.9@0x4",
        "0.9@4x",
        "0.9@-4x1",
        "0.9@4x1x1",
        "0.9@4x1@2:4",
        "0.9@" + "9" * 9 + "x1",
        "0.9@" + "9" * 5000 + "x1",
        "0.5@2:",
        "0.0@4:4",
        "0.5@4:2",
        "1.0@0:4",
        "0.9@2:4",
        "0.٥",
        1,
        1.0,
        -0.5,
        float("nan"),
        True,
        None,
        (0.9, 4),
        b"0.9",
    ],
)
def test_anything_else_is_refused_with_the_expected_forms(wrong: str) -> None:
    with pytest.raises(InputError, match=r"0\.85@16x1.*0\.5@2:4") as error:
        SparsityRecipe.parse(wrong)
    assert str(wrong)[:20] in str(error.value)


def test_a_recipe_has_one_pattern() -> None:
    with pytest.raises(InputError, match="either"):
        SparsityRecipe(0.5, block=(4, 1), n_of_m=(2, 4))


def test_a_block_has_a_limit() -> None:
    assert SparsityRecipe.parse(f"0.5@1x{MAX_BLOCK_ELEMENTS}").block == (1, MAX_BLOCK_ELEMENTS)
    with pytest.raises(InputError, match="at most"):
        SparsityRecipe(0.5, block=(2, MAX_BLOCK_ELEMENTS))
