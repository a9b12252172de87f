"""What the lanes are sent: the steps of the runs, their clock adding up."""

from minimoe_widgets.speculation_run import Run, Step
from minimoe_widgets.speculation_stream import SpeculationStream, pack_race

PLAIN = Run([Step([5], None, False, None, 2.0), Step([6], None, False, None, 1.0), Step([7], None, False, None, 1.0)])
FAST = Run([Step([5], None, False, None, 2.0), Step([6], 9, False, 0.25, 1.5), Step([7, 8], 7, True, 1.0, 1.5)])


def pack():
    return pack_race((PLAIN, FAST), "t{}".format, "title", "alt")


def test_every_call_carries_its_tokens_its_draft_and_when_it_ended():
    frame = pack()
    assert [lane["name"] for lane in frame["lanes"]] == ["plain", "speculative"]
    assert [step["end_ms"] for step in frame["lanes"][1]["steps"]] == [2.0, 3.5, 5.0]
    rejected = {"tokens": ["t6"], "draft": "t9", "kept": False, "chance": 0.25, "end_ms": 3.5}
    assert frame["lanes"][1]["steps"][1] == rejected
    assert frame["lanes"][1]["steps"][2]["tokens"] == ["t7", "t8"]
    assert all(step["draft"] is None for step in frame["lanes"][0]["steps"])


def test_the_clock_runs_as_long_as_the_slower_lane():
    frame = pack()
    assert frame["cpu_ms"] == 5.0 and [lane["cpu_ms"] for lane in frame["lanes"]] == [4.0, 5.0]


def test_a_frame_travels_to_the_browser_with_the_script_that_draws_it():
    stream = SpeculationStream()
    stream.frame = pack()
    assert stream.get_state()["frame"]["title"] == "title" and "export default" in str(stream._esm)
