"""Apps decided: their ids, what they run, their environment, and what a scale adds and removes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.apps import (
    Choice,
    check_scale,
    choose,
    difference,
    env,
    generated,
    id_faults,
    merged,
    planned,
)
from ostiary.core.droplets import MOST_KEYS, MOST_VALUE, DropletRules, Place, Template
from ostiary.core.refusal import Invalid

RULES = DropletRules(
    templates={"web": Template("web"), "job": Template("job")}, default="web", images=("registry.example/*", "a[b]?"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("ident", "faults"),
    [
        ("shop", []),
        ("a", []),
        ("0-9", []),
        ("a" * 64, []),
        ("a" * 65, ["app.id.long"]),
        ("", ["app.id"]),
        ("-a", ["app.id"]),
        ("a-", ["app.id"]),
        ("a_b", ["app.id"]),
        ("Web", ["app.id"]),
        ("a\n", ["app.id"]),
        ("\u0661", ["app.id"]),
        ("a.b", ["app.id"]),
        ("A" * 65, ["app.id", "app.id.long"]),
        ("deis", ["app.id.reserved"]),
        ("ostiary", ["app.id.reserved"]),
    ],
)
def test_ids(ident: str, faults: list[str]) -> None:
    assert id_faults(ident) == faults


@given(st.binary(min_size=2, max_size=2))
def test_a_made_up_id_is_one(entropy: bytes) -> None:
    name = generated(entropy, longer=False)
    assert re.fullmatch(r"[a-z]+-[a-z]+", name)
    assert id_faults(name) == []
    assert generated(entropy + b"\x01\xff", longer=True) == f"{name}-01ff"


@pytest.mark.parametrize(
    ("image", "choice"),
    [
        ("job", Choice("job", "")),
        ("job:latest", Choice("job", "")),
        ("registry.example/team/web:3", Choice("web", "registry.example/team/web:3")),
        ("a[b]c", None),
        ("job:3", None),
        ("docker.io/evil", None),
        ("", None),
        (":latest", None),
        ("registry.example/a b", None),
        ("registry.example/../x\n", None),
        ("registry.example/" + "a" * 256, None),
    ],
)
def test_an_image_is_a_template_or_one_that_is_allowed(image: str, choice: Choice | None) -> None:
    if choice is not None:
        assert choose(image, "", RULES) == choice
        return
    with pytest.raises(Invalid) as refused:
        choose(image, "", RULES)
    assert refused.value.code == "image.unknown"


def test_an_image_runs_on_the_template_of_its_app() -> None:
    assert choose("registry.example/x", "job", RULES) == Choice("job", "registry.example/x")
    assert choose("web", "job", RULES) == Choice("web", "")


def test_variables_are_set_and_unset() -> None:
    values = merged({"A": "1"}, {"B": 2, "A": None, "C": "x"})
    assert values == {"B": 2, "C": "x"}
    assert env(values) == {"B": "2", "C": "x"}
    assert difference({"A": "1", "C": "y"}, values) == "added B, changed C, deleted A"
    assert difference(values, values) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("1A", "x"), ("A-B", "x"), ("", "x"), ("A" * 129, "x"), ("PATH", "x"), ("PORT_80", "x"), ("LD_PRELOAD", "x"),
        ("A", "\0"), ("A", "x" * (MOST_VALUE + 1)), ("A", 1 << 63), ("A", -(1 << 63)),
    ],
)  # fmt: skip
def test_what_is_no_variable_is_named(key: str, value: str | int) -> None:
    with pytest.raises(Invalid) as refused:
        merged({}, {"FINE": "x", key: value})
    assert [each.message for each in refused.value.mistakes] == [f"Invalid variable: {key}"]


def test_there_are_so_many_variables() -> None:
    values = {f"K{number}": number for number in range(MOST_KEYS)}
    assert len(merged(values, {"K0": 5})) == MOST_KEYS
    with pytest.raises(Invalid) as refused:
        merged(values, {"MORE": 1})
    assert refused.value.message == "Invalid variable: MORE"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({}, "scale.format"),
        ({"web": -1}, "scale.negative"),
        ({"web": 40, "job": -1}, "scale.negative"),
        ({"web": 33}, "scale.many"),
        ({"job": 29}, "scale.many"),
        ({"web": 1 << 70}, "scale.many"),
    ],
)
def test_what_cannot_be_scaled(wanted: dict[str, int], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_scale(wanted, {"web": 4}, 32)
    assert refused.value.code == code


def test_what_can_be_scaled() -> None:
    check_scale({"web": 0}, {"web": 4}, 32)
    check_scale({"web": 4, "job": 28}, {"web": 32}, 32)


def places(kind: str, *numbers: int) -> list[Place]:
    return [Place("shop", kind, number, 1) for number in numbers]


def test_new_ones_take_the_lowest_free_numbers_and_the_highest_go() -> None:
    there = [*places("web", 2, 5), *places("job", 3, 1, 2)]
    plan = planned(there, {"web": 5, "job": 1})
    assert plan.add == [("web", 1), ("web", 3), ("web", 4)]
    assert plan.remove == places("job", 3, 2)
    assert planned(there, {"web": 2}) == ([], [])


@given(st.sets(st.integers(1, 40)), st.integers(0, 40))
def test_after_a_scale_there_are_as_many_as_were_wanted(numbers: set[int], count: int) -> None:
    plan = planned(places("web", *numbers), {"web": count})
    left = (numbers - {place.number for place in plan.remove}) | {number for _, number in plan.add}
    assert len(left) == count
    assert not (plan.add and plan.remove)
