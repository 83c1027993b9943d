from onestep.core.machine import KEYS, described, this_machine


def test_a_machine_is_the_same_each_time_and_says_what_timings_depend_on():
    found = this_machine(2)
    assert tuple(found) == KEYS and found == this_machine(2) != this_machine(3)
    assert found["cpu"] and found["cores"] >= 1
    assert described(found | {"gpus": []}).endswith("no GPU, 2 threads")
