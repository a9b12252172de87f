"""Is a kernel right? One check a function: many sizes, exact answers in float64, and tolerances from an error model.

A check takes the module that holds the wrappers and compares them, on tensors of a device, with the reference computed
in float64 *from the same rounded inputs*. It is the same check under the simulator, under Triton's interpreter and on a
GPU, and the bench records no time for a kernel that fails it. It runs on deliberately wrong copies of a kernel too
(`minimoe_kernels.checks.mutants`): a check that a wrong kernel passes is worth nothing.

How the production version differs: most suites compare with PyTorch in the same 16 bits under a tolerance chosen by
hand. At least one popular tolerance is so wide that a kernel which writes zeros passes.
"""
