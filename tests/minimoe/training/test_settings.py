"""Settings refuse what cannot work, and every schedule has the value it should at every share of a run."""

import pytest

from minimoe.training import Settings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "steps=0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"batch_ramp": 2.0}, "batch_ramp=2.0"),
        ({"bias_until": 1.5}, "bias_until=1.5"),
        ({"balance": "auxiliary"}, "'auxiliary' is not one of loss_free, aux, none"),
        ({"bias_rule": "linear"}, "'linear' is not one of sign"),
        ({"optimizer": "sgd"}, "'sgd' is not one of muon, adamw"),
        ({"mtp_weight": ((0.5, 0.3),)}, "the first from 0"),
        ({"mtp_weight": ((0.0, 0.3), (0.7, 0.1), (0.5, 0.2))}, "rising order"),
        ({"tails": ((0.9, 0.1), (0.5, 0.1))}, "each part must begin"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_its_value(wrong, words):
    with pytest.raises(ValueError, match=words):
        Settings(**({"steps": 10} | wrong))


def test_the_batch_grows_in_a_straight_line_and_then_stays():
    settings = Settings(steps=10, batch_from=2, batch_ramp=0.5)
    assert [settings.sequences(p, 10) for p in (0, 0.125, 0.25, 0.499, 0.5, 1)] == [2, 4, 6, 9, 10, 10]
    assert Settings(steps=10).sequences(0, 10) == 10
    with pytest.raises(ValueError, match="batch_from=2 is more than the full batch of 1"):
        settings.sequences(0, 1)


def test_lambda_is_the_configs_a_number_or_a_schedule():
    assert Settings(steps=1).mtp_weight_at(0.5, configured=0.3) == 0.3
    assert Settings(steps=1, mtp_weight=0.0).mtp_weight_at(0.5, 0.3) == 0
    schedule = Settings(steps=1, mtp_weight=((0.0, 0.3), (0.7, 0.1)))
    assert [schedule.mtp_weight_at(p, 9.0) for p in (0, 0.69, 0.7, 1)] == [0.3, 0.3, 0.1, 0.1]


def test_biases_move_only_in_a_loss_free_run_and_only_until_they_are_frozen():
    settings = Settings(steps=1, bias_gamma=0.01, bias_until=0.9)
    assert [settings.gamma_at(p) for p in (0, 0.89, 0.9)] == [0.01, 0.01, 0]
    assert [settings.changed(balance=name).gamma_at(0) for name in ("aux", "none")] == [0, 0]


def test_v3s_recipe_has_the_papers_numbers():
    settings = Settings.v3(steps=1480, sequences=15360, lr=2.2e-4)
    trillion = 1 / 14.8
    assert settings.sequences(0, 15360) == 3072 and settings.sequences(0.47 * trillion, 15360) == 15360
    assert settings.rate(9.9 * trillion) == 1
    assert 2.2e-4 * settings.rate(14.4 * trillion) == pytest.approx(2.2e-5)
    assert 2.2e-4 * settings.rate(14.7 * trillion) == pytest.approx(7.3e-6)
    assert [settings.mtp_weight_at(t * trillion, 0) for t in (9.9, 10.1)] == [0.3, 0.1]
    assert settings.gamma_at(14.2 * trillion) > 0 and settings.gamma_at(14.35 * trillion) == 0


def test_a_change_keeps_the_rest_and_refuses_what_does_not_exist():
    settings = Settings(steps=5, lr=0.1).changed(balance="none")
    assert (settings.lr, settings.steps, settings.balance) == (0.1, 5, "none")
    with pytest.raises(ValueError, match="no setting is called 'gamma'; there are steps"):
        settings.changed(gamma=1)
