"""Import Keras on TensorFlow without the start-up chatter, and make it deterministic.

Only the stages that run a network import this module: TensorFlow takes seconds to load.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from few_labels.errors import require_memory
from few_labels.kernels import TENSORFLOW_THREADS


@contextmanager
def _quiet_native_stderr() -> Iterator[None]:
    """Hold back what native code writes to standard error, and let it out only if the block fails.

    TensorFlow logs two notices from C++ before any setting of its own can silence them.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Make optional packages look absent while the block imports, unless they are loaded already."""
    hidden = [package for package in packages if package not in sys.modules]
    # None in place of a module is how Python marks that it cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


# With less, some of its threads cannot start, and it hangs or aborts.
require_memory(3, "TensorFlow")

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Keras would load both for wrappers and plots that nobody uses here, which takes a third of the whole time.
with _quiet_native_stderr(), _without("sklearn", "matplotlib"):
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(TENSORFLOW_THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(TENSORFLOW_THREADS)
    # Touching the devices makes TensorFlow say now, not in the middle of a progress bar, what it found.
    tf.config.list_logical_devices()

tf.config.experimental.enable_op_determinism()
# Several networks in a process, as where each is judged out of fold, are no mistake to be warned of.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
