"""A map gives the same bytes in this process and on any cluster, which is lost, killed and wrongly set up here."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pytest
from distributed import Client

from few_labels import blocks, cluster, kmeans
from few_labels.blocks import map_partitions, open_rows, run_partitions, split
from few_labels.encoder import read_encoder
from few_labels.errors import InputError
from few_labels.stored import Rows, Stored
from stages.kmeans import describe, fit_kmeans
from tests.conftest import PROJECT, Clone, cut_small
from tests.onnx_models import N_FEATURES, NODES, SIDE, WEIGHTS, save, write_model
from tests.servers import HOST, Server, free_port, relay, running

N_ROWS = 1500
ROWS_PER_PARTITION = 170


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_ROWS_WHOLE", 500)
    monkeypatch.setattr(blocks, "ROWS_PER_PARTITION", ROWS_PER_PARTITION)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images whose rows are nine partitions."""
    path = tmp_path / "images.npy"
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (40, 8, 8, 1))
    noise = rng.integers(-20, 21, (N_ROWS, 8, 8, 1))
    np.save(path, np.clip(kinds[rng.integers(0, 40, N_ROWS)] + noise, 0, 255).astype(np.uint8))
    return path


@contextmanager
def scheduler(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "dask", "scheduler", "--host", HOST, "--port", str(port), "--no-dashboard"]
    with running(Server(command, port, folder / "scheduler.log")) as server:
        yield server


@contextmanager
def workers(
    address: str, n: int, code: Path = PROJECT, *, preload: bool = True, memory: str = "1GB"
) -> Iterator[psutil.Process]:
    """Start what ``make worker`` starts, with the code of a folder, and give the process that starts them again."""
    command = [sys.executable, "-m", "dask", "worker", address, "--no-dashboard", "--nthreads", "1"]
    command += ["--nworkers", str(n), "--memory-limit", memory]
    command += ["--preload-nanny", "few_labels.worker"] if preload else []
    pinned = {*cluster.describe_process()}
    environment = {name: value for name, value in os.environ.items() if preload or name not in pinned}
    environment |= {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    with (
        # Of their own: who ends first takes the folder away, and others may be at work.
        TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        subprocess.Popen(
            [*command, "--local-directory", scratch],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as started,
    ):
        nannies = psutil.Process(started.pid)
        try:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(n, timeout=60)
            yield nannies
        finally:
            for process in [*nannies.children(recursive=True), nannies]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@contextmanager
def using(address: str) -> Iterator[None]:
    """Have maps of this process run on the cluster at an address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cluster.ADDRESS, address)
        try:
            yield
        finally:
            if cluster._connect.cache_info().currsize:
                cluster.connect().close()
            cluster._connect.cache_clear()


@contextmanager
def one_worker(folder: Path, code: Path = PROJECT, *, preload: bool = True) -> Iterator[None]:
    """Have maps run on a cluster of its own with a worker that has the code of a folder."""
    with scheduler(folder) as server, workers(address_of(server), 1, code, preload=preload), using(address_of(server)):
        yield


def address_of(server: Server) -> str:
    return f"tcp://{HOST}:{server.port}"


@pytest.fixture(scope="module")
def one_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler(tmp_path_factory.mktemp("scheduler")) as server:
        yield address_of(server)


@pytest.fixture(scope="module")
def two_workers(one_scheduler: str) -> Iterator[str]:
    with workers(one_scheduler, 2):
        yield one_scheduler


def cluster_images(X: Rows, scratch: Path) -> list[bytes]:
    """Give the bytes of everything that the stage kmeans computes."""
    model = fit_kmeans(X, 30, n_components=4, n_iter_components=3, n_iter_pixels=2, seed=0, scratch=scratch)
    found = describe(model, X)
    arrays = [model.cluster_centers_, found.cluster, found.distance_to_centroid, found.representative]
    return [array.tobytes() for array in arrays] + [np.float64(model.inertia_).tobytes()]


def read(path: Path) -> Rows:
    return open_rows(np.load(path, mmap_mode="r"))


def sum_slowly() -> Callable[[np.ndarray], float]:
    """Give a function that travels by what it does: workers do not know the tests."""

    def slowly(X: np.ndarray) -> float:
        time.sleep(0.2)
        return float(X.sum())

    return slowly


def test_rows_in_a_file_are_those_in_memory(images: Path) -> None:
    X, whole = read(images), np.load(images).reshape(N_ROWS, -1) / np.float32(255)
    assert isinstance(X, Stored)
    assert (X.shape, X.dtype, len(X)) == ((N_ROWS, 64), np.float32, N_ROWS)
    np.testing.assert_array_equal(X[:], whole)
    np.testing.assert_array_equal(X[1490:1600], whole[1490:])
    np.testing.assert_array_equal(X[np.array([7, 1499, 7])], whole[[7, 1499, 7]])
    np.testing.assert_array_equal(X.columns(5)[3:9], whole[3:9, :5])


def test_an_encoder_travels_to_the_workers_without_a_word(images: Path, tmp_path: Path, two_workers: str) -> None:
    stored = Stored.of(np.load(images, mmap_mode="r"))
    # As large as a real one, of which a client of Dask's would warn.
    constants = {"weights": WEIGHTS, "unused": np.zeros(4_000_000, np.float32)}
    model = write_model(NODES, {"image": (1, 3, SIDE, SIDE)}, {"row": (1, N_FEATURES)}, constants)
    encoder = read_encoder(save(tmp_path / "encoders", model), "tiny")
    out = Stored.create(tmp_path / "rows.npy", (N_ROWS, N_FEATURES), np.float32)
    with using(two_workers), warnings.catch_warnings():
        warnings.simplefilter("error")
        run_partitions(encoder.transform, stored, out=out)
    assert out[:].tobytes() == encoder.transform(np.load(images)).tobytes()


def test_partitions_are_cut_by_the_shape_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*shape: int) -> list[tuple[int, int]]:
        return [(part.start, part.stop) for part in split(Stored("nowhere", 0, shape, np.dtype(np.float32)))]

    assert cut(501, 3) == [(0, 170), (170, 340), (340, 501)]
    assert cut(0, 3) == []
    assert split(np.zeros((501, 3))) == [slice(0, 501)]
    monkeypatch.setattr(blocks, "VALUES_PER_PARTITION", 400)
    assert cut(11, 100) == [(0, 4), (4, 8), (8, 11)]
    assert cut(2, 1000) == [(0, 1), (1, 2)]


def test_a_small_file_is_held_in_memory(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_ROWS_WHOLE", N_ROWS)
    assert isinstance(read(images), np.ndarray)
    monkeypatch.setattr(blocks, "MOST_VALUES_WHOLE", N_ROWS * 64 - 1)
    assert isinstance(read(images), Stored)


def test_partitions_cluster_as_well_as_the_whole(images: Path, tmp_path: Path) -> None:
    fit = partial(fit_kmeans, n_clusters=30, n_components=4, n_iter_components=3, n_iter_pixels=2, seed=0)
    whole, parts = fit(read(images)[:]), fit(read(images), scratch=tmp_path / "scratch.npy")
    assert parts.inertia_ == pytest.approx(whole.inertia_, rel=0.02)


@pytest.mark.parametrize(("n_workers", "most_compared"), [(1, 2**13), (5, 10)])
def test_any_number_of_workers_gives_the_bytes_of_this_process(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int, most_compared: int
) -> None:
    monkeypatch.setattr(kmeans, "MOST_COMPARED", most_compared)
    monkeypatch.setattr(kmeans, "CENTROIDS_PER_GROUP", 5)
    here = cluster_images(read(images), tmp_path / "here.npy")
    with scheduler(tmp_path) as server, workers(address_of(server), n_workers), using(address_of(server)):
        assert cluster_images(read(images), tmp_path / "there.npy") == here


def test_a_map_runs_on_the_workers(images: Path, two_workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with using(two_workers):
        ran_in = set(map_partitions(lambda X: os.getpid(), read(images)))
    assert f"2 workers of the cluster at {two_workers}, watched at http://" in capsys.readouterr().out
    assert len(ran_in) == 2
    assert os.getpid() not in ran_in


def test_what_is_one_partition_stays_here(images: Path, two_workers: str) -> None:
    with using(two_workers):
        assert list(map_partitions(lambda X: os.getpid(), read(images)[:500])) == [os.getpid()]


def test_a_killed_worker_changes_nothing(images: Path, one_scheduler: str) -> None:
    expected = list(map_partitions(sum_slowly(), read(images)))
    with workers(one_scheduler, 2), using(one_scheduler):
        results = map_partitions(sum_slowly(), read(images))
        seen = [next(results)]
        os.kill(next(iter(cluster.connect().run(os.getpid).values())), signal.SIGKILL)
        seen += results
    assert seen == expected


def test_a_lost_connection_changes_nothing(images: Path, tmp_path: Path) -> None:
    expected = list(map_partitions(sum_slowly(), read(images)))
    with (
        scheduler(tmp_path) as server,
        workers(address_of(server), 2),
        relay(server) as between,
        using(f"tcp://{HOST}:{between.port}"),
    ):
        results = map_partitions(sum_slowly(), read(images))
        seen = [next(results)]
        between.cut(between.connections)
        seen += results
    assert seen == expected


def test_rows_that_no_worker_can_hold_are_said(images: Path, one_scheduler: str) -> None:
    def hoard(X: np.ndarray) -> float:
        hoarded = np.ones(60_000_000)
        time.sleep(30)
        return hoarded.sum()

    with (
        workers(one_scheduler, 2, memory="300MB"),
        using(one_scheduler),
        pytest.raises(InputError, match="a worker was lost 4 times over the same rows: if it ran out of memory"),
    ):
        list(map_partitions(hoard, read(images)))


def test_no_scheduler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)
    address = f"tcp://{HOST}:{free_port()}"
    with using(address), pytest.raises(InputError) as refused:
        cluster.connect()
    assert str(refused.value).startswith(f"DASK_SCHEDULER_ADDRESS is '{address}', where no scheduler answers: ")


def test_an_address_that_is_none_is_said() -> None:
    with using("there"), pytest.raises(InputError, match="'there', where no scheduler answers"):
        cluster.connect()


def test_a_stage_says_it_before_it_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.kmeans", "--embedding", "x", "--model", "y", "--clustering", "z"],
        cwd=PROJECT,
        env=os.environ | {cluster.ADDRESS: f"tcp://{HOST}:{free_port()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"kmeans: DASK_SCHEDULER_ADDRESS is .+, where no scheduler answers: .+\n", done.stderr)


def test_no_worker_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)
    with (
        scheduler(tmp_path) as server,
        using(address_of(server)),
        pytest.raises(InputError, match=f"the scheduler at {address_of(server)} has no worker: make worker"),
    ):
        cluster.connect()


def test_workers_that_all_left_are_said(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)
    monkeypatch.setattr(cluster, "SECONDS_WITHOUT_WORKERS", 2)
    with scheduler(tmp_path) as server, using(address_of(server)):
        with workers(address_of(server), 1):
            results = map_partitions(sum_slowly(), read(images))
            next(results)
        with pytest.raises(InputError, match="has had no worker for 2 seconds: make worker"):
            list(results)


def test_a_worker_with_other_code_is_named(images: Path, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "few_labels", tmp_path / "few_labels")
    with (tmp_path / "few_labels/kmeans.py").open("a") as module:
        module.write("# changed\n")
    with (
        one_worker(tmp_path, tmp_path),
        pytest.raises(InputError, match=r"the worker at tcp://\S+ has few_labels \w{12}, this process \w{12}: "),
    ):
        cluster.connect()


def test_a_worker_without_the_code_is_named(tmp_path: Path) -> None:
    with (
        one_worker(tmp_path, tmp_path, preload=False),
        pytest.raises(InputError, match=r"a worker does not find the project's code \(No module named 'few_"),
    ):
        cluster.connect()


def test_a_worker_with_another_release_is_named(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "few_labels", tmp_path / "few_labels")
    (tmp_path / "scipy-1.0.dist-info").mkdir()
    (tmp_path / "scipy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 1.0\n")
    with one_worker(tmp_path, tmp_path), pytest.raises(InputError, match=r"has scipy 1\.0, this process "):
        cluster.connect()


def test_a_worker_whose_kernels_are_not_pinned_is_named(tmp_path: Path) -> None:
    with (
        one_worker(tmp_path, preload=False),
        pytest.raises(InputError, match=r"has OMP_DYNAMIC not set, this process FALSE: start it anew"),
    ):
        cluster.connect()


def test_a_worker_that_joins_later_is_looked_at_too(images: Path, tmp_path: Path) -> None:
    with scheduler(tmp_path) as server, using(address_of(server)):
        with workers(address_of(server), 1):
            cluster.connect()
        with (
            workers(address_of(server), 1, preload=False),
            pytest.raises(InputError, match="has OMP_DYNAMIC not set, this process FALSE"),
        ):
            list(map_partitions(sum_slowly(), read(images)))


def test_a_file_that_workers_do_not_see_is_named(
    images: Path, two_workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory of whoever looks stands for a folder that is not shared."""
    monkeypatch.chdir(images.parent)
    X = read(images)
    assert isinstance(X, Stored)
    hidden = Stored("/proc/self/cwd/images.npy", X.offset, X.stored_shape, X.stored_dtype)
    with (
        using(two_workers),
        pytest.raises(InputError, match=r"the worker at tcp://\S+ sees no /proc/self/cwd/images.npy"),
    ):
        list(map_partitions(sum_slowly(), hidden))


def test_workers_write_to_a_file(images: Path, two_workers: str, tmp_path: Path) -> None:
    X = read(images)
    with using(two_workers):
        kept = blocks.keep_partitions(lambda rows: rows / 2, X, 64, tmp_path / "kept.npy")
    assert isinstance(kept, Stored)
    np.testing.assert_array_equal(np.load(tmp_path / "kept.npy"), X[:] / 2)
    np.testing.assert_array_equal(blocks.keep_partitions(lambda rows: rows / 2, X, 64, None), X[:] / 2)


def test_the_recipe_writes_the_same_files_on_a_cluster_whose_workers_are_killed(
    recipe_run: Clone, tmp_path: Path
) -> None:
    here, there = (cut_small(recipe_run, tmp_path / name) for name in ("here", "there"))
    for clone in (here, there):
        # Each step is a map over all partitions.
        clone.set_params({"train_logreg.max_iter": 10, "propagate.n_steps": 10})
    assert "kmeans" in here.repro()
    with scheduler(tmp_path) as server, workers(address_of(server), 2, there.path) as nannies:
        running = there.start(f"make repro SCHEDULER={address_of(server)}")
        assert running.stdout
        killed, said = kill_a_worker_in_each_stage(running.stdout, nannies)
    assert running.wait(timeout=60) == 0, said
    assert f"workers of the cluster at {address_of(server)}" in said
    assert killed >= {"embed", "kmeans", "featurize", "select-labels", "refine", "propagate", "train-logreg"}
    assert there.lock() == here.lock()
    assert here.lock() != recipe_run.lock()
    stages = here.lock()["stages"]
    n_files = {out["path"]: out.get("nfiles") for name in ("download", "embed") for out in stages[name]["outs"]}
    assert n_files["data/train_images.npy"] == 13
    assert n_files["data/train_embedding.npy"] == 2


def kill_a_worker_in_each_stage(output: Iterable[str], nannies: psutil.Process) -> tuple[set[str], str]:
    """Kill a worker as soon as a stage says that it came to the cluster; name the stages, and give all that is said."""
    killed, said, stage = set(), [], ""
    for line in output:
        said.append(line)
        if found := re.match("Running stage '(.+)'", line):
            stage = found[1]
        elif "of the cluster at" in line:
            # While one starts again there is the other.
            next(each for each in nannies.children() if "spawn_main" in " ".join(each.cmdline())).kill()
            killed.add(stage)
    return killed, "".join(said)
