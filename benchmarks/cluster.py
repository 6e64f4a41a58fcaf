"""K-means on 250,000 images by one, two and three workers of a cluster on this machine, beside Spark's.

The images are those of `benchmarks.many_images`. Quality is the inertia, computed alike for all. Spark needs Java,
which pip cannot bring: where there is none, it is left out.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import PROJECT, Measurement, System, load, params
from benchmarks.local_cluster import cluster
from benchmarks.many_images import make_blocks
from few_labels.blocks import open_rows
from few_labels.kmeans import assign, measure_distances
from few_labels.stored import Rows, Stored

N_IMAGES = 250_000
N_CLUSTERS = 500
WORKERS = (1, 2, 3)
LIMIT = "1GB"


@contextmanager
def images() -> Iterator[Path]:
    """Write the images as an array, in a folder that is gone afterwards."""
    with TemporaryDirectory(dir=PROJECT / ".dvc/tmp") as scratch:
        path, originals = Path(scratch, "images.npy"), load("train_images")
        out = Stored.create(path, (N_IMAGES, *originals.shape[1:]), np.uint8)
        start = 0
        for block in make_blocks(originals, N_IMAGES):
            out[start : start + len(block)] = block
            start += len(block)
        yield path


def open_pixels(path: Path) -> Rows:
    """Give the images as rows of pixels, which are read a partition at a time."""
    return open_rows(np.load(path, mmap_mode="r"))


def measure_inertia(X: Rows, centroids: NDArray[np.float32]) -> str:
    """Sum the squared distances to the nearest centroids."""
    cluster, _ = assign(X, centroids)
    return f"{np.square(measure_distances(X, centroids, cluster), dtype=np.float64).sum():.0f}"


def measure_ours(n_workers: int) -> Measurement:
    """Time the stage's own work, once all workers are there."""
    from few_labels.cluster import connect
    from stages.kmeans import fit_kmeans

    measurement = Measurement()
    with images() as path, cluster(n_workers, LIMIT, PROJECT) as (address, _):
        os.environ["DASK_SCHEDULER_ADDRESS"] = address
        connect().wait_for_workers(n_workers)
        X = open_pixels(path)
        with measurement.clock():
            fitted = fit_kmeans(
                X, N_CLUSTERS, **params()["kmeans"], seed=params()["seed"], scratch=path.with_name("scratch.npy")
            )
        measurement.quality = measure_inertia(X, fitted.cluster_centers_)
    return measurement


def measure_spark() -> Measurement:
    """Time Spark's fit, once it holds the images as vectors."""
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession

    # Its workers are processes of the same Python, which find what this one finds.
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(sys.path)}
    measurement = Measurement()
    with images() as path:
        X = open_pixels(path)
        raw = path.with_suffix(".raw")
        np.load(path, mmap_mode="r").tofile(raw)
        settings = {"spark.driver.memory": "8g", "spark.ui.enabled": "false", "spark.local.dir": str(path.parent)}
        builder = SparkSession.builder.master("local[*]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        records = session.sparkContext.binaryRecords(str(raw), X.shape[1])
        vectors = records.map(lambda record: (Vectors.dense(np.frombuffer(record, np.uint8) / 255),)).toDF(["features"])
        vectors.cache().count()
        with measurement.clock():
            fitted = KMeans(k=N_CLUSTERS, seed=params()["seed"]).fit(vectors)
        measurement.quality = measure_inertia(X, np.array(fitted.clusterCenters(), np.float32))
        session.stop()
    return measurement


SYSTEMS = [
    System(f"cluster-kmeans-{N_IMAGES}", f"ours, {n} worker{'s' * (n > 1)}", partial(measure_ours, n), n_runs=1)
    for n in WORKERS
]
if shutil.which("java"):
    SYSTEMS.append(System(f"cluster-kmeans-{N_IMAGES}", "Spark MLlib KMeans", measure_spark, n_runs=1, cap=1800))
