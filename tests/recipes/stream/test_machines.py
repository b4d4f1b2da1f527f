"""The options of accelerate that join the trainers of several machines are ones that it has."""

from accelerate.commands.launch import launch_command_parser

from distsae.recipes.stream.machines import Machines


def test_accelerate_reads_the_options(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    words = Machines(3, 2, "node0", 4321).launch_words(4, beside=2)
    read = launch_command_parser().parse_args([*words, "-m", "distsae"])
    assert (read.num_machines, read.num_processes, read.machine_rank) == (3, 12, 2)
    assert (read.main_process_ip, read.main_process_port) == ("node0", 4321)
    assert read.multi_gpu
    assert read.num_cpu_threads_per_process == 2
