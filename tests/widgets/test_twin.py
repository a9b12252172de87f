"""A twin shows itself once, as a PNG with its alt text."""

from minimoe_widgets.twin import Twin


def test_a_twin_shows_itself_as_a_png_with_alt_text():
    twin = Twin("two bars, the left one higher")
    twin.subplots().bar([0, 1], [2, 1])
    data, metadata = twin._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == twin.alt == "two bars, the left one higher"


def test_a_twin_is_not_kept_by_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    Twin("nothing")
    assert plt.get_fignums() == before
