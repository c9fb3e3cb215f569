import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lrpilot.nmf import StochasticNMF
from lrpilot.schedules import NAMED_SCHEDULES, Constant, Greedy, OpenLoop, cooldown, named_schedule


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
        (np.ones((4, 3)), {"n_components": 0}, "n_components must be a whole number"),
        (np.ones((4, 3)), {"n_components": 4, "init": "nndsvd"}, "needs rank <= min"),
        (np.ones((4, 3)), {"max_iter": 0}, "max_iter must be at least 1"),
        (np.ones((4, 3)), {"batch_size": 0}, "batch must be at least 1"),
        (np.ones((4, 3)), {"schedule": "cosin"}, "did you mean 'cosine'"),
        (np.ones((4, 3)), {"rate": "fast"}, "rate must be"),
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


def test_masks_and_feature_counts_are_checked():
    X = matrix()
    with pytest.raises(ValueError, match="hides every entry"):
        StochasticNMF(2).fit(X, mask=np.zeros(X.shape, bool))
    with pytest.raises(ValueError, match="mask must be of bool"):
        StochasticNMF(2).fit(X, mask=np.ones((2, 2), bool))
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
