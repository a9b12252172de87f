"""A busy machine is noticed by its clocks, and a quiet one is left in peace."""

from minimoe.training.contention import Contention


def watch(threads=1, load=0.0):
    return Contention(threads=threads, load=lambda: load, cores=2)


def note(contention, cpu_s, wall_s, times=10):
    for _ in range(times):
        contention.note(cpu_s, wall_s)


def test_a_run_with_a_core_to_itself_says_nothing():
    contention = watch()
    note(contention, 0.99, 1.0)
    assert contention.message is None


def test_half_a_core_is_said_as_such():
    contention = watch()
    note(contention, 0.5, 1.0)
    assert contention.message == "machine busy: this run gets 50% of one core"


def test_the_message_goes_when_the_machine_is_quiet_again():
    contention = watch()
    note(contention, 0.5, 1.0)
    note(contention, 1.0, 1.0)
    assert contention.message is None


def test_threads_that_wait_for_each_other_are_advised_to_be_one():
    contention = watch(threads=2, load=8.0)
    note(contention, 2.0, 1.0, times=6)
    assert contention.message is None
    note(contention, 8.0, 4.0, times=6)  # four times as long, and all of it burns CPU time
    assert "4.0 times as long" in contention.message and "set_num_threads(1)" in contention.message


def test_slower_steps_on_a_quiet_machine_are_nobodys_fault():
    contention = watch(threads=2, load=1.0)
    note(contention, 2.0, 1.0, times=6)
    note(contention, 8.0, 4.0, times=6)  # a larger batch, say
    assert contention.message is None


def test_nothing_is_said_before_a_few_seconds_have_passed():
    contention = watch()
    note(contention, 0.0, 0.1, times=5)
    assert contention.message is None
