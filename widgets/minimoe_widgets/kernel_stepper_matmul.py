"""The kernel that KernelStepper opens with: a matrix product in tiles, C = A B, as a Triton file would hold it.

Each program owns one tile of C. It walks along the inner axis, loads a piece of a band of A and a piece of a band of B,
multiplies them and adds up in float32. Matrices are row-major and without gaps: A is M x D, B is D x F, C is M x F.

How the production version differs: programs are started in an order that lets neighbours share loads through the L2
cache, tiles are sized by measurement, and loads run ahead of the products.
"""

from minimoe_kernels.kernel import tl, triton

__all__ = ["matmul"]


@triton.jit
def matmul(
    a_ptr, b_ptr, c_ptr, M, D, F, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_F: tl.constexpr
):  # fmt: skip
    rows = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    columns = (tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F))[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_F), dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        across = (start + tl.arange(0, BLOCK_D))[None, :]
        down = (start + tl.arange(0, BLOCK_D))[:, None]
        a = tl.load(a_ptr + rows * D + across, mask=(rows < M) & (across < D), other=0.0)
        b = tl.load(b_ptr + down * F + columns, mask=(down < D) & (columns < F), other=0.0)
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows * F + columns, acc, mask=(rows < M) & (columns < F))
