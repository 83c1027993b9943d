from onestep.inference.latency import measure


def test_functions_are_timed_in_turn_after_one_untimed_round():
    order = []
    found = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert set(found) == {"a", "b"}


def test_the_median_lies_between_the_quartiles_and_slow_is_slower():
    found = measure({"nothing": lambda: None, "work": lambda: sum(range(200_000))}, repeats=5)
    for times in found.values():
        assert 0 <= times["low"] <= times["value"] <= times["high"]
    assert found["work"]["value"] > found["nothing"]["value"]
