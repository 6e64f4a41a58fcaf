"""Which machine code computes: the same on every x86-64 processor with AVX2, whatever the caller's environment says.

Libraries look at the processor, its number of cores and the environment, and round differently on each. Here they are
held to the instructions that all such processors have, and to one thread, so that what they sum comes in one order.
Work goes over all cores by blocks of rows (`few_labels.blocks`), whose sums are taken in a fixed order.
"""

import os
import platform
import sys

# TensorFlow sums what its threads bring, so their number is part of a result. With more of them than cores it is merely
# slower.
TENSORFLOW_THREADS = 2

PINNED = {
    # NumPy's, SciPy's and faiss's linear algebra.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_DYNAMIC": "FALSE",
    # TensorFlow's convolutions and products.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
}
PINNED_ON_X86 = {
    "OPENBLAS_CORETYPE": "Haswell",
    # NumPy's own loops, and faiss's.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "FAISS_SIMD_LEVEL": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
# Older or second names of the same settings, which would win over them or contradict them.
UNSET = [
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "FAISS_OPT_LEVEL",
    "GOTO_NUM_THREADS",
    "NPY_ENABLE_CPU_FEATURES",
    "OPENBLAS_DEFAULT_NUM_THREADS",
    "OPENBLAS_L2_SIZE",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
]


# Which release of these is used decides the results, as kernels do.
DECISIVE = [
    "faiss-cpu",
    "joblib",
    "keras",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "scikit-learn",
    "scipy",
    "tensorflow",
]


def pin_kernels() -> None:
    """Set what decides which kernels run, before the first library that computes is imported.

    Raises
    ------
    RuntimeError
        If NumPy is there already and started from other settings: it reads them once.
    """
    as_wanted = all(os.environ.get(name) == value for name, value in name_kernels().items())
    if "numpy" in sys.modules and not as_wanted:
        raise RuntimeError("NumPy was imported before its kernels were pinned: import stages first")
    set_environment()


def set_environment() -> None:
    """Set what the processes that this one starts will read."""
    os.environ.update(name_kernels())
    for name in UNSET:
        os.environ.pop(name, None)


def name_kernels() -> dict[str, str]:
    """Give the variables of the environment that decide on this kind of machine, and their values."""
    return PINNED | (PINNED_ON_X86 if platform.machine() in {"x86_64", "AMD64"} else {})
