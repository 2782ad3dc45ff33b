"""Ranks with a CUDA device each: NCCL's calls by a stand-in, everything else as it is."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import cuda_host, device_nccl, ranks
from tests.device_arrays import device_arrays
from tests.nccl_ranks import results, started
from xprnn.backend import get_backend
from xprnn.distributed import NCCL, LostRankError, get_communicator
from xprnn.distributed.hub import DATA, HEAD, Hub
from xprnn.distributed.variables import OCCUPIED, Place, first_host, place

compiles = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")


@pytest.mark.slow
@compiles
def test_every_call(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes")
    found = results(2, "calls", tmp_path)
    for rank, said in enumerate(found):
        assert said["rank"] == rank
        assert said["device"] == f"cuda:{rank}"
        assert said["names"] == found[0]["names"]
        assert said["names"][1].startswith("rank 1 (pid ")
        assert said["names"][1].endswith(", cuda:1)")
        for dtype in ("float16", "float32", "float64", "int64", "bfloat16"):
            assert said[dtype] == [[[2, 4, 6], [8, 10, 13]], [1] * 5], dtype
        assert said["rows"] == said["gathered"] == [[100, 101, 102], [103, 104, 105]]
        assert said["host"] == [3, 1]
        assert said["first"] == [7]


@pytest.mark.slow
@compiles
def test_gradients_of_every_form_stay_on_the_device(tmp_path: Path) -> None:
    found = results(2, "sums", tmp_path)
    for rank, said in enumerate(found):
        for dtype, sums in said.items():
            first = np.arange(6.0).reshape(2, 3)
            # 0.25 of the first and 0.75 of the second, which is twice the first.
            assert sums["dense"] == (1.75 * first).tolist()
            assert sums["turned"] == (1.75 * np.arange(6.0).reshape(3, 2).T).tolist()
            assert sums["left"] == [[1, 1]] * 3
            assert sums["right"] == [0.25, 0.75, 0.75]
            assert sums["dtypes"] == [dtype] * 3
            assert sums["kept"] == (first * (1 + rank)).tolist()


@pytest.mark.full
@compiles
@pytest.mark.parametrize(("name", "count"), [("dense", 2), ("sparse", 2), ("dropping", 3)])
def test_a_training_has_the_losses_of_one_process(name: str, count: int, tmp_path: Path) -> None:
    found = results(count, "trainings", tmp_path, name)
    for rank in found:
        assert rank == found[0]
    alone = ranks.numbers(getattr(ranks, name)(epochs=1))
    given, wanted = (np.array(part["records"], dtype=float) for part in (found[0], alone))
    np.testing.assert_allclose(given, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@compiles
def test_a_network_that_is_elsewhere_is_refused(tmp_path: Path) -> None:
    for rank, said in enumerate(results(2, "elsewhere", tmp_path)):
        assert len(said) == 2
        assert said[0].startswith("ValueError: the network is on numpy, device cpu: NCCL needs one")
        assert f'device="cuda:{rank}"' in said[0]
        assert f"the network is on cupy, device cuda:{1 - rank}" in said[1]


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("how", ["message", pytest.param("device", marks=pytest.mark.full)])
def test_a_killed_rank_is_named_at_once(how: str, tmp_path: Path) -> None:
    first, second = started(2, "ended", tmp_path, how)
    first.communicate(timeout=20)
    assert second.wait(20) == -9
    said = json.loads((tmp_path / "0.json").read_text())
    assert said.startswith(f"LostRankError: rank 1 (pid {second.pid} on ")
    assert "has ended; a training with a checkpoint goes on from it" in said
    second.communicate()


WHOLE = device_nccl.variables(1, 4, 29500)


def test_the_variables_of_a_launcher() -> None:
    assert place(WHOLE) == Place(1, 4, 1, "127.0.0.1", 29500)
    # torchrun listens at the port itself.
    assert place(WHOLE | {OCCUPIED: "True"}).port == 29501
    assert place(WHOLE | {OCCUPIED: "True", "MASTER_PORT": "65535"}).port == 65534


@pytest.mark.parametrize(
    ("given", "error", "expected"),
    [
        ({"MASTER_ADDR": "", "RANK": ""}, RuntimeError, "NCCL needs RANK, MASTER_ADDR in the env"),
        ({"RANK": "4"}, ValueError, "RANK is '4': expected an integer from 0 to 3"),
        ({"RANK": "-1"}, ValueError, "RANK is '-1': expected an integer from 0 to 3"),
        ({"WORLD_SIZE": "two"}, ValueError, "WORLD_SIZE is 'two': expected an integer from 1"),
        ({"WORLD_SIZE": "0"}, ValueError, "WORLD_SIZE is '0': expected an integer from 1"),
        ({"MASTER_PORT": "70000"}, ValueError, "MASTER_PORT is '70000': .* from 1 to 65535"),
        ({"LOCAL_RANK": "2.0"}, ValueError, "LOCAL_RANK is '2.0': expected an integer from 0 to"),
    ],
)
def test_other_variables_are_refused(given: Any, error: Any, expected: str) -> None:
    with pytest.raises(error, match=expected):
        place(WHOLE | given)


SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "4212345",
    "SLURM_STEP_NODELIST": "gpu[07-08,11]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (SRUN, Place(3, 4, 1, "gpu07", 29500 + 2345)),
        (SRUN | {"SLURM_STEP_NODELIST": ""}, Place(3, 4, 1, "10.0.0.7", 29500 + 2345)),
        (SRUN | {"MASTER_ADDR": "n1", "MASTER_PORT": "77"}, Place(3, 4, 1, "n1", 77)),
        (SRUN | {"PMI_RANK": "3", "PMI_SIZE": "4"}, Place(3, 4, 1, "gpu07", 31845)),
        # A launcher inside a job of Slurm is the one that counts.
        (SRUN | HYDRA, Place(1, 2, 1, "localhost", 29500)),
        (SRUN | OPEN_MPI, Place(1, 2, 1, "localhost", 29500)),
        (SRUN | WHOLE, Place(1, 4, 1, "127.0.0.1", 29500)),
        (HYDRA | {"MPI_LOCALNRANKS": "1", "MASTER_ADDR": "n1"}, Place(1, 2, 1, "n1", 29500)),
        (HYDRA | OPEN_MPI | {"WORLD_SIZE": "2"}, Place(1, 2, 1, "localhost", 29500)),
    ],
)
def test_the_variables_of_other_launchers(given: dict[str, str], expected: Place) -> None:
    assert place(given) == expected


@pytest.mark.parametrize(
    ("given", "error", "expected"),
    [
        (SRUN | {"WORLD_SIZE": "8"}, ValueError, "WORLD_SIZE is '8', but SLURM_STEP_NUM_TASKS is"),
        (HYDRA | {"OMPI_COMM_WORLD_RANK": "0"}, ValueError, "PMI_RANK is '1', but OMPI_COMM_WORLD"),
        (OPEN_MPI | {"PMI_RANK": "0"}, ValueError, "_RANK is '1', but PMI_RANK is '0': expected"),
        (SRUN | {"SLURM_STEP_ID": ""}, RuntimeError, "the batch script itself runs this process"),
        (HYDRA | {"PMI_SIZE": ""}, RuntimeError, "PMI_RANK is set, and PMI_SIZE is not"),
        (HYDRA | {"PMI_RANK": "2"}, ValueError, "PMI_RANK is '2': expected an integer from 0 to 1"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, RuntimeError, "NCCL needs MASTER_ADDR in"),
        ({"WORLD_SIZE": "2"}, RuntimeError, r"NCCL needs RANK, LOCAL_RANK, .* srun or mpiexec"),
    ],
)
def test_variables_that_contradict_or_lack(given: Any, error: Any, expected: str) -> None:
    with pytest.raises(error, match=expected):
        place(given)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[003-010,12],x1", "node003"),
        ("n1,n2", "n1"),
        ("alone", "alone"),
        ("rack2-n[1,3]-ib", "rack2-n1-ib"),
        ("", ""),
    ],
)
def test_the_first_of_slurms_machines(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@compiles
def test_devices_and_libraries_that_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    with device_arrays():
        with pytest.raises(ValueError, match=r"LOCAL_RANK is 1, but CuPy has cuda:0: expected at"):
            get_communicator("nccl")
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setattr(device_nccl, "available", False)
        with pytest.raises(ImportError, match=r"CuPy 14\.2 finds no NCCL: pip install nvidia-nccl"):
            get_communicator("nccl")


@compiles
def test_a_rank_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in device_nccl.variables(0, 1, 1).items():
        monkeypatch.setenv(name, value)
    with device_arrays():
        alone = get_communicator("nccl")
        assert isinstance(alone, NCCL)
        assert (alone.rank, alone.size) == (0, 1)
        alone.barrier()
        assert alone.gather(np.ones((2, 3)), [2]).tolist() == [[1, 1, 1]] * 2
        flags = get_backend("cupy").asarray(np.ones(2, bool))
        with pytest.raises(TypeError, match=r"dtype is bool: NCCL, as CuPy"):
            alone.all_reduce_on_device([flags])


def places(size: int) -> list[Place]:
    """Return the places of ranks on this machine."""
    port = device_nccl.free_port()
    return [Place(rank, size, rank, "localhost", port) for rank in range(size)]


def together(given: list[Place], limit: float = 20.0) -> list[Any]:
    """Connect a thread for each; return the hubs, or the errors."""
    found: list[Any] = [None] * len(given)

    def connect(k: int) -> None:
        try:
            found[k] = Hub(given[k], f"process {k}", limit, lambda: b"secret")
        except RuntimeError as error:
            found[k] = error

    threads = [threading.Thread(target=connect, args=(k,)) for k in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


GUESS = b'[1, 2, "a stranger"]'


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", HEAD.pack(DATA, len(GUESS)) + GUESS],
    ids=["http", "a guess"],
)
def test_a_stranger_at_the_port_is_turned_away(words: bytes) -> None:
    given, said = places(2), list[bytes]()

    def disturb() -> None:
        while True:
            try:
                with socket.create_connection((given[0].address, given[0].port)) as stranger:
                    stranger.sendall(words)
                    said.append(stranger.recv(10))
            except ConnectionRefusedError:
                continue
            except ConnectionResetError:
                said.append(b"")
            break

    stranger = threading.Thread(target=disturb)
    stranger.start()
    hubs: list[Any] = [None]
    first = threading.Thread(
        target=lambda: hubs.__setitem__(0, Hub(given[0], "process 0", 20, lambda: b"secret"))
    )
    first.start()
    stranger.join()
    assert said == [b""]
    second = Hub(given[1], "process 1", 20, bytes)
    first.join()
    hubs[0].close()
    second.close()
    assert second.told == b"secret"
    assert second.names == hubs[0].names == ["process 0", "process 1"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"size": 3}, "WORLD_SIZE is 3 on process 2, and 4 on rank 0"),
        ({"rank": 1}, "RANK is 1 on process"),
    ],
)
def test_processes_that_disagree_are_told(changed: dict[str, int], expected: str) -> None:
    given = places(4)
    given[2] = given[2]._replace(**changed)
    given.pop()
    first, other, changed_one = together(given, 2)
    assert expected in str(first)
    assert expected in str(changed_one)
    # It may have come when rank 0 had given up.
    assert expected in str(other) or "has ended" in str(other) or "did not reach" in str(other)


def test_a_rank_that_does_not_come_is_named() -> None:
    given = places(3)
    (error,) = together(given[:1], 0.2)
    assert isinstance(error, LostRankError)
    assert str(error).startswith("rank 1, 2 did not connect to localhost:")
    (error,) = together(given[2:], 0.2)
    assert str(error).startswith("rank 2 did not reach rank 0 at localhost:")


def test_a_lost_rank_is_told_by_rank_0_to_the_others() -> None:
    hubs = together(places(3))
    found: list[Any] = []

    def exchange(hub: Hub) -> None:
        try:
            found.append(hub.exchange(b"x"))
        except LostRankError as error:
            found.append(f"{error}")

    hubs[2]._others[0].close()
    threads = [threading.Thread(target=exchange, args=(hub,)) for hub in hubs[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for hub in hubs:
        hub.close()
    assert len(found) == 2
    assert all(said.startswith("process 2 has ended; a training with") for said in found)


def test_a_slow_rank_is_named(caplog: pytest.LogCaptureFixture) -> None:
    first, second = together(places(2), 0.3)
    with pytest.raises(LostRankError, match=r"process 1 did not answer for 0\.3 s"):
        first.exchange(b"x")
    assert "after 0 s still waiting for process 1" in caplog.text
    with pytest.raises(LostRankError, match=r"process 1 did not answer for 0\.3 s"):
        second.exchange(b"x")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = Place(0, 2, 0, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(RuntimeError, match=r"rank 0 can't listen at 127.0.0.1:\d+ \("):
            Hub(here, "process 0", 1, bytes)
