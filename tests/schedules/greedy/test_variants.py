import copy
import json
import pickle
from dataclasses import replace

import pytest

from contracts import json_round_trip, run
from lrpilot.schedules import pack
from lrpilot.schedules.greedy import VARIANTS, Greedy, NoiseGreedy, ThresholdGreedy

LOSSES = [9.0, 8.0, 8.5, 7.0, 7.5, 9.5, 6.0, 5.0, 5.5, 5.2] * 30
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def test_the_default_is_the_blogs_reading_with_the_test_that_minds_noise():
    assert run(Greedy(), LOSSES) == run(NoiseGreedy(), LOSSES)
    assert run(Greedy(test="threshold"), LOSSES) == run(ThresholdGreedy(), LOSSES)
    assert Greedy() == Greedy(variant="blog", test="noise")


@every_variant
def test_a_variant_is_the_rule_of_its_name_with_the_settings_given(variant):
    greedy = Greedy(variant=variant, factor=0.6)
    assert greedy.rule.factor == greedy.factor == 0.6
    assert run(greedy, LOSSES) == run(greedy.rule, LOSSES)


def test_the_variants_are_all_different():
    ends = {variant: run(Greedy(variant=variant), LOSSES)[-1].scale for variant in VARIANTS}
    assert len({round(end, 12) for end in ends.values()}) >= 4, ends


def test_the_fork_differs_from_algorithm_2_by_its_threshold():
    assert Greedy(variant="fork").threshold_mode == "absolute"
    assert Greedy(variant="algorithm2").threshold_mode == "relative"
    assert Greedy(variant="fork", threshold_mode="relative").threshold_mode == "relative"


@every_variant
def test_a_variant_resumes_exactly(variant):
    greedy = Greedy(variant=variant)
    states = run(greedy, LOSSES)
    half = len(LOSSES) // 2
    resumed = run(greedy, LOSSES[half:], json_round_trip(greedy, states[half]))
    assert repr(states[half:]) == repr(resumed)
    json.dumps(pack(states[-1]), allow_nan=False)


@every_variant
def test_settings_are_values_that_say_themselves(variant):
    greedy = Greedy(variant=variant, factor=0.8)
    for twin in (copy.deepcopy(greedy), pickle.loads(pickle.dumps(greedy)), replace(greedy)):
        assert twin == greedy
        assert hash(twin) == hash(greedy)
        assert run(twin, LOSSES) == run(greedy, LOSSES)
    assert eval(repr(greedy)) == greedy
    assert "factor=0.8" in repr(greedy)
    assert "None" not in repr(greedy)
    if variant != "advanced":  # its authors gave it no mode
        assert replace(greedy, mode="max").rule.mode == "max"
    assert greedy != Greedy(variant=variant, factor=0.7)


def test_untuned_settings_climb_from_a_rate_a_thousand_times_too_low_and_default_ones_do_not():
    accelerating = [-(float(step) ** 3) for step in range(900)]
    assert run(Greedy.untuned(), accelerating)[-1].scale == 1000.0
    assert run(Greedy(), accelerating)[-1].scale == 10.0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"variant": "hf"}, ValueError, "unknown variant 'hf'"),
        ({"variant": "transformer"}, ValueError, "did you mean 'transformers'"),
        ({"test": "luck"}, ValueError, "variant 'blog' has no test 'luck'"),
        ({"variant": "fork", "test": "noise"}, ValueError, "variant 'fork' has no test 'noise'"),
        ({"eps": 1e-8}, TypeError, "eps is no setting of variant 'blog' with test 'noise'"),
        ({"variant": "algorithm1", "patience": 3}, TypeError, "patience is no setting"),
        ({"factor": 2.0}, ValueError, "factor must lie strictly between 0 and 1, got 2.0"),
        ({"factor": "half"}, TypeError, "factor must be a number, got 'half'"),
        ({"variant": "fork", "window": -1}, ValueError, "window"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        Greedy(**settings)
