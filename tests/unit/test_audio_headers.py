"""The short way to the header of a FLAC file says what libsndfile says, and takes no file that libsndfile refuses."""

import os
import random
import struct

import numpy as np
import pytest
import soundfile

from nuptse import audio_headers
from nuptse.audio_headers import Header, read_header

RATE = 16000


def flac(path, blocks, channels=1, subtype="PCM_16"):
    """Write a FLAC file with other blocks behind its first one; ``blocks``: kind and content of each."""
    soundfile.write(path, np.zeros((3000, channels), "int16"), RATE, subtype, format="FLAC")
    content = path.read_bytes()
    sizes, frames = content[8:42], content[content.index(b"\xff\xf8") :]
    kinds = [(0, sizes), *blocks]
    rows = [bytes([kind]) + len(block).to_bytes(3, "big") + block for kind, block in kinds]
    rows[-1] = bytes([128 | rows[-1][0]]) + rows[-1][1:]
    path.write_bytes(b"".join([b"fLaC", *rows, frames]))


def comments(*fields, name=b"reference libFLAC 1.4.3"):
    first, *others = (struct.pack("<I", len(text)) + text for text in (name, *fields))
    return 4, b"".join([first, struct.pack("<I", len(fields)), *others])


def short_way(path):
    return audio_headers._flac_header(str(path))


def long_way(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_headers, "_flac_header", lambda *_: None)
        return read_header(str(path))


PADDING = (1, bytes(8192))
USUAL = {
    "one": [],
    "of libsndfile": [comments(b"TITLE=x")],
    "of flac": [(3, bytes(18 * 20)), comments(), PADDING],
    "of ffmpeg": [comments(b"encoder=Lavf61", b"no equals sign", b"", name=b"Lavf61.1.100"), PADDING],
}


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("blocks", USUAL.values(), ids=USUAL)
def test_a_usual_header_is_read_the_short_way(tmp_path, blocks, channels):
    path = tmp_path / "a.flac"
    flac(path, blocks, channels)
    assert short_way(path) == long_way(path) == Header(RATE, 3000, channels, "PCM_16")


@pytest.mark.parametrize(
    ("blocks", "subtype"),
    [
        ([], "PCM_24"),
        ([], "PCM_S8"),
        ([(2, b"an application")], "PCM_16"),
        ([(1, bytes(2000)), PADDING], "PCM_16"),  # the second one begins behind what is read
        ([(4, comments()[1] + b"more")], "PCM_16"),
        ([(4, struct.pack("<I", 1 << 31))], "PCM_16"),
        ([(3, bytes(19))], "PCM_16"),
    ],
)
def test_what_is_not_usual_is_left_to_libsndfile(tmp_path, blocks, subtype):
    path = tmp_path / "a.flac"
    flac(path, blocks, subtype=subtype)
    assert short_way(path) is None


@pytest.mark.parametrize("blocks", USUAL.values(), ids=USUAL)
def test_a_header_that_is_cut_short_is_left_to_libsndfile(tmp_path, blocks):
    path = tmp_path / "a.flac"
    flac(path, blocks)
    content = path.read_bytes()
    for size in [*range(4, 100), *range(100, len(content), 97)]:
        path.write_bytes(content[:size])
        assert short_way(path) in (None, long_way(path)), size


@pytest.mark.parametrize("blocks", USUAL.values(), ids=USUAL)
def test_of_damaged_headers_both_ways_say_the_same(tmp_path, blocks):
    path, chance, taken = tmp_path / "a.flac", random.Random(0), 0
    flac(path, blocks)
    for _ in range(400):
        content = bytearray(whole := path.read_bytes())
        begin = chance.randrange(4, min(len(content), 120))
        match chance.randrange(3):
            case 0:
                content[begin] = chance.choice([0, 1, 2, 4, 127, 128, 255, chance.randrange(256)])
            case 1:
                del content[begin : begin + chance.randrange(1, 5)]
            case 2:
                content[begin:] = chance.randbytes(chance.randrange(1, 200))
        path.write_bytes(content)
        found = short_way(path)
        taken += found is not None
        assert found in (None, long_way(path)), content.hex()
        path.write_bytes(whole)
    assert taken > 20


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.flac")
    assert read_header(str(tmp_path / "a.flac")) == "empty"
