"""The slips that `minimoe_kernels.checks.mutants` makes, each a few characters of a kernel's source changed.

(kernel, name, what stands there, what it becomes), by module. The text to change must stand in the kernel exactly once.

How the production version differs: mutation tools change every operator they find and ask afterwards which changes
mattered; these are the mistakes that somebody makes.
"""

# ruff: noqa: E501 - a slip stands on one line, what it changes beside what it makes of it
__all__ = ["SLIPS"]

SLIPS = {
    "rms_norm": [
        ("rms_norm_forward", "operand: the first row for all", "x_ptr + row * D + columns", "x_ptr + columns"),
        ("rms_norm_forward", "mean over the block, not over D", "axis=0) / D + eps", "axis=0) / BLOCK + eps"),
        ("rms_norm_forward", "no residual", "(x.to(ACC) + residual.to(ACC))", "(x.to(ACC))"),
        ("rms_norm_forward", "eps forgotten", "axis=0) / D + eps", "axis=0) / D"),
        ("rms_norm_backward", "operand: gain forgotten", "d_unit = d_out * weight", "d_unit = d_out"),
        ("rms_norm_backward", "second term forgotten", "(d_unit - unit * (tl.sum(d_unit * unit, axis=0) / D))", "d_unit"),
        ("rms_norm_backward", "gradient of the stream forgotten", "d_x += tl", "d_x += 0 * tl"),
    ],
    "rope": [
        ("rope_kernel", "operand: the token's number as position", "tl.load(position_ptr + row).to(", "row.to("),
        ("rope_kernel", "turned backwards", "    if BACK:", "    if not BACK:"),
        ("rope_kernel", "never turned back", "sin = -sin", "sin = sin * 1.0"),
    ],
    "swiglu": [
        ("swiglu_forward", "operand: gate and up exchanged", "gate * tl.sigmoid(gate) * up", "up * tl.sigmoid(up) * gate"),
        ("swiglu_forward", "one stride for both halves", "up_ptr + row * up_row", "up_ptr + row * F"),
        ("swiglu_backward", "operand: gate and up exchanged", "d_out * gate * s,", "d_out * up * s,"),
        ("swiglu_backward", "slope of the sigmoid forgotten", "s * (1 + gate * (1 - s))", "s"),
    ],
    "fp8_quant": [
        ("scale_of", "operand: no scale for zeros", "tl.where(amax > 0, tl.div_rn(amax, FP8_MAX), 1.0)", "tl.div_rn(amax, FP8_MAX)"),
        ("scale_of", "power of two rounded down", "(bits + 0x7FFFFF)", "bits"),
        ("quantise_tiles_kernel", "operand: largest down the columns", "tl.max(tl.abs(x), axis=1)", "tl.max(tl.max(tl.abs(x), axis=0), axis=0) + tl.zeros((BLOCK_M,), dtype=tl.float32)"),
        ("quantise_tiles_kernel", "largest instead of largest magnitude", "tl.abs(x)", "x"),
        ("quantise_blocks_kernel", "operand: scales transposed", "tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)", "tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)"),
        ("dequantise_kernel", "operand: one scale for a block", "rows // TILE_X", "rows // TILE_X * 0"),
        ("dequantise_kernel", "divided by the scale", "fp8 * scale[:, None]", "fp8 / scale[:, None]"),
    ],
    "swiglu_quant": [
        ("swiglu_quant_kernel", "operand: gate and up exchanged", "wide * tl.sigmoid(wide) * up.to(tl.float32)", "wide * tl.sigmoid(up.to(tl.float32)) * up.to(tl.float32)"),
        ("swiglu_quant_kernel", "one percent too large", ".to(gate.dtype).to(tl.float32)", " * 1.01"),
    ],
    "fp8_gemm": [
        ("fp8_gemm_kernel", "operand: weight transposed", "columns[None, :].to(tl.int64) * weight_row + d[:, None]", "d[:, None].to(tl.int64) * weight_row + columns[None, :]"),
        ("fp8_gemm_kernel", "scales of the first tile for all", "x_scale_ptr + rows * tiles + j", "x_scale_ptr + rows * tiles"),
        ("fp8_gemm_kernel", "weight scale forgotten", "(x_scale * w_scale)", "(x_scale)"),
        ("fp8_gemm_kernel", "one scale for all rows of a tiled weight", "columns.to(tl.int64) * tiles + j", "columns.to(tl.int64) * 0 + j"),
        ("fp8_gemm_kernel", "a tiled weight's scales by x's rows", "x_scale[:, None] * w_scale[None, :]", "x_scale[:, None]"),
    ],
    "router": [
        ("route_kernel", "operand: bias in the gates", "tl.where(here, flat_score, 0.0)", "tl.where(here, flat_biased, 0.0)"),
        ("route_kernel", "groups ranked by their best alone", "best += tl.max", "best += 0 * tl.max"),
        ("route_kernel", "excluded groups set to 0", 'kept[:, None], biased, float("-inf"))', "kept[:, None], biased, 0.0)"),
        ("route_kernel", "no bias in the choice", "score + tl.load", "score + 0 * tl.load"),
    ],
    "align": [
        ("count_kernel", "operand: a neighbour counted", "chosen_ptr + at, mask=at < A", "chosen_ptr + at, mask=at < A - 1"),
        ("starts_kernel", "operand: ends for starts", "start = ends - total", "start = ends"),
        ("place_kernel", "operand: inclusive rank", "axis=0) - hit +", "axis=0) +"),
        ("place_kernel", "rank not carried over", "next_place += tl.sum(hit, axis=0)", "next_place += 0"),
        ("tiles_kernel", "operand: tiles by whole size", "+ TILE - 1) // TILE", ") // TILE"),
    ],
    "permute": [
        ("gather_kernel", "operand: the slot for the token", "(assignment // K) * D", "(assignment % K) * D"),
        ("gather_kernel", "gate by place, not by assignment", "gates_ptr + assignment", "gates_ptr + place"),
        ("sum_kernel", "operand: gates transposed", "gates_ptr + token * K + k", "gates_ptr + k * tl.num_programs(0) + token"),
        ("gate_gradient_kernel", "operand: row by assignment", "where_ptr + token * K + k).to", "where_ptr + token).to"),
    ],
    "grouped_gemm": [
        ("rows_kernel", "operand: weight transposed", "columns[None, :] * w_n + d[:, None] * w_d", "columns[None, :] * w_d + d[:, None] * w_n"),
        ("rows_kernel", "into the next expert's rows", "(rows[:, None] < end) & (columns[None, :] < N)", "(rows[:, None] < end + 1) & (columns[None, :] < N)"),
        ("weight_gradient_kernel", "operand: rows of the next expert", "(a[:, None] < end) & (d[None, :] < D)", "(d[None, :] < D)"),
        ("weight_gradient_kernel", "operand: transposed result", "f[:, None] * D + d[None, :]", "d[None, :] * F + f[:, None]"),
    ],
    "mla_decode": [
        ("split_kernel", "operand: query transposed", "(sequence * H + heads[:, None]) * (C + R)", "(heads[:, None] * tl.num_programs(0) + sequence) * (C + R)"),
        ("split_kernel", "operand: rotary part against the latent", "cache_ptr + (page * PAGE + s % PAGE) * (C + R)", "cache_ptr + (page * PAGE + s % PAGE) * (C + R) + R"),
        ("split_kernel", "pages taken in order", "tl.load(table_ptr + sequence * table_row + s // PAGE, mask=inside, other=0)", "(s // PAGE)"),
        ("split_kernel", "old output not shrunk", "acc * shrink[:, None]", "acc"),
        ("split_kernel", "scale on one part only", "scores = tl.dot(q_latent, tl.trans(values), input_precision=PRECISION)", "scores = tl.dot(q_latent, tl.trans(values), input_precision=PRECISION) / scale"),
        ("split_kernel", "no mask at the end", 'tl.where(inside[None, :], scores, float("-inf"))', "scores"),
        ("combine_kernel", "operand: shares weighted alike", "partial * weights[:, None]", "partial * (total / SPLITS)"),
        ("combine_kernel", "sum not divided out", "/ tl.where(total > 0, total, 1.0)", ""),
    ],
    "mla_prefill": [
        ("prefill_kernel", "operand: query transposed", "query = (sequence * T + t) * H + head", "query = (sequence * H + head) * T + t"),
        ("prefill_kernel", "operand: one head's keys for all", "key = (sequence * S + s) * H + head", "key = (sequence * S + s) * H"),
        ("prefill_kernel", "diagonal hidden", "s[None, :] <= seen", "s[None, :] < seen"),
        ("prefill_kernel", "later chunk masked as the first", "s[None, :] <= seen + t[:, None]", "s[None, :] <= t[:, None]"),
        ("prefill_kernel", "rotary part forgotten", "tl.dot(q_rot, k_rot, scores, input_precision=PRECISION, out_dtype=ACC) * scale", "scores * scale"),
        ("prefill_kernel", "old output not shrunk", "acc * shrink[:, None]", "acc"),
        ("slopes_of", "operand: delta forgotten", "(d_weights - delta[:, None])", "d_weights"),
        ("slopes_of", "scale forgotten", "delta[:, None]) * scale", "delta[:, None])"),
        ("query_gradient_kernel", "operand: output's gradient transposed", "d_out_ptr + query[:, None] * W + w[None, :]", "d_out_ptr + ((sequence * H + head) * T + t)[:, None] * W + w[None, :]"),
        ("query_gradient_kernel", "diagonal hidden", "s[None, :] <= S", "s[None, :] < S"),
        ("key_gradient_kernel", "operand: output's gradient transposed", "d_out_ptr + query[:, None] * W + w[None, :]", "d_out_ptr + ((sequence * H + head) * T + t)[:, None] * W + w[None, :]"),
        ("key_gradient_kernel", "first queries skipped", "(S - T), 0) // BLOCK_T * BLOCK_T", "(S - T), 0) // BLOCK_T * BLOCK_T + BLOCK_T"),
    ],
    "log_probs": [
        ("logits_of", "operand: weight transposed", "tokens[None, :].to(tl.int64) * D + d[:, None]", "d[:, None].to(tl.int64) * V + tokens[None, :]"),
        ("logits_of", "last tile", "range(0, D, BLOCK_D)", "range(0, D - BLOCK_D, BLOCK_D)"),
        ("pieces_kernel", "operand: the neighbour's token", "tokens[None, :] == chosen[:, None]", "tokens[None, :] == chosen[:, None] + 1"),
        ("pieces_kernel", "vocabulary not masked", 'tl.where(tokens[None, :] < V, logits, float("-inf"))', "logits"),
        ("gather_pieces_kernel", "operand: the first piece for all", "peak_ptr + row * X + piece", "peak_ptr + row * X + piece * 0"),
        ("gather_pieces_kernel", "pieces' peaks ignored", "totals * tl.exp(peaks - peak)", "totals"),
        ("slope_kernel", "operand: one row's slope for all", "d_ptr + rows", "d_ptr + rows * 0"),
        ("slope_kernel", "chosen token's share forgotten", "hit - tl.exp", "0 * hit - tl.exp"),
        ("slope_kernel", "temperature forgotten", "log_sum[:, None])) / temperature", "log_sum[:, None]))"),
    ],
}  # fmt: skip
