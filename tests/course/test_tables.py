"""Tables show the same numbers as HTML and as text, and say where they come from."""

import pytest

from minimoe_course import compare_table, receipt
from minimoe_course.tables import Table, number


@pytest.mark.parametrize(
    "value, text",
    [
        (671026419200, "671,026,419,200"),
        (70.272, "70.27"),
        (0.5, "0.5"),
        (0.0, "0"),
        (12345.6, "12,346"),
        (3.7e-7, "3.700e-07"),
        ("x", "x"),
        (True, "True"),
    ],
)
def test_numbers_are_rounded_to_what_they_mean(value, text):
    assert number(value) == text


def test_a_comparison_prints_in_columns_with_numbers_flush_right():
    table = compare_table([("hidden size", 64, 7168, "section 4.2"), ("experts", 8, 256, "section 4.2")], ours="NANO")
    assert repr(table).splitlines() == [
        "             NANO  DeepSeek-V3  source",
        "-----------  ----  -----------  -----------",
        "hidden size    64        7,168  section 4.2",
        "experts         8          256  section 4.2",
    ]
    html = table._repr_html_()
    assert html.count("<tr>") == 3 and '<td style="text-align:right">7,168</td>' in html


def test_text_is_escaped_in_html():
    assert "a &lt; b" in Table(("a < b",), [("<script>",)])._repr_html_()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="has 2 cells; the table has 4 columns"):
        compare_table([("hidden size", 64)])


def test_a_receipt_takes_only_the_three_ways_a_number_can_be_known():
    rows = [
        ("a", 1, "computed"),
        ("b", 2, "asserted by tests/minimoe/test_accounting.py"),
        ("c", 3, "source: arXiv 2412.19437"),
    ]
    assert "how it is known" in repr(receipt(rows))
    with pytest.raises(ValueError, match="has origin 'I remember'"):
        receipt([("a", 1, "I remember")])
