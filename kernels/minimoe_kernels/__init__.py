"""The functions that make DeepSeek's models cheap, as Triton kernels that a laptop can run.

Each module holds one function: its kernels, a wrapper that launches them on named tensors, and `..._reference`, the
same in PyTorch with the same signature. On CUDA tensors a wrapper launches Triton, on CPU tensors the simulator
(`minimoe_kernels.sim`), which checks every access and counts what moves. `minimoe_kernels.kernel` says how one source
serves both. `use(model)` hands the kernels to a model.

How the production version differs: engines hold several kernels for one function, for each generation of GPU and each
range of sizes, written in CUDA where the last tenth of speed matters (FlashMLA, DeepGEMM, DeepEP).
"""

from minimoe_kernels.handover import release, use

__all__ = ["release", "use"]
