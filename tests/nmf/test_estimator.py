import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lrpilot.nmf import StochasticNMF
from lrpilot.schedules import (
    NAMED_SCHEDULES,
    Constant,
    Greedy,
    Guard,
    Learned,
    OpenLoop,
    cooldown,
    named_schedule,
)
from lrpilot.schedules.learned.policy import as_tensors
from lrpilot.schedules.learned.tensor_file import write_tensors
from policies import random_policy, still_policy


def matrix(n=120, p=15, rank=3, seed=0):
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(0.5, size=(n, rank)), rng.gamma(1.0, size=(rank, p))
    return W @ H + 0.1 * rng.random((n, p))


def share_left(X, model):
    return np.square(X - model.inverse_transform(model.transform(X))).sum() / np.square(X).sum()


@parametrize_with_checks([StochasticNMF(), StochasticNMF(2, max_iter=5, schedule="cosine")])
def test_it_is_what_scikit_learn_calls_an_estimator(estimator, check):
    check(estimator)


def test_it_leaves_hardly_more_than_coordinate_descent():
    X = load_digits().data
    best = NMF(10, init="nndsvda", max_iter=500).fit(X).reconstruction_err_
    assert StochasticNMF(10, random_state=0).fit(X).reconstruction_err_ < 1.02 * best


def test_what_it_says_of_itself_is_so():
    X = matrix()
    model = StochasticNMF(3, max_iter=20, batch_size=50, random_state=0)
    coefficients = model.fit_transform(X)
    assert np.allclose(coefficients, model.transform(X))
    assert np.linalg.norm(X - coefficients @ model.components_) == pytest.approx(
        model.reconstruction_err_
    )
    assert (model.n_iter_, model.n_steps_) == (20, 60)
    assert model.losses_.shape == model.lrs_.shape == model.bounds_.shape == (60,)
    assert (model.lrs_ <= 0.75 * model.bounds_ * (1 + 1e-12)).all()
    assert list(model.get_feature_names_out()) == [f"stochasticnmf{k}" for k in range(3)]
    assert model.repairs_ == []


@pytest.mark.parametrize("schedule", [*NAMED_SCHEDULES, Greedy() >> cooldown(20), None])
def test_any_schedule_decides_the_rate(schedule):
    model = StochasticNMF(3, schedule=schedule, max_iter=30, batch_size=40, random_state=0)
    assert share_left(matrix(), model.fit(matrix())) < 0.1


def test_the_schedule_sees_the_loss_and_its_scale_is_taken():
    seen = []

    class Watching:
        needs = ("loss",)

        def init(self):
            return OpenLoop(Constant(), total_steps=1).init()._replace(scale=0.5)

        def update(self, state, signal):
            seen.append(signal.loss)
            return state._replace(scale=0.25)

    model = StochasticNMF(3, schedule=Watching(), rate="bound", max_iter=2, random_state=0)
    model.fit(matrix())
    assert seen == list(model.losses_)
    shares = model.lrs_ / (0.75 * model.bounds_)
    assert shares == pytest.approx([0.5, 0.25])


def test_learned_is_the_policy_for_factorisations():
    settings = {"max_iter": 3, "batch_size": 40, "random_state": 0}
    learned = StochasticNMF(3, schedule="learned", **settings).fit(matrix())
    named = StochasticNMF(3, schedule="learned:nmf", **settings).fit(matrix())
    assert np.array_equal(learned.lrs_, named.lrs_)
    steps = learned.n_steps_
    given = StochasticNMF(3, schedule=Guard(Learned(steps, "nmf")), **settings).fit(matrix())
    assert np.array_equal(learned.lrs_, given.lrs_)


def test_a_policy_from_a_file_decides_the_rate(tmp_path):
    path = tmp_path / "mine.safetensors"
    settings = {"max_iter": 5, "batch_size": 40, "random_state": 0, "rate": "bound"}
    path.write_bytes(write_tensors(as_tensors(still_policy(base="cosine"))))
    still = StochasticNMF(3, schedule=f"learned:{path}", **settings).fit(matrix())
    cosine = StochasticNMF(3, schedule="cosine", **settings).fit(matrix())
    assert np.array_equal(still.lrs_, cosine.lrs_)
    path.write_bytes(write_tensors(as_tensors(random_policy(base="cosine"))))
    drawn = StochasticNMF(3, schedule=f"learned:{path}", **settings).fit(matrix())
    assert not np.array_equal(drawn.lrs_, cosine.lrs_)
    assert (drawn.lrs_ <= 0.75 * drawn.bounds_ * (1 + 1e-12)).all()
    for name in ("learned", f"learned:{path}"):
        model = StochasticNMF(3, schedule=name, random_state=0)
        assert not hasattr(model, "partial_fit")


def test_pieces_teach_what_the_whole_does_and_the_schedule_goes_on():
    X = matrix(n=1000)
    model = StochasticNMF(3, batch_size=25, random_state=0)
    for _ in range(3):
        for piece in np.array_split(X, 10):
            model.partial_fit(piece)
    assert (model.n_iter_, model.n_steps_) == (30, 120)
    whole = StochasticNMF(3, batch_size=25, random_state=0).fit(X)
    assert share_left(X, model) < 1.1 * share_left(X, whole)
    schedule = named_schedule("linear", total_steps=8)
    model = StochasticNMF(3, schedule=schedule, rate="bound", batch_size=25, random_state=0)
    shares = []
    for piece in (X[:100], X[100:200]):
        model.partial_fit(piece)
        shares += list(model.lrs_ / model.bounds_ / 0.75)
    assert shares == pytest.approx([1 - step / 8 for step in range(8)])


def test_partial_fit_after_fit_goes_on_and_fit_begins_again():
    X = matrix()
    model = StochasticNMF(3, random_state=0).fit(X)
    fitted = model.components_
    model.partial_fit(X)
    moved = np.abs(model.components_ - fitted).max()
    assert 0 < moved < fitted.max()
    assert np.array_equal(model.fit(X).components_, fitted)


def test_missing_entries_do_not_count_and_can_be_filled_in():
    X = matrix()
    mask = np.random.default_rng(1).random(X.shape) < 0.7
    holes = np.where(mask, X, np.nan)
    model = StochasticNMF(3, max_iter=200, random_state=0)
    filled = model.inverse_transform(model.fit_transform(holes, mask=mask))
    assert np.square((X - filled)[~mask]).sum() < 0.05 * np.square(X[~mask]).sum()
    assert np.allclose(model.transform(holes, mask=mask) @ model.components_, filled)
    streamed = StochasticNMF(3, random_state=0)
    for _ in range(100):
        streamed.partial_fit(holes, mask=mask)
    filled = streamed.inverse_transform(streamed.transform(holes, mask=mask))
    assert np.square((X - filled)[~mask]).sum() < 0.05 * np.square(X[~mask]).sum()


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, sparse.coo_array])
@pytest.mark.parametrize("init", ["random", "nndsvd"])
def test_sparse_data_give_what_dense_data_give(kind, init):
    X = sparse.random(60, 12, density=0.3, random_state=0, format="csr")
    model = StochasticNMF(3, init=init, max_iter=5, batch_size=20, random_state=0)
    dense = clone(model).fit(X.toarray())
    model.fit(kind(X))
    np.testing.assert_allclose(model.components_, dense.components_, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(model.transform(kind(X)), dense.transform(X.toarray()), atol=1e-4)
    for _ in range(2):
        model.partial_fit(kind(X))


def test_progress_is_told_once_per_pass_if_somebody_asks():
    told = []
    model = StochasticNMF(3, max_iter=4, batch_size=50, progress=lambda *news: told.append(news))
    model.fit(matrix())
    assert [news[:2] for news in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][2] == model.losses_[-1]


def test_it_stands_in_a_pipeline_and_a_seed_makes_it_repeatable():
    X = matrix()
    pipeline = make_pipeline(MinMaxScaler(), StochasticNMF(3, max_iter=5, random_state=3))
    assert np.array_equal(pipeline.fit_transform(X), clone(pipeline).fit_transform(X))


def test_zeros_are_learnt_as_zeros_and_a_stream_recovers_from_them():
    model = StochasticNMF(3, random_state=0).fit(np.zeros((20, 5)))
    assert model.reconstruction_err_ == 0
    assert not model.inverse_transform(model.transform(np.zeros((4, 5)))).any()
    model = StochasticNMF(3, random_state=0).partial_fit(np.zeros((20, 15)))
    for _ in range(30):
        model.partial_fit(matrix())
    assert share_left(matrix(), model) < 0.1


@pytest.mark.parametrize(
    ("X", "options", "words"),
    [
        (-np.ones((4, 3)), {}, "Negative values in data passed to StochasticNMF"),
        (np.full((4, 3), np.nan), {}, "Input X contains NaN"),
        (np.full((4, 3), np.inf), {}, "Input X contains infinity"),
        (np.ones((4, 3)), {"n_components": 0}, "n_components must be at least 1"),
        (np.ones((4, 3)), {"n_components": 4, "init": "nndsvd"}, "needs rank <= min"),
        (np.ones((4, 3)), {"max_iter": 0}, "max_iter must be at least 1"),
        (np.ones((4, 3)), {"batch_size": 0}, "batch_size must be at least 1"),
        (np.ones((4, 3)), {"schedule": "cosin"}, "did you mean 'cosine'"),
        (np.ones((4, 3)), {"rate": "fast"}, "rate must be"),
        (np.ones((4, 3)), {"device": "gpu"}, "device must be one that torch can use here"),
    ],
)
def test_the_errors_are_those_that_users_know(X, options, words):
    with pytest.raises(ValueError, match=words):
        StochasticNMF(**options).fit(X)


def test_a_class_is_no_schedule_and_a_name_none_for_a_stream():
    with pytest.raises(TypeError, match="schedule must be a schedule"):
        StochasticNMF(2, schedule=Greedy).fit(matrix())
    with pytest.raises(AttributeError) as caught:
        StochasticNMF(2, schedule="linear").partial_fit(matrix())
    assert "needs to know how many steps" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_components": 2.0}, "n_components must be a whole number, got 2.0"),
        ({"n_components": "2"}, "n_components must be a whole number, got '2'"),
        ({"n_components": True}, "n_components must be a whole number, got True"),
        ({"max_iter": 2.5}, "max_iter must be a whole number"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"batch_size": None}, "batch_size must be a whole number"),
        ({"h_steps": "1"}, "h_steps must be a whole number"),
        ({"rate": None}, "rate must be a number"),
        ({"progress": True}, "progress must be a function"),
    ],
)
def test_settings_of_a_wrong_type_are_named(options, words):
    with pytest.raises(TypeError, match=words):
        StochasticNMF(**({"n_components": 2} | options)).fit(matrix())


def test_the_seed_must_be_one_of_scikit_learn():
    for seed in ("a", 1.5, np.random.default_rng(0), -1):
        with pytest.raises(ValueError, match=r"seed|Seed"):
            StochasticNMF(2, random_state=seed).fit(matrix())


def test_a_seed_decides_everything_and_none_does_not():
    def found(seed):
        return StochasticNMF(3, max_iter=2, random_state=seed).fit(matrix()).components_

    assert np.array_equal(found(1), found(1))
    assert not np.array_equal(found(1), found(2))
    assert not np.array_equal(found(None), found(None))


def test_more_steps_of_the_coefficients_fit_better():
    left = [
        StochasticNMF(5, h_steps=steps, max_iter=2, random_state=0).fit(matrix(rank=5)).losses_[-1]
        for steps in (1, 20)
    ]
    assert left[1] < 0.95 * left[0]


def test_whole_numbers_of_numpy_and_batches_above_all_samples_will_do():
    X = matrix()
    model = StochasticNMF(np.int64(3), batch_size=np.int64(8), max_iter=np.int64(2), random_state=0)
    assert model.fit(X).components_.shape == (3, 15)
    whole = StochasticNMF(3, batch_size=len(X), max_iter=2, random_state=0).fit(X)
    more = StochasticNMF(3, batch_size=10**9, max_iter=2, random_state=0).fit(X)
    assert np.array_equal(whole.components_, more.components_)


def test_a_call_that_fails_leaves_a_stream_as_it_was():
    X = matrix()
    hidden = np.zeros(X.shape, bool)
    model = StochasticNMF(3, random_state=0)
    # Before the first piece that was learnt, and after it.
    for learnt in (False, True):
        before = pickle.dumps(model.__dict__) if learnt else None
        for bad, options in (
            (-X, {}),
            (X * np.nan, {}),
            (X[0], {}),
            (X[:0], {}),
            (1e300 * X, {}),
            (X, {"mask": hidden}),
            (X, {"mask": hidden[:3]}),
        ):
            with pytest.raises(ValueError, match=r"."):
                model.partial_fit(bad, **options)
            if not learnt:
                with pytest.raises(NotFittedError):
                    model.transform(X)
                with pytest.raises(NotFittedError):
                    model.inverse_transform(np.ones((2, 3)))
        if learnt:
            assert pickle.dumps(model.__dict__) == before
        model.partial_fit(X)
    assert (model.n_iter_, model.n_steps_) == (2, 2)
    untroubled = StochasticNMF(3, random_state=0).partial_fit(X).partial_fit(X)
    assert np.array_equal(model.components_, untroubled.components_)


def test_a_stream_goes_on_with_another_kind_of_schedule_and_not_at_another_rank():
    X = matrix()
    model = StochasticNMF(3, random_state=0).partial_fit(X)
    model.set_params(schedule=Greedy()).partial_fit(X).partial_fit(X)
    assert model.n_iter_ == 3
    with pytest.raises(ValueError, match="n_components is 4, but 3 components have been learnt"):
        model.set_params(n_components=4).partial_fit(X)


def test_what_is_turned_back_must_be_coefficients():
    model = StochasticNMF(3, max_iter=1).fit(matrix())
    for wrong in (matrix(), sparse.csr_array(matrix())):
        with pytest.raises(
            ValueError, match="15 columns, but inverse_transform expects the 3 coef"
        ):
            model.inverse_transform(wrong)
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.inverse_transform(np.ones(3))


def test_entries_of_any_size_that_can_be_squared_are_factorised_and_others_refused():
    for size in (1e-80, 1e80):
        model = StochasticNMF(3, max_iter=30, batch_size=40, random_state=0)
        X = matrix()
        ordinary = np.linalg.norm(X - model.fit_transform(X) @ model.components_)
        assert model.fit(size * X).reconstruction_err_ == pytest.approx(size * ordinary, rel=1e-3)
    for X in (1e200 * matrix(), 1e-200 * matrix(), np.float32(1e30) * matrix().astype(np.float32)):
        with pytest.raises(ValueError, match="scale V so that it is about 1"):
            StochasticNMF(3).fit(X)


@pytest.mark.parametrize("masked", [False, True])
def test_features_keep_their_names_and_their_order(masked):
    frame = pytest.importorskip("pandas").DataFrame
    X = matrix()
    mask = np.random.default_rng(0).random(X.shape) < 0.9 if masked else None
    names = [f"word{k}" for k in range(15)]
    model = StochasticNMF(3, max_iter=2).fit(frame(X, columns=names), mask=mask)
    assert list(model.feature_names_in_) == names
    assert list(model.get_feature_names_out(names)) == [f"stochasticnmf{k}" for k in range(3)]
    for call in (model.transform, lambda X, mask: model.partial_fit(X, mask=mask)):
        call(frame(X, columns=names), mask)
        with pytest.raises(ValueError, match="feature names should match"):
            call(frame(X, columns=names[::-1]), mask)


def test_masks_and_feature_counts_are_checked():
    X = matrix()
    with pytest.raises(ValueError, match="hides every entry"):
        StochasticNMF(2).fit(X, mask=np.zeros(X.shape, bool))
    with pytest.raises(
        ValueError, match=r"of bool and of X's shape \(120, 15\), got bool \(2, 2\)"
    ):
        StochasticNMF(2).fit(X, mask=np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="mask must be of bool"):
        StochasticNMF(2).fit(X, mask=np.ones(X.shape))
    with pytest.raises(ValueError, match="a sparse X takes no mask"):
        StochasticNMF(2).fit(sparse.csr_array(X), mask=np.ones(X.shape, bool))
    model = StochasticNMF(2, max_iter=1).partial_fit(X)
    with pytest.raises(ValueError, match="14 features, but StochasticNMF is expecting 15"):
        model.partial_fit(X[:, :14])


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, np.float32])
def test_any_numbers_will_do_and_single_precision_stays(dtype):
    X = (3 * matrix()).astype(dtype)
    model = StochasticNMF(3, max_iter=3, batch_size=1000, random_state=0)
    found = model.fit_transform(X)
    assert found.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert share_left(X.astype(float), model) < 0.5
