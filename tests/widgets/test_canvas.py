"""What the canvases share: one script in front of each, colours from dark to light."""

import numpy as np

from minimoe_widgets.canvas import script, viridis


def test_a_script_is_one_module_with_the_shared_functions_first():
    for name in ("heatmap.js", "balance.js"):
        text = script(name)
        assert text.index("function sizeCanvas") < text.index("export default { render };")
        assert text.count("export default") == 1 and "import " not in text and "http" not in text


def test_the_colours_are_256_and_grow_lighter():
    colours = np.frombuffer(viridis(), np.uint8).reshape(256, 3)
    light = colours @ [0.299, 0.587, 0.114]
    assert light[0] < light[128] < light[255]
