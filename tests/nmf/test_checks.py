"""What `factorise` takes, and how it refuses the rest."""

import numpy as np
import pytest
import torch
from scipy import sparse

from lrpilot.nmf import Settings, Solver, Sparse, factorise, random_start
from nmf_states import example as matrix

ENTRIES = Settings(units="entries", batch=200)


def run(V, settings, *, steps=120, seed=0, **options):
    rng = np.random.default_rng(seed)
    return factorise(V, 3, steps=steps, rng=rng, settings=settings, **options)


@pytest.mark.parametrize(
    ("V", "options", "words"),
    [
        (
            np.array([[1.0, -1.0]]),
            {},
            "finite entries that are not negative, got -1.0$",
        ),
        (
            np.array([[1.0, np.nan]]),
            {},
            "finite entries that are not negative, got nan$",
        ),
        (
            np.array([[1.0, np.inf]]),
            {},
            "finite entries that are not negative, got inf$",
        ),
        (sparse.csr_array([[1.0, -1.0]]), {}, "finite entries that are not negative, got -1.0$"),
        (np.ones(3), {}, "must be a matrix"),
        (np.ones((0, 4)), {}, "V must not be empty"),
        (np.ones((0, 3, 4)), {}, "V must not be empty"),
        (sparse.csr_array((0, 4)), {}, "V must not be empty"),
        (
            sparse.csr_array((3, 4)),
            {"settings": ENTRIES},
            "stores nothing",
        ),
        (1e200 * np.ones((3, 4)), {}, "1e\\+200, is too large to compute with in float64"),
        (1e-200 * np.ones((3, 4)), {}, "is too small to compute with"),
        (
            np.ones((3, 4)),
            {"device": "gpu"},
            "device must be .*, got 'gpu' .Expected",
        ),
        (np.ones((3, 4)), {"steps": -1}, "steps must be at least 0"),
        (np.ones((2, 3, 4)), {"init": "nndsvd"}, "one matrix at a time"),
        (np.ones((3, 4)), {"init": (np.ones((3, 2)),)}, "init must be"),
        (np.ones((3, 4)), {"init": None}, "init must be"),
        (np.ones((3, 4)), {"init": (np.ones((3, 2)), np.full((2, 4), np.inf))}, "init must have"),
        (np.ones((3, 4)), {"init": (np.ones((3, 2)), -np.ones((2, 4)))}, "init must have"),
        (np.ones((3, 4)), {"init": (np.ones((3, 2)), np.ones((2, 5)))}, "init must be W"),
        (
            np.ones((2, 3, 4)),
            {"settings": ENTRIES, "mask": np.ones((2, 3, 4), bool)},
            "mask must be .m, n.",
        ),
        (np.ones((3, 4)), {"rank": 0}, "rank must be at least 1"),
        (np.ones((3, 4)), {"rank": 4, "init": "nndsvd"}, "needs rank <= min"),
        (np.ones((3, 4)), {"init": "svd"}, "init must be"),
        (np.ones((3, 4)), {"init": (np.ones((3, 2)), np.ones((3, 4)))}, "init must be W"),
        (np.ones((3, 4)), {"init": (-np.ones((3, 2)), np.ones((2, 4)))}, "not negative, got -1.0$"),
        (np.ones((3, 4)), {"mask": np.ones((3, 3), bool)}, "mask must be of bool"),
        (np.ones((3, 4)), {"mask": np.ones((3, 4))}, "mask must be of bool"),
        (np.ones((3, 4)), {"mask": np.zeros((3, 4), bool)}, "hides every entry"),
        (sparse.csr_array(np.ones((3, 4))), {"mask": np.ones((3, 4), bool)}, "takes no mask"),
    ],
)
def test_what_cannot_be_factorised_is_refused(V, options, words):
    options = {"rank": 2, "steps": 1, "rng": np.random.default_rng(0)} | options
    with pytest.raises(ValueError, match=words):
        factorise(V, **options)


@pytest.mark.parametrize(
    ("V", "options", "words"),
    [
        (np.array([["a", "b"]]), {}, "V must consist of numbers, got <U1"),
        (np.array([[1, "x"]], object), {}, "V must consist of numbers, got object"),
        (1j * np.ones((3, 4)), {}, "V must consist of numbers, got complex128"),
        (np.ones((3, 4)), {"rank": 2.0}, "rank must be a whole number"),
        (np.ones((3, 4)), {"steps": 2.5}, "steps must be a whole number"),
        (np.ones((3, 4)), {"rng": 0}, "rng must be a NumPy Generator"),
    ],
)
def test_what_is_no_number_or_generator_is_refused(V, options, words):
    options = {"rank": 2, "steps": 1, "rng": np.random.default_rng(0)} | options
    with pytest.raises(TypeError, match=words):
        factorise(V, **options)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("name", ["array", "matrix"])
def test_every_format_of_scipy_is_taken(kind, name):
    V = matrix() * (matrix(seed=1) > 1)
    found = run(getattr(sparse, f"{kind}_{name}")(V), Settings(batch=8), steps=10)
    np.testing.assert_allclose(found.W, run(V, Settings(batch=8), steps=10).W, rtol=1e-7)


def test_entries_stored_twice_are_summed():
    twice = sparse.coo_array(([1.0, 2.0, 4.0], ([0, 0, 1], [0, 0, 1])), shape=(2, 2))
    found = factorise(
        twice, 2, steps=300, rng=np.random.default_rng(0), settings=Settings(units="entries")
    )
    assert (found.W @ found.H)[0, 0] == pytest.approx(3, rel=0.01)


def test_lists_are_matrices_and_masks():
    V, known = matrix(), np.random.default_rng(0).random((15, 40)) < 0.8
    these = run(V.tolist(), Settings(batch=8), steps=5, mask=known.tolist())
    assert np.array_equal(these.W, run(V, Settings(batch=8), steps=5, mask=known).W)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.int64, bool, np.longdouble])
def test_numbers_of_any_type_are_factorised(dtype):
    V = (5 * matrix()).clip(max=100).astype(dtype)
    found = run(V, Settings(batch=8), steps=50)
    assert found.W.dtype == (np.float64 if np.dtype(dtype).itemsize > 2 else np.float32)
    assert found.loss < 0.5


def test_a_rank_above_both_sizes_is_possible_from_a_random_start():
    found = factorise(matrix()[:2], 5, steps=200, rng=np.random.default_rng(0))
    assert found.loss < 1e-3


def test_a_wrapped_sparse_matrix_and_a_mask_are_refused_by_the_solver_too():
    V = Sparse(sparse.csc_array(matrix()))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="takes no mask"):
        Solver(V, random_start(V, 2, rng), Settings(), rng, mask=torch.ones(15, 40).bool())
