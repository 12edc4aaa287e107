import numpy as np
import pytest

from trivium.training.scaling_law import ScalingLaw, fit, leave_one_out, spread

COMPUTE = np.geomspace(1e12, 1e14, 5)


@pytest.mark.parametrize("irreducible", [0.0, 0.7, 1.9])
@pytest.mark.parametrize("exponent", [0.05, 0.15, 0.4])
def test_a_known_law_is_found(irreducible, exponent):
    law = ScalingLaw(irreducible, 1.5 * 1e13**exponent, exponent)
    found = fit(COMPUTE, law(COMPUTE))
    np.testing.assert_allclose(found(COMPUTE), law(COMPUTE), rtol=1e-3)
    assert found.exponent == pytest.approx(exponent, rel=0.02)
    assert found.irreducible == pytest.approx(irreducible, abs=0.05)
    assert found(1e15) == pytest.approx(law(1e15), rel=5e-3)


def test_noise_moves_the_law_and_leaving_one_out_shows_how_much():
    law = ScalingLaw(0.8, 1.2 * 1e13**0.2, 0.2)
    random = np.random.default_rng(0)
    narrow, wide = (
        spread(leave_one_out(COMPUTE, law(COMPUTE) * (1 + noise * random.normal(size=5))), 1e15)
        for noise in (1e-4, 1e-2)
    )
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert narrow[0] - 0.01 < law(1e15) < narrow[1] + 0.01


def test_the_fit_is_the_least_of_the_relative_errors():
    random = np.random.default_rng(1)
    loss = ScalingLaw(1.0, 1e13**0.3, 0.3)(COMPUTE) * (1 + 0.02 * random.normal(size=5))
    found = fit(COMPUTE, loss)
    least = ((found(COMPUTE) / loss - 1) ** 2).sum()
    for factor in (0.99, 1.01):
        for field in ScalingLaw._fields:
            other = found._replace(**{field: getattr(found, field) * factor + (factor - 1) * 1e-3})
            assert ((other(COMPUTE) / loss - 1) ** 2).sum() >= least * (1 - 1e-6)


@pytest.mark.parametrize("loss", [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [3, 1, 2]])
def test_no_number_is_negative_whatever_the_losses_do(loss):
    law = fit([1e10, 1e11, 1e12], loss)
    assert law.irreducible >= 0 and law.scale >= 0 and law.exponent > 0
    assert np.isfinite(law(1e20))


def test_units_of_compute_do_not_matter():
    loss = np.array([3.0, 2.5, 2.2, 2.05])
    compute = np.geomspace(1e3, 1e6, 4)
    for factor in (1e-6, 1e15):
        np.testing.assert_allclose(fit(compute * factor, loss)(compute * factor), fit(compute, loss)(compute))


def test_three_runs_say_nothing_about_their_law_and_two_are_too_few():
    assert leave_one_out([1e10, 1e11, 1e12], [3, 2, 1]) == [] and spread([], 1e15) is None
    for compute, loss in (([1, 2], [1, 2]), ([1, 1, 2], [1, 2, 3]), ([1, 2, 3], [1, 2, float("nan")])):
        with pytest.raises(ValueError, match=r"must|needs"):
            fit(compute, loss)
