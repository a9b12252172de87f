"""RoutingExplorer in a real JupyterLab: controls move, the picture changes, nothing else happens."""

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

SETUP = """
import dataclasses, torch, minimoe
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import RoutingExplorer

text = "A large animal with a long tail lives in the forest and eats the leaves of trees. " * {repeats}
tokenizer = Tokenizer.train(text, vocab_size=300)
config = dataclasses.replace(minimoe.NANO, n_routed_experts={experts}, n_group=8, topk_group=4, num_hidden_layers=6)

def build(seed):
    model = minimoe.Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for router in model.routers().values():
        router.e_score_correction_bias.normal_(std=0.03, generator=generator)
    return model
"""
SCRUB = """async (steps) => {
    const heat = document.querySelector('.mm-heat'), handle = document.querySelector('.noUi-handle'), times = [];
    for (const key of steps) {
        const drawn = new Promise(done => {
            const observer = new MutationObserver(() => { observer.disconnect(); done(); });
            observer.observe(heat, {attributes: true, attributeFilter: ['data-drawn']});
        });
        const start = performance.now();
        handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        await drawn;
        times.push(performance.now() - start);
        await new Promise(done => setTimeout(done, 50));
    }
    return times;
}"""


def explorer(open_notebook, call, experts=16, repeats=1, **size):
    notebook = open_notebook([SETUP.format(experts=experts, repeats=repeats), call], **size)
    notebook.run_all()
    notebook.page.wait_for_function("() => document.querySelector('.mm-heat')?.dataset.drawn")
    notebook.page.locator(".mm-heat").first.scroll_into_view_if_needed()
    return notebook


def changed(notebook, action):
    """Do `action` and wait until the first heat map has other pixels and another title; gives the new title."""
    before, title = notebook.canvas_hash(), notebook.page.locator(".mm-heat h4").first.inner_text()
    action()
    script = "([pixels, title]) => document.querySelector('.mm-map').toDataURL() !== pixels"
    notebook.page.wait_for_function(script, arg=[before, title], timeout=30_000)
    return notebook.page.locator(".mm-heat h4").first.inner_text()


def test_controls_move_and_the_picture_changes(open_notebook):
    notebook = explorer(open_notebook, "RoutingExplorer(build(0), tokenizer, text=text, layer=3)")
    page = notebook.page
    notebook.screenshot("routing_start")
    handle = page.locator(".noUi-handle").first
    handle.focus()
    assert changed(notebook, lambda: handle.press("ArrowRight")).startswith("Layer 4:")
    assert "selection bias off" in changed(notebook, lambda: page.get_by_label("selection bias on").click())
    notebook.screenshot("routing_without_bias")
    changed(notebook, lambda: page.get_by_label("Colour shows").select_option("score"))
    changed(notebook, lambda: page.get_by_label("Text").fill("The forest eats the animal."))
    notebook.screenshot("routing_scores_of_another_text")
    page.locator(".mm-map").first.focus()
    changed(notebook, lambda: page.keyboard.press("ArrowRight"))
    page.keyboard.press("ArrowDown")
    page.get_by_text("expert 1 (group 0").wait_for()  # the first key entered at token 0, expert 0
    notebook.assert_clean()
    saved = notebook.save()
    assert "widgets" not in saved["metadata"] and len(json.dumps(saved)) < 100_000


def test_64_experts_and_200_tokens_follow_the_slider(open_notebook):
    call = "RoutingExplorer(build(0), tokenizer, text=tokenizer.decode(tokenizer.encode(text)[:200]), layer=1)"
    notebook = explorer(open_notebook, call, experts=64, repeats=8)
    pixels, steps = notebook.canvas_hash(), ["ArrowRight"] * 4 + ["ArrowLeft"] * 4 + ["ArrowRight"] * 4
    times_ms = notebook.page.evaluate(SCRUB, steps)
    assert len(times_ms) == 12 and notebook.canvas_hash() != pixels
    notebook.screenshot("routing_64_experts_200_tokens")
    folder = os.environ.get("MINIMOE_SCREENSHOTS")
    if folder:
        Path(folder, "routing_scrub_ms.json").write_text(json.dumps(times_ms))
    print("milliseconds from key to picture:", [round(t) for t in times_ms])
    notebook.assert_clean()


def test_two_models_fit_on_a_phone_in_the_dark(open_notebook):
    call = "RoutingExplorer(build(0), tokenizer, text=text, other=(build(1), tokenizer), names=('before', 'after'))"
    notebook = explorer(open_notebook, call)
    page = notebook.page
    assert [title.split(",")[0] for title in page.locator(".mm-heat h4").all_inner_texts()] == ["before", "after"]
    notebook.screenshot("routing_two_models")
    changed(notebook, notebook.darken)
    changed(notebook, notebook.shrink_to_phone)
    page.locator(".mm-heat").first.scroll_into_view_if_needed()
    notebook.screenshot("routing_phone_dark")
    notebook.assert_clean()


# JupyterLab hides its page in the very step in which it announces a theme, and shows it in the next frame.
HIDDEN_WHEN_ANNOUNCED = """async () => {
    const heat = document.querySelector('.mm-heat');
    heat.parentElement.style.display = 'none';
    heat.style.color = 'rgb(240, 240, 240)';
    document.body.dataset.jpThemeLight = 'false';
    await Promise.resolve();
    heat.parentElement.style.display = '';
}"""


def test_a_theme_announced_while_the_page_is_hidden_is_painted(open_notebook):
    notebook = explorer(open_notebook, "RoutingExplorer(build(0), tokenizer, text=text)")
    changed(notebook, lambda: notebook.page.evaluate(HIDDEN_WHEN_ANNOUNCED))
    notebook.assert_clean()
