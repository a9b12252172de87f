"""The table of `minimoe count`: golden numbers, sums that add up, columns that align."""

from dataclasses import replace

import pytest

from minimoe.cli import main
from minimoe.config import NANO, PRESETS, V3


def test_counting_v3_prints_the_golden_numbers(capsys):
    assert main(["count", "V3"]) == 0
    out = capsys.readouterr().out
    for golden in (
        "671,026,419,200",
        "11,610,068,224",
        "37.552",
        "36.626",
        "35.699",
        "680,571,043,840",
        "3,918,786,560",
        "41,540,496",
        "684,531,386,000",
        "688,574,839,360",
        "70,272",
        "40,016",
        "250.46 G",
    ):
        assert golden in out, golden


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_counted_in_aligned_columns_of_a_terminals_width(name, capsys):
    assert main(["count", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines[1:] if line]
    assert max(map(len, table)) <= 88
    with_both = [line for line in table if line[-1].isdigit() and line[52:70].strip()]
    assert len(with_both) > 10 and {len(line) for line in with_both} <= {70, 88}


def test_the_parts_that_are_printed_add_up_to_the_total_that_is_printed(capsys):
    main(["count", "V2-Lite"])
    rows = capsys.readouterr().out.split("\n\n")[1].splitlines()[1:]
    numbers = [int(row[52:70].replace(",", "")) for row in rows]
    used = [int(row[70:].replace(",", "")) for row in rows]
    assert sum(numbers[:-1]) == numbers[-1] == 15_706_484_224
    assert sum(used[:-1]) == used[-1]


def test_a_model_without_latents_experts_or_mtp_is_counted_too(tmp_path, capsys):
    config = replace(
        NANO, kv_lora_rank=None, num_key_value_heads=2, n_routed_experts=None, num_nextn_predict_layers=0
    )
    config.to_json(tmp_path)
    assert main(["count", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "routed" not in out and "MTP" not in out and "FlashMLA" not in out


def test_the_sequence_length_moves_attention_only(capsys):
    def printed(length):
        main(["count", "V3", "--seq-len", length])
        return capsys.readouterr().out.splitlines()

    short, long = printed("1024"), printed("2048")
    changed = [a.split()[0] for a, b in zip(short, long, strict=True) if a != b]
    assert changed == ["FLOPs", "attention", "in"]


def test_other_quantisations_are_counted_except_for_their_files(tmp_path, capsys):
    replace(V3, quantization_config={"quant_method": "compressed-tensors"}).to_json(tmp_path)
    assert main(["count", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "671,026,419,200" in out and "'compressed-tensors'" in out
