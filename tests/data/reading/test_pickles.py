"""Pickles of arrays: genuine ones come back, and no other harms the process that reads it."""

import collections
import functools
import os
import pickle

import numpy as np
import pytest

from vdm.data.reading.pickles import load_arrays_pickle
from vdm.errors import DataError

BATCH = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3]}
# The published CIFAR batches: protocol 2, byte strings, numpy.core.multiarray.
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
ORDER = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
PYTHON_2 = RECONSTRUCT + b"(K\x01(K\x03t" + DTYPE + ORDER + b"\x89U\x03\x00\x01\x02tb"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_pickles_of_arrays_are_read(protocol):
    found = load_arrays_pickle(pickle.dumps(BATCH, protocol), "a")
    np.testing.assert_array_equal(found["data"], BATCH["data"])
    assert found["labels"] == BATCH["labels"]


@pytest.mark.parametrize("dtype", ["b1", "u2", "<i4", ">i8", "f4"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_values_come_back_as_python_reads_them(dtype, protocol):
    """Byte orders, Fortran order, one array and one dtype referred to twice, and plain values."""
    array = (np.arange(6).reshape(2, 3) % 4).astype(dtype)
    things = [array, array.T, array, array.copy(), np.array(1, dtype)]
    things += [(), (1,), -1, 2**40, 2**100, 0.5, None, True, False, "ä\n", b"a\n\xff", {"a": [[]]}]
    content = pickle.dumps(things, protocol)
    found, expected = load_arrays_pickle(content, "a"), pickle.loads(content)
    assert found[5:] == expected[5:] and found[2] is found[0]
    for one, other in zip(found[:5], expected[:5], strict=True):
        # Python's machine swaps the bytes at once where their order is not the machine's.
        assert one.dtype.newbyteorder("=") == other.dtype
        assert one.flags.f_contiguous == other.flags.f_contiguous
        np.testing.assert_array_equal(one, other)


def test_a_pickle_as_python_2_wrote_it():
    found = load_arrays_pickle(b"\x80\x02}U\x04data" + PYTHON_2 + b"s.", "a")
    np.testing.assert_array_equal(found[b"data"], np.arange(3, dtype=np.uint8))
    text = b"(dS'data'\n" + PYTHON_2.replace(b"U\x03\x00\x01\x02", b"S'\\x00\\x01\\x02'\n") + b"s."
    np.testing.assert_array_equal(load_arrays_pickle(text, "a")[b"data"], found[b"data"])


class Evil:
    """Unpickled by pickle itself, it runs a command."""

    def __init__(self, function, *arguments):
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (Evil(os.system, "touch pwned"), "posix.system"),
        (Evil(eval, "1"), r"(__builtin__|builtins)\.eval"),
        (Evil(np.load, "a"), r"numpy\S*\.load"),
        (Evil(functools.partial, print), "functools.partial"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
def test_a_pickle_that_names_anything_else(thing, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        content = pickle.dumps({"data": BATCH["data"], "x": thing}, protocol)
        with pytest.raises(DataError, match=rf"batch_1: the pickle names {named}; only arrays"):
            load_arrays_pickle(content, "batch_1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [object, "M8[s]", "U3", "S3", "c8", [("a", "u1")], "V8"])
def test_arrays_of_numbers_alone(dtype):
    for protocol in (0, 2, 4):
        with pytest.raises(DataError, match=r"a: .*dtype"):
            load_arrays_pickle(pickle.dumps(np.zeros(2, dtype), protocol), "a")


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps(BATCH)[:-40]])
def test_damaged_pickles(content):
    with pytest.raises(DataError, match=r"batch_1: .*damaged"):
        load_arrays_pickle(content, "batch_1")


OBJECTS = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR" + ORDER
HOSTILE = {
    # The object flag of the dtype is off, so that the eight bytes are taken for a pointer.
    "a pointer": RECONSTRUCT + b"(K\x01(K\x01t" + OBJECTS + b"\x89U\x08AAAAAAAAtb.",
    "a dtype with flags": PYTHON_2.replace(b"K\x00tb\x89", b"K\x3ftb\x89") + b".",
    "a dtype with a size": PYTHON_2.replace(b"NNNJ\xff\xff\xff\xff", b"NNNJ\xff\xff\xff\x7f") + b".",
    "a dtype of arrays": PYTHON_2.replace(b"|N", b"|" + DTYPE + b"(J\xff\xff\xff\x7ft\x86") + b".",
    "a state for a number": b"K\x01(K\x01tb.",
    "a state twice": PYTHON_2 + b"(K\x01(K\x03t" + DTYPE + ORDER + b"\x89U\x03\x00\x01\x02tb.",
    "a dtype alone": DTYPE + ORDER + b".",
    "an array without values": RECONSTRUCT + b".",
    "ndarray called": b"cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x85R.",
    "ndarray alone": b"cnumpy\nndarray\n.",
    "ndarray made": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x81.",
    "too few bytes": PYTHON_2.replace(b"(K\x03t", b"(K\x04t") + b".",
    "a shape of 2^60": PYTHON_2.replace(b"(K\x03t", b"(L1152921504606846976L\nt") + b".",
    "a negative shape": PYTHON_2.replace(b"(K\x03t", b"(J\xff\xff\xff\xffJ\xfd\xff\xff\xfft") + b".",
    "a large array at once": RECONSTRUCT.replace(b"(K\x00t", b"(L1152921504606846976L\nt") + b".",
    "a far place in the memo": b"Nr\xff\xff\xff\x0f.",
    "a far place in the memo, as text": b"Np268435455\n.",
    "lists of lists": b"(" + b"N" * 1000 + b"lq\x00" + b"(" + b"h\x00" * 1000 + b"lq\x01"
    b"(" + b"h\x01" * 1000 + b"l.",
    "a list that holds itself": b"]q\x00h\x00a.",
    # The hash of the outermost tuple recurses through all of them.
    "a deep key": b"})" + b"\x85" * 300_000 + b"Ns.",
    "a deep name": b")" + b"\x85" * 300_000 + b")R.",
    "one text encoded often": b"X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\x00("
    + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 3000 + b"l.",
    "many instructions": b"]" * 2**22 + b".",
    "a long number": b"I" + b"9" * 10**6 + b"\n.",
    "a string of negative length": b"T\xf9\xff\xff\xff" * 2 + b".",
    "a string of 4 GB": b"T\xff\xff\xff\xffa.",
    "something from outside": b"Pa\n.",
    "an extension": b"\x82\x01.",
    "no stack": b"R.",
    "no mark": b"t.",
    "two results": b"NN.",
}  # fmt: skip
# At most this much beyond what the interpreter and the imports take.
LIMIT = """
import pickletools, random, resource, sys
import numpy as np
from vdm.data.reading.pickles import load_arrays_pickle
from vdm.errors import DataError

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def outcome(content):
    try:
        found = load_arrays_pickle(content, "a")
    except DataError:
        return "refused"
    leaves, kinds = [found], set()
    while leaves:
        leaf = leaves.pop()
        if type(leaf) in (list, tuple, dict):
            leaves += leaf.values() if type(leaf) is dict else leaf
        else:
            repr(leaf.tolist() if type(leaf) is np.ndarray else leaf)  # touches every value
            kinds.add(leaf.dtype.kind if type(leaf) is np.ndarray else type(leaf).__name__)
    assert kinds <= {*"biuf", "int", "float", "bool", "str", "bytes", "NoneType"}, kinds
    return "read"
"""


def test_hostile_pickles_are_refused(run_python, tmp_path):
    for number, content in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}").write_bytes(content)
    code = (
        LIMIT
        + """
for number in range(int(sys.argv[2])):
    content = open(f"{sys.argv[1]}/{number}", "rb").read()
    print(outcome(content), flush=True)
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
    )
    done = run_python(["-c", code, str(tmp_path), str(len(HOSTILE))], check=False)
    found = dict(zip(HOSTILE, done.stdout.split(), strict=False))
    assert done.returncode == 0, (list(HOSTILE)[len(found)], done.stderr[-2000:])
    assert found == dict.fromkeys(HOSTILE, "refused")


NUM_MUTATIONS = 10_000
MUTATE = """
files = [open(name, "rb").read() for name in sys.argv[1:-1]]
pieces = []  # of each file: its instructions
for file in files:
    ends = [place for _, _, place in pickletools.genops(file)] + [len(file)]
    pieces.append([file[a:b] for a, b in zip(ends, ends[1:])])
draw = random.Random(1)

def flip(file, parts):
    content = bytearray(file)
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(file))] ^= 1 << draw.randrange(8)
    return bytes(content)

def cut(file, parts):
    start, end = sorted(draw.sample(range(len(file) + 1), 2))
    return draw.choice([file[:start], file[:start] + file[end:], file[:end] + file[start:]])

def insert(file, parts):
    place = draw.randrange(len(file))
    return file[:place] + draw.randbytes(draw.randint(1, 6)) + file[place:]

def rearrange(file, parts):
    parts = list(parts)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(parts))
        parts[place : place + draw.randint(0, 1)] = draw.choices(parts, k=draw.randint(0, 2))
    return b"".join(parts)

def splice(file, parts):
    other = draw.choice(pieces)
    start, end = sorted(draw.sample(range(len(other) + 1), 2))
    place = draw.randrange(len(parts))
    kept = draw.choice([place, place + 1, place + end - start])
    return b"".join(parts[:place] + other[start:end] + parts[kept:])

outcomes = {"read": 0, "refused": 0}
for number in range(int(sys.argv[-1])):
    which = draw.randrange(len(files))
    change = draw.choice([flip, cut, insert, rearrange, splice])
    outcomes[outcome(change(files[which], pieces[which]))] += 1
print(*outcomes.values())
"""


def test_mutations_of_genuine_batches(run_python, tmp_path):
    """Each is refused or read as plain values; none ends the process."""
    rng = np.random.default_rng(1)
    batch = {b"data": rng.integers(0, 256, (3, 12), np.uint8), b"labels": [1, 200, 30_000]}
    batch |= {b"filenames": [b"a.png", b"b.png"], b"more": np.arange(4.0)}
    files = [pickle.dumps(batch, protocol) for protocol in (0, 2, 4)]
    files.append(b"\x80\x02}U\x04data" + PYTHON_2 + b"s.")
    names = [str(tmp_path / f"{number}") for number in range(len(files))]
    for name, content in zip(names, files, strict=True):
        with open(name, "wb") as file:
            file.write(content)
    done = run_python(["-c", LIMIT + MUTATE, *names, str(NUM_MUTATIONS)], timeout=60)
    num_read, num_refused = map(int, done.stdout.split())
    assert num_read + num_refused == NUM_MUTATIONS and min(num_read, num_refused) > 100
