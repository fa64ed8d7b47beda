"""Whatever happens to a worker process, its parent hears of every job."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
import torch
from PIL import Image

from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import DataError, ModelError, WorkerError
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.worker.jobs import Build, DeviceMeasurement, Failed, Measure, Train, WorkerOptions
from fedlp_edge.worker.process import WorkerDied, WorkerEvent, WorkerProcess, WorkerReply

from .conftest import OWN_CODE, Watched

QUICK = Measure(data="digits#limit=20", seconds=0.0)


def do(watched: Watched, job: Measure) -> DeviceMeasurement:
    """Has a job done and makes sure that nothing else happened."""
    watched.process.submit(job)
    event = watched.next_event()
    assert isinstance(event, WorkerReply)
    assert isinstance(event.result, DeviceMeasurement)
    assert watched.events.empty()
    return event.result


def test_submit_answers_in_order(watched: Watched) -> None:
    jobs = [QUICK, Measure(data="gold"), QUICK]
    ids = [watched.process.submit(job) for job in jobs]
    replies = [event for event in (watched.next_event() for _ in ids) if isinstance(event, WorkerReply)]
    assert [reply.id for reply in replies] == ids
    measured, failed, _ = (reply.result for reply in replies)
    assert isinstance(failed, Failed)
    assert failed.kind == "data"
    assert isinstance(measured, DeviceMeasurement)
    assert measured.samples == 20
    assert measured.data is not None
    assert measured.data.sample_shape == (1, 8, 8)
    assert measured.processor == "cpu"
    assert measured.idle_memory > 50 << 20


def test_prints_of_user_code_do_not_reach_the_protocol(watched: Watched) -> None:
    do(watched, Measure(data="own_code:chatty", seconds=0.0))
    deadline = time.monotonic() + 60
    wanted = "hello from the user's code\nnot a reply\na line for the log\n"
    while sorted(wanted.split("\n")) != sorted(watched.log_path.read_text().split("\n")):
        assert time.monotonic() < deadline, watched.log_path.read_text()
        time.sleep(0.01)


def test_a_question_of_user_code_takes_no_job_for_its_answer(watched: Watched) -> None:
    ids = [watched.process.submit(job) for job in (Measure(data="own_code:asks", seconds=0.0), QUICK)]
    failed, measured = watched.next_event(), watched.next_event()
    assert isinstance(failed, WorkerReply)
    assert isinstance(failed.result, Failed)
    assert "own_code:asks failed: it asks a question (input), and nobody is there to answer" in failed.result.reason
    assert isinstance(measured, WorkerReply)
    assert isinstance(measured.result, DeviceMeasurement)
    assert [failed.id, measured.id] == ids


def test_what_a_folder_holds_besides_is_told(watched: Watched, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (2, 2)).save(tmp_path / f"{number}.png")
        (tmp_path / "ok").mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / "ok" / f"{number}.png")
    (tmp_path / "ok" / "torn.png").touch()
    measured = do(watched, Measure(data=f"imagefolder:{tmp_path}", seconds=0.0))
    assert measured.samples == 3
    assert measured.remarks == (
        "left out: 1 picture that cannot be read (ok/torn.png is empty), 3 pictures in no class folder"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_leaves_it_to_its_parent_to_end(unaided: Watched, number: int) -> None:
    do(unaided, QUICK)
    before = unaided.process.pid
    assert before is not None
    os.kill(before, number)
    do(unaided, QUICK)
    assert unaided.process.pid == before


def test_the_kernel_would_take_the_worker_first(unaided: Watched) -> None:
    do(unaided, QUICK)
    assert Path(f"/proc/{unaided.process.pid}/oom_score_adj").read_text().strip() == "900"


def test_a_killed_worker_is_reported_for_every_job_and_started_again(watched: Watched) -> None:
    lost = [watched.process.submit(Measure(data="own_code:killed")), watched.process.submit(QUICK)]
    deaths = [event for event in (watched.next_event() for _ in lost) if isinstance(event, WorkerDied)]
    assert [death.job_id for death in deaths] == lost
    assert all(death.memory for death in deaths)
    assert deaths[0].exit == (
        "was killed by the kernel, most likely for memory: PyTorch takes some 230 MB before it trains (its CUDA build "
        "530 MB: install the CPU build), and the data their own; allow more (MemoryMax= of a service, --memory of a "
        "container), or add swap"
    )
    do(watched, QUICK)


def test_a_process_that_is_spoilt_leaves_what_is_undone_to_another(watched: Watched) -> None:
    do(watched, QUICK)
    before = watched.process.pid
    ids = [watched.process.submit(Measure(data="own_code:spoilt")), watched.process.submit(QUICK)]
    first, second = (watched.next_event() for _ in ids)
    assert isinstance(first, WorkerReply)
    assert isinstance(first.result, Failed)
    assert "could not create a primitive" in first.result.reason
    assert isinstance(second, WorkerReply)
    assert isinstance(second.result, DeviceMeasurement)
    assert [first.id, second.id] == ids
    assert watched.events.empty()
    assert watched.process.pid not in (None, before)


def test_a_death_between_jobs_is_reported_once(watched: Watched) -> None:
    do(watched, QUICK)
    assert watched.process.pid is not None
    os.kill(watched.process.pid, signal.SIGKILL)
    death = watched.next_event()
    assert isinstance(death, WorkerDied)
    assert death.job_id is None


def test_an_exit_is_reported_with_the_last_words(watched: Watched) -> None:
    job = watched.process.submit(Measure(data="own_code:left"))
    assert watched.next_event() == WorkerDied("ended with exit code 3 (giving up)", job)


def test_an_abort_is_reported_by_its_signal(watched: Watched) -> None:
    watched.process.submit(Measure(data="own_code:aborted"))
    death = watched.next_event()
    assert isinstance(death, WorkerDied)
    assert death.exit.startswith("was ended by SIGABRT")
    assert not death.memory


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "crashed",
            "was ended by SIGSEGV: native code crashed, PyTorch {torch} on {processor}; if that happens again, ",
        ),
        (
            "unknown_instruction",
            "was ended by SIGILL: PyTorch {torch} uses an instruction that this processor ({processor}) lacks; ",
        ),
    ],
)
def test_a_crash_names_pytorch_the_processor_and_what_to_install(watched: Watched, function: str, words: str) -> None:
    watched.process.submit(Measure(data=f"own_code:{function}"))
    death = watched.next_event()
    assert isinstance(death, WorkerDied)
    assert (death.crashed, death.memory) == (True, False)
    begin = words.format(torch=version("torch"), processor=processor_name())
    # What the process said last may stand in between.
    assert [word for word in begin.split() if word not in death.exit] == []
    assert death.exit.endswith('pip install "torch==2.9.1"')


def test_a_crash_in_training_under_a_limit_is_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same death that counts as a crash elsewhere: native code that gets no memory seldom says so."""
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    monkeypatch.chdir(tmp_path)
    events: queue.Queue[WorkerEvent] = queue.Queue()
    job = Train(
        model=ModelSettings(name="mlp", input=(1, 8, 8)),
        depth=1,
        state_paths=(),
        sent={},
        freeze=False,
        training=TrainingSettings(),
        seed=0,
        head_seed=0,
        data="own_code:crashed",
        delta_dir=str(tmp_path),
    )
    with WorkerProcess(WorkerOptions(device="cpu", memory_bytes=1 << 20), events.put) as worker:
        worker.submit(job)
        death = events.get(timeout=60)
    assert isinstance(death, WorkerDied)
    assert death.memory
    assert "most likely for memory" in death.exit


def test_an_abort_for_want_of_memory_is_known_by_its_last_words(watched: Watched) -> None:
    watched.process.submit(Measure(data="own_code:short"))
    death = watched.next_event()
    assert isinstance(death, WorkerDied)
    assert death.memory


def test_call_raises_by_kind_death_and_time_out(watched: Watched) -> None:
    worker = watched.process
    assert isinstance(worker.call(QUICK, timeout=60), DeviceMeasurement)
    with pytest.raises(DataError, match="is unknown: use digits"):
        worker.call(Measure(data="gold"), timeout=60)
    with pytest.raises(ModelError, match="unknown model 'no-such-model'"):
        worker.call(Build(model=ModelSettings(name="no-such-model")), timeout=60)
    with pytest.raises(WorkerError, match=r"did not finish Measure within 0\.2 s"):
        worker.call(Measure(data="own_code:endless"), timeout=0.2)
    assert worker.pid is None
    with pytest.raises(WorkerError, match="the worker process was killed by the kernel"):
        worker.call(Measure(data="own_code:killed"), timeout=60)
    assert watched.events.empty()


def test_stop_ends_a_busy_worker_within_two_seconds(unaided: Watched) -> None:
    do(unaided, QUICK)
    unaided.process.submit(Measure(data="own_code:endless"))
    pid = unaided.process.pid
    began = time.monotonic()
    unaided.process.stop()
    assert time.monotonic() - began < 2
    assert not Path(f"/proc/{pid}").exists()
    assert unaided.events.empty()
    unaided.process.stop()


@pytest.mark.real_start
def test_a_worker_ends_with_its_parent() -> None:
    """The parent is killed while the worker waits for jobs; the closed pipe tells it."""
    program = (
        "import os, signal\n"
        "from fedlp_edge.worker.jobs import Measure, WorkerOptions\n"
        "from fedlp_edge.worker.process import WorkerProcess\n"
        "worker = WorkerProcess(WorkerOptions(device='cpu'))\n"
        "worker.call(Measure(data='digits#limit=20', seconds=0.0))\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while _runs(int(done.stdout)):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether the process exists and is more than a zombie that its new parent has not collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cuda_is_used_where_there_is_one_and_refused_where_not() -> None:
    with WorkerProcess(WorkerOptions(device="cuda")) as worker:
        if torch.cuda.is_available():
            measured = worker.call(QUICK, timeout=60)
            assert isinstance(measured, DeviceMeasurement)
            assert measured.processor == "cuda"
        else:
            with pytest.raises(WorkerError, match="has no CUDA device"):
                worker.call(QUICK, timeout=60)


def test_process_module_loads_no_torch() -> None:
    program = "import sys, fedlp_edge.worker.process; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Another(msgspec.Struct):
    """A reply of another form."""

    lacking: int


def test_a_reply_that_cannot_be_read_is_no_want_of_memory(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.worker.process.Reply", Another)
    job = watched.process.submit(QUICK)
    said = "gave an unreadable reply (Object missing required field `lacking`)"
    assert watched.next_event() == WorkerDied(said, job)
