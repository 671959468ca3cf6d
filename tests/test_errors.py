"""The errors: their tree, how they travel, and which ones are tried again."""

import ast
import inspect
import pickle
import re

import pytest

from fanreel import errors
from fanreel.errors import FanreelError, RequestError, StorageError, StorageFullError, storage_error
from fanreel.policy import MOST_RETRIES, POLICIES, RETRY_DELAYS_SECONDS, is_worth_retrying, retry_delay_seconds


def error_classes(base=FanreelError):
    return [base, *(inner for child in base.__subclasses__() for inner in error_classes(child))]


# The edge has classes of its own, where it was imported before.
ERRORS = [kind for kind in error_classes() if kind.__module__.partition(".")[0] == "fanreel"]


def drawn_tree():
    """Return {name: (parent, exit code, transient)} as the docstring of `fanreel.errors` draws it."""
    tree, path = {}, []
    for line in errors.__doc__.splitlines():
        drawn = re.match(r"^ {4}([│ ├└─]*)(\w+Error)\b(.*)$", line)
        if drawn is None:
            continue
        depth = len(drawn[1]) // 4
        path = [*path[:depth], drawn[2]]
        code = re.search(r"exit (\d)", drawn[3])
        parent = path[-2] if depth else None
        exit_code = int(code[1]) if code else tree[parent][1] if parent else 1
        tree[drawn[2]] = (parent, exit_code, "(transient)" in drawn[3])
    return tree


def test_the_tree_is_the_one_that_is_drawn():
    found = {
        kind.__name__: (
            kind.__bases__[0].__name__ if kind is not FanreelError else None,
            kind.exit_code,
            kind.transient,
        )
        for kind in ERRORS
    }
    assert found == drawn_tree()


def test_every_error_is_exported():
    assert {kind.__name__ for kind in ERRORS} <= set(errors.__all__)


def test_a_path_in_what_failed_commands_no_terminal():
    error = storage_error(OSError(5, "Input/output error"), doing="write /films/a\x1b[31m\r\n.mp4")
    assert str(error) == "could not write /films/a\\x1b[31m\\r\\n.mp4: Input/output error"


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling(kind):
    error = kind("size: '1921x1080' is not allowed;\nwidth and height must be even")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert (back.transient, back.exit_code) == (kind.transient, kind.exit_code)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_has_nothing_but_its_message(kind):
    body = ast.parse(inspect.getsource(kind)).body[0].body
    assert not [node for node in body if isinstance(node, ast.FunctionDef)]


def test_a_request_that_cannot_be_is_a_value_error():
    assert all(issubclass(kind, ValueError) == issubclass(kind, RequestError) for kind in ERRORS)


def test_a_full_disk_is_told_apart():
    full = storage_error(OSError(28, "No space left on device"), doing="write /films/a.mp4")
    assert type(full) is StorageFullError
    assert str(full).startswith("could not write /films/a.mp4: No space left on device; ")
    denied = storage_error(OSError(13, "Permission denied"), doing="read /films")
    assert type(denied) is StorageError
    assert str(denied) == "could not read /films: Permission denied"


def test_the_errors_that_are_tried_again_are_the_transient_ones():
    assert {kind for kind, policy in POLICIES.items() if policy.retries} == {kind for kind in ERRORS if kind.transient}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_tried_again_as_often_as_its_policy_says(kind):
    allowed = POLICIES[kind].retries if kind in POLICIES else 0
    tries = [is_worth_retrying(kind("x"), retries=retries) for retries in range(5)]
    assert tries == [retries < allowed for retries in range(5)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), ValueError("x"), OSError(5, "x")])
def test_what_is_not_ours_is_not_tried_again(error):
    assert not is_worth_retrying(error, retries=0)


def test_waits_grow_and_are_lengthened_by_up_to_half():
    for retries in range(MOST_RETRIES + 1):
        least = RETRY_DELAYS_SECONDS[min(retries, 2)]
        waits = [retry_delay_seconds(retries) for _ in range(200)]
        assert least <= min(waits) < max(waits) <= 1.5 * least
