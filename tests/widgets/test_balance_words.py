"""The sentences under the picture say what the numbers are."""

from minimoe_widgets.balance_run import live_settings
from minimoe_widgets.balance_stream import Stream
from minimoe_widgets.balance_words import alt_text, change_label, title


def window(*loads, marks=()):
    stream = Stream()
    for n, load in enumerate(loads, start=1):
        maxvio = max(load) / (sum(load) / len(load)) - 1
        record = {"step": n, "next_token": 5.0 - n, "maxvio_by_layer": {"1": maxvio}, "load": {"1": list(load)}}
        stream.extend([record])
    for at, label in marks:
        stream.mark(at, label)
    return stream.window(1)


def test_the_title_names_the_busiest_and_counts_the_starved():
    said = title("Layer 1", window((1, 1, 1, 1), (0, 9, 2, 1), marks=[(1, "no balancing")]))
    assert said == (
        "Layer 1, step 2: no balancing. Expert 1 serves 3.0 times the mean load, 1 of 4 get less than a tenth of it "
        "(MaxVio 2.00)"
    )
    assert "no expert starves (MaxVio 0.00)" in title("Layer 1", window((2, 2)))


def test_the_alt_text_follows_maxvio_from_switch_to_switch():
    said = alt_text("Layer 1", window((1, 1), (4, 0), (3, 1), marks=[(1, "none"), (3, "loss-free")]))
    assert "2 experts over steps 1 to 3" in said and "(from step 1 none; from step 3 loss-free)" in said
    assert "MaxVio goes from 0.00 to 1.00 before step 3, to 0.50 at the end" in said
    assert "the loss from 4.00 to 2.00 nats" in said


def test_a_change_is_named_with_its_strength():
    assert change_label(live_settings()) == "no balancing"
    assert change_label(live_settings(balance="loss_free", bias_gamma=0.005)) == "loss-free, γ 0.005"
    assert change_label(live_settings(balance="aux", aux_alpha=0.1)) == "auxiliary loss, α 0.1"
