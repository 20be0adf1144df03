"""Failures are gathered by what they have in common (core/families.py)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core import families
from jobtasks.core.families import Failure, Family, last_words, message_of, normalised
from jobtasks.core.retry import Cause


def family_of(failure: Failure) -> Family:
    """Return the family of a failure by what is known of it."""
    return families.family_of(failure, message_of(failure))


SAME = {
    "ValueError: could not convert string to float: <text>": [
        "ValueError: could not convert string to float: 'abc12'",
        "ValueError: could not convert string to float: ''",
        'ValueError: could not convert string to float: "it\'s 3"',
    ],
    "FileNotFoundError: [Errno <n>] No such file or directory: <text>": [
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/run_17/part-0001.csv'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'x.csv'",
    ],
    "cat: <path>: No such file or directory": [
        "cat: /data/in/17.txt: No such file or directory",
        "cat: in/b.txt: No such file or directory",
        "cat: ~/b: No such file or directory",
    ],
    "<path>: line <n>: <n> Segmentation fault (core dumped) <path> --seed <n>": [
        "/tmp/a/run.sh: line 17: 12345 Segmentation fault      (core dumped) ./solver --seed 4",
        "/tmp/b/run.sh: line 9: 7 Segmentation fault (core dumped) ./solver --seed -12",
    ],
    "<time> ERROR worker[<n>]: task <hex> failed after <n>s": [
        "2026-11-26T08:55:49.123Z ERROR worker[421]: task 99d1f2ab3c failed after 12.5s",
        "2026-11-26 08:55:49,123 ERROR worker[1]: task 0x1f failed after 3s",
    ],
    "Caused by: java.net.ConnectException: Connection refused: /<address>": [
        "Caused by: java.net.ConnectException: Connection refused: /10.0.3.17:5432",
        "Caused by: java.net.ConnectException: Connection refused: /10.0.3.18:80",
    ],
    "dial tcp [<address>]:<n>: i/o timeout": [
        "dial tcp [2001:db8::1]:443: i/o timeout",
        "dial tcp [fe80:0:0:0:1:2:3:4]:443: i/o timeout",
    ],
    "job <uuid> not found": [
        "job 3fa85f64-5717-4562-b3fc-2c963f66afa6 not found",
        "job zzzzz-8i9sb-000000000000017 not found",
    ],
    "curl: (<n>) Could not resolve <url> for <mail>": [
        "curl: (6) Could not resolve https://example.com/x?y=1#z for ada@example.com",
        "curl: (6) Could not resolve http://b.example:8080 for bob.b@mail.example.org",
    ],
    "AssertionError: expected [<n> …] but got <n>": [
        "AssertionError: expected [1, 2, 3, 4, 5, 6] but got 7",
        "AssertionError: expected [1, 2, 3] but got -1e-09",
    ],
    "Error: open <path>: access denied to user<n>": [
        r"Error: open C:\Users\me\x.txt: access denied to user42",
        r"Error: open D:\x: access denied to user7",
    ],
    "make: *** [Makefile:<n>: <path>] Error <n>": [
        "make: *** [Makefile:31: out/sample_3.bam] Error 137",
        "make: *** [Makefile:4: out/sample_4.bam] Error 1",
    ],
    "CUDA out of memory. Tried to allocate <n> GiB (GPU <n>; <n> MiB free)": [
        "CUDA out of memory. Tried to allocate 2.50 GiB (GPU 0; 1,024.5 MiB free)",
        "CUDA out of memory. Tried to allocate 12 GiB (GPU 3; 7 MiB free)",
    ],
    "at <time>: <text> is not <text>": [
        "at 12:30:01: `a` is not ‘b’",
        "at 1:02:03.5: `a.b` is not “c d”",
    ],
}
"""Messages of one family each, and what is left of them."""


@pytest.mark.parametrize("left", SAME)
def test_what_differs_is_replaced(left: str) -> None:
    """Numbers, names, places and times do not make two families of one reason."""
    assert {normalised(message) for message in SAME[left]} == {left}


@pytest.mark.parametrize(
    "message",
    [
        "IndexError: list index out of range",
        "java.lang.OutOfMemoryError: Java heap space",
        "bash: foo: command not found",
        "tee: write error: No space left on device",
        "don't panic: it isn't bad",
        "std::bad_alloc",
        "and/or: either is fine",
        "Permission denied (publickey,password).",
    ],
)
def test_words_stay(message: str) -> None:
    """What has nothing that differs is left as it is."""
    assert normalised(message) == message


def test_different_reasons_stay_apart() -> None:
    """No two of these messages amount to the same."""
    messages = [message for group in SAME.values() for message in group]
    assert len({normalised(message) for message in messages}) == len(SAME)


PYTHON = """\
loading 17 files
Traceback (most recent call last):
  File "/srv/run.py", line 3, in <module>
    main()
    ^^^^^^
  File "/srv/run.py", line 2, in main
    float("abc12")
ValueError: could not convert string to float: 'abc12'
"""
CHAINED = (
    PYTHON
    + """
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/run.py", line 9, in <module>
    raise RuntimeError("bad\\ninput")
RuntimeError: bad
input
sys:1: ResourceWarning: unclosed file
"""
)
RANKS = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "/srv/train.py", line 3, in <module>
[rank0]:     step()
[rank0]: torch.OutOfMemoryError: CUDA out of memory.
[rank0]: bye
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/run.py", line 3, in <module>
  | ExceptionGroup: several (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/run.py", line 2, in <module>
    | OSError: broken
    +------------------------------------
"""
JAVA = """\
Exception in thread "main" java.lang.RuntimeException: outer
\tat a.B.main(B.java:3)
Caused by: java.io.IOException: inner
\tat a.C.read(C.java:9)
\t... 1 more
"""
GO = """\
starting
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.main()
\t/tmp/x.go:5 +0x1d
exit status 2
"""
RUST = """\
thread 'main' panicked at src/main.rs:2:5:
no such key
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
NODE = """\
/srv/x.js:1
throw new Error('boom')
^

Error: boom
    at Object.<anonymous> (/srv/x.js:1:7)
    at node:internal/main/run_main_module:28:49

Node.js v20.20.2
"""
CPP = (
    "terminate called after throwing an instance of 'std::runtime_error'\n  what():  bad\nAborted\n"
)
R_LANGUAGE = "Error in read.csv(f) : cannot open file\nCalls: main -> read.csv\nExecution halted\n"


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (PYTHON, "ValueError: could not convert string to float: 'abc12'"),
        (CHAINED, "RuntimeError: bad"),
        (RANKS, "torch.OutOfMemoryError: CUDA out of memory."),
        (GROUP, "OSError: broken"),
        ('log: Traceback (most recent call last):\n  File "x"\nKeyError: 1\n', "KeyError: 1"),
        ('Traceback (most recent call last):\n  File "x", line 1', "Traceback (most recent call"),
        (JAVA, "Caused by: java.io.IOException: inner"),
        (GO, "panic: runtime error: index out of range [5] with length 3"),
        (RUST, "no such key"),
        (NODE, "Error: boom"),
        (CPP, "what(): bad"),
        (R_LANGUAGE, "Error in read.csv(f) : cannot open file"),
        ("one\ntwo\n\n-----\n}\n", "two"),
        ("\x1b[31merror:\x1b[0m no \x1b]8;;u\x07disk\r\n", "error: no disk"),
        ("10%\r20%\rcannot go on\n", "cannot go on"),
        ("", ""),
        ("\n \n***\n", ""),
    ],
)
def test_the_line_that_tells(stderr: str, said: str) -> None:
    """What programs in several languages say last, without stacks, colours and decoration."""
    assert last_words(stderr).startswith(said)
    assert bool(said) == bool(last_words(stderr))


def test_without_words_the_reason_and_then_the_cause_tell() -> None:
    """Some reason is always there."""
    failure = Failure(Cause.EXIT, 2, None, "the process ended\nwith exit code 2", "")
    assert message_of(failure) == "the process ended with exit code 2"
    assert message_of(failure._replace(reason="")) == "exit"
    assert message_of(failure._replace(stderr="no disk\n")) == "no disk"


@pytest.mark.parametrize("cause", sorted(families.IMPOSED))
def test_what_was_done_to_a_process_is_not_told_by_its_words(cause: Cause) -> None:
    """Progress that it wrote last does not make a family for each step."""
    ends = [Failure(cause, None, 9, "", f"step {word}\n") for word in ("one", "two")]
    ends.append(Failure(cause, 137, None, "", ""))
    assert len({family_of(end) for end in ends}) == 1
    assert message_of(ends[0]) == cause.value.replace("_", " ")


def test_a_family_is_cause_and_code_and_message() -> None:
    """Each of them makes another one, with another key; the key is always the same."""
    first = Failure(Cause.EXIT, 2, None, "", "bad 1\n")
    others = [
        first._replace(cause=Cause.ASKED),
        first._replace(exit_code=3),
        first._replace(exit_code=None, signal=2),
        first._replace(stderr="worse 1\n"),
    ]
    keys = {family_of(one).key for one in (first, *others)}
    assert len(keys) == 5
    assert family_of(first._replace(stderr="bad 17\n")).key == family_of(first).key
    assert family_of(first).key == "ed1e905f3a91"


@given(st.text(max_size=3000))
def test_any_text_becomes_a_message(text: str) -> None:
    """Bounded, in one line, and what is left of it stays as it is."""
    said = last_words(text)
    left = normalised(said)
    assert len(said) <= families.SAMPLE_CHARACTERS_MAX
    assert len(left) <= families.MESSAGE_CHARACTERS_MAX
    assert len(left.splitlines()) <= 1
    assert len(family_of(Failure(Cause.EXIT, 1, None, "", text)).key) == families.KEY_DIGITS


@pytest.mark.parametrize(
    "piece", ["a.", "a-", "/a", "'", '"', "\\", "0a", "1:", "a@", "a/", "1,", "`"]
)
def test_no_text_takes_long(piece: str) -> None:
    """Patterns that meet what they cannot match give up soon."""
    begun = time.process_time()
    normalised(piece * 4000)
    last_words(piece * 20_000)
    assert time.process_time() - begun < 0.5
