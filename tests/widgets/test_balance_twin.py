"""The static twin shows the window's numbers and the switches."""

from minimoe_widgets.balance_stream import Stream
from minimoe_widgets.balance_twin import draw_twin


def stream(layers=("1", "2")):
    made = Stream()
    for n in range(1, 5):
        load = {layer: [6, 2] if n < 3 else [4, 4] for layer in layers}
        maxvio = {layer: 0.5 if n < 3 else 0.0 for layer in layers}
        made.extend([{"step": n, "next_token": 4.0 / n, "load": load, "maxvio_by_layer": maxvio}])
    made.mark(1, "no balancing")
    made.mark(3, "loss-free, γ 0.02")
    return made


def test_the_twin_shows_loads_curves_and_marks():
    twin = draw_twin(stream().window(1), "title", "what is seen", worst=1.0)
    above, middle, below = twin.axes[:3]
    assert above.images[0].get_array().tolist() == [[1.5, 1.5, 1, 1], [0.5, 0.5, 1, 1]]
    assert below.lines[0].get_ydata().tolist() == [4, 2, 4 / 3, 1]
    assert [text.get_text() for text in above.texts] == ["no balancing", "loss-free, γ 0.02"]
    assert middle.lines[1].get_ydata().tolist() == [0.5, 0.5, 0, 0]
    assert [tuple(line.get_xdata()) for line in below.lines[1:]] == [(2.5, 2.5)]  # before step 3; none at the start
    assert twin.alt == "what is seen" and twin.png().startswith(b"\x89PNG")


def test_the_worst_case_is_drawn_only_where_it_is_near():
    def dashed(worst):
        lines = draw_twin(stream().window(1), "", "", worst).axes[1].lines
        return [line for line in lines if line.get_linestyle() == "--"]

    assert len(dashed(0.6)) == 1 and dashed(30.0) == []
