"""The table of CUDA kernels: what has one, by whichever way, and what has none."""

from tests.pretended_cuda.cuda_kernels import without_cuda_kernel


def test_operations_without_a_kernel_are_named():
    direct, delegated, composite, in_place = "mm", "add.Tensor", "linear", "add_.Tensor"
    there = [f"aten::{name}" for name in (direct, delegated, composite, in_place, "nonzero_static")]
    assert without_cuda_kernel([*there, "c10d::allreduce_"]) == []
    missing = ["aten::_sparse_mm_reduce_impl", "aten::no_such_operation"]  # a kernel for the CPU alone
    assert without_cuda_kernel([*missing, *there]) == missing
